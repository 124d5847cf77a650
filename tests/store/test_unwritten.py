"""Events and rows that the disk or a lock refuses are written later, in order; also if the process is killed before."""

import contextlib
import json
import os
import sqlite3
import threading

import pytest

from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.generation.interrupted import end_interrupted
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.reserve import HEAD_BYTES, RESERVE_BYTES, Reserve, read_exit
from harmonia_lab.store.run_log import RunLog
from tests.events.stories import AUDIO_URL, METADATA, job, request, story
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """An event waits no second for a lock that stays."""
    monkeypatch.setattr("harmonia_lab.store.journal.EVENT_PATIENCE_S", 0.1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "journal.sqlite3"


@pytest.fixture
def journal(path):
    with contextlib.closing(Journal(path)) as journal:
        yield journal


@contextlib.contextmanager
def locked(path):
    """While inside, a backup holds the lock."""
    with contextlib.closing(sqlite3.connect(path)) as backup:
        backup.execute("BEGIN IMMEDIATE")
        yield
        backup.rollback()


@contextlib.contextmanager
def full(journal):
    """While inside, the file can't grow, as on a full disk."""
    writer = journal._file._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    yield
    writer.execute("PRAGMA max_page_count = 1000000")


def crash(journal):
    """Leave the journal as a kill does: locks go, files stay."""
    journal.unwritten._closed = True
    journal._file.close()
    journal._liveness.reserve.close()
    os.close(journal._liveness._fd)
    journal._liveness._fd = -1


def tell(journal, ending="completed", generation_id="g", **changes):
    """Publish a whole generation; return the lifecycle events as its listeners had them."""
    heard = []
    log = EventLog(new_state(job(generation_id), request()), journal, heard.append)
    log.queued(0, 1.0)
    for event in story(generation_id, ending):
        log(event.model_copy(update=changes) if event.name == "metadata-generation-started" else event)
    return [event for event in heard if event.delivery == "lifecycle"]


def in_file(path, generation_id="g"):
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT family, seq, name FROM events WHERE generation = ?", (generation_id,))
        return sorted(rows.fetchall())


def numbers(events):
    return sorted((event.family, event.seq, event.name) for event in events)


LONG = "x" * 100_000


def test_what_a_full_disk_refused_is_written_when_there_is_space_also_if_no_event_follows(journal, path, caplog):
    journal.begin(job(), request())
    with full(journal):
        heard = tell(journal, narrative=LONG)
        assert in_file(path) == [("job", 1, "job:status")]
        assert "The disk is full" in caplog.text
    until(lambda: in_file(path) == numbers(heard), "all events in the file")
    for family in ("generation", "job"):
        assert journal.replay("g", family) == [event for event in heard if event.family == family]
    until(lambda: journal._liveness.reserve.empty, "an empty reserve")


def test_what_is_not_written_yet_is_known_to_this_process(journal):
    journal.begin(job(), request())
    with full(journal):
        heard = tell(journal, narrative=LONG)
        state = journal.state("g")
        assert (state.status, state.metadata, state.song.audio_url) == ("completed", METADATA, AUDIO_URL)
        assert journal.is_at_hand("g")
        assert journal.jobs()[0].status == "completed"
        for family in ("generation", "job"):
            own = [event for event in heard if event.family == family]
            assert journal.replay("g", family) == own
            assert journal.replay("g", family, 2) == own[2:]
    until(lambda: not journal.unwritten.has_events)
    assert journal.state("g") == state


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled", "in stage 2"])
def test_a_killed_process_loses_nothing_that_was_heard_and_no_number_is_given_twice(path, ending):
    killed = Journal(path)
    killed.begin(job(), request())
    with locked(path):
        heard = tell(killed, ending)
        assert in_file(path) == []
        crash(killed)
    with contextlib.closing(Journal(path)) as journal:
        ended = end_interrupted(journal, RunLog(path.with_name("runs.jsonl")))
        assert ended == (["g"] if ending == "in stage 2" else [])
        events = [event for family in ("generation", "job") for event in journal.replay("g", family)]
        assert [event for event in events if event in heard] == [
            event for family in ("generation", "job") for event in heard if event.family == family
        ]
        seqs = [(event.family, event.seq) for event in events]
        assert len(set(seqs)) == len(seqs) == len(heard) + (3 if ending == "in stage 2" else 0)
        status = {"in stage 2": "failed"}.get(ending, ending)
        assert journal.state("g").status == status


def test_a_process_that_cannot_write_leaves_the_exited_ones_for_later(path, caplog):
    killed = Journal(path)
    killed.begin(job(), request())
    with locked(path):
        tell(killed)
        crash(killed)
    log = RunLog(path.with_name("runs.jsonl"))
    with contextlib.closing(Journal(path)) as journal:
        with locked(path):
            assert end_interrupted(journal, log) == end_interrupted(journal, log) == []
        assert caplog.text.count("is looked at later") == 1
        end_interrupted(journal, log)
        assert journal.state("g").status == "completed"


def test_an_end_without_space_leaves_the_events_to_the_next_process(path):
    first = Journal(path)
    first.begin(job(), request())
    with locked(path):
        heard = tell(first)
        first.close()
        assert in_file(path) == []
    with contextlib.closing(Journal(path)) as journal:
        assert end_interrupted(journal, RunLog(path.with_name("runs.jsonl"))) == []
        assert in_file(path) == numbers(heard)
        assert len(list(path.with_name(f"{path.name}.processes").iterdir())) == 1


def test_a_lock_is_not_called_a_full_disk(journal, path):
    with locked(path), pytest.raises(StorageError) as caught, journal._file.writing(0.1):
        pass
    assert (caught.value.code, caught.value.recoverable) == (ErrorCode.STORAGE_LOCKED, True)
    assert "full" not in str(caught.value)
    assert "has ended" in caught.value.hint


def test_a_command_waits_for_a_lock_that_passes_and_holds_up_no_event(journal, path):
    journal.begin(job(), request())
    done = []
    with locked(path):
        thread = threading.Thread(target=lambda: done.append(journal.begin(job("h"), request())))
        thread.start()
        tell(journal)
        assert journal.state("g").status == "completed"
        assert done == []
    thread.join()
    assert journal.state("h").status == "pending"


ROW = {"run_id": "g-1", "generation_id": "g", "status": "completed"}


def test_a_row_that_the_log_refused_is_written_once_it_can_be(journal, tmp_path, caplog):
    path = tmp_path / "runs.jsonl"
    path.mkdir()
    journal.unwritten.add_row(path, ROW, StorageError("It is a folder."))
    assert "logged later" in caplog.text
    path.rmdir()
    until(lambda: RunLog(path).rows(), "the row")
    until(lambda: journal._liveness.reserve.empty)
    assert [row["run_id"] for row in RunLog(path).rows()] == ["g-1"]


def test_a_row_outlives_a_kill_and_is_not_written_twice(path, tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    killed = Journal(path)
    killed.unwritten._closed = True
    for name in ("g-1", "g-2"):
        killed.unwritten.add_row(log.path, ROW | {"run_id": name}, StorageError("It is full."))
    log.append(ROW)  # it was written, and the kill came before the reserve was cleared
    crash(killed)
    with contextlib.closing(Journal(path)) as journal:
        end_interrupted(journal, log)
    assert [row["run_id"] for row in log.rows()] == ["g-1", "g-2"]


def test_a_reserve_gives_back_what_was_entered_up_to_a_torn_entry(tmp_path):
    folder = tmp_path / "processes"
    lock = LivenessLock(folder)
    for number in range(3):
        assert lock.reserve.append({"row": {"text": "ä" * number}})
    assert [entry["row"]["text"] for entry in read_exit(lock._fd).entries] == ["", "ä", "ää"]
    os.pwrite(lock._fd, b"\0", lock.reserve._end - 3)  # the last write was cut off
    assert len(read_exit(lock._fd).entries) == 2
    lock.reserve.clear()
    assert lock.reserve.empty
    lock.reserve.append({"row": 1})
    assert [entry["row"] for entry in read_exit(lock._fd).entries] == [1]
    assert (folder / lock.name).stat().st_size == HEAD_BYTES + RESERVE_BYTES
    lock.close()


def test_entries_of_before_a_clearing_that_did_not_reach_the_disk_are_no_news(tmp_path):
    path = tmp_path / "reserve"
    path.touch()
    with path.open("r+b") as file:
        reserve = Reserve(file.fileno())
        for number in range(4):
            reserve.append({"row": number})
        old = path.read_bytes()
        reserve.clear()
        reserve.append({"row": "new"})
        new = path.read_bytes()
        line = new[HEAD_BYTES : new.index(b"\n", HEAD_BYTES) + 1]
        path.write_bytes(old[:HEAD_BYTES] + line + old[HEAD_BYTES + len(line) :])
        os.lseek(file.fileno(), 0, 0)
        assert [entry["row"] for entry in read_exit(file.fileno()).entries] == ["new"]


def test_a_reserve_that_is_full_takes_nothing_until_it_is_cleared(tmp_path):
    path = tmp_path / "reserve"
    path.touch()
    with path.open("r+b") as file:
        reserve = Reserve(file.fileno())
        big = {"row": "x" * (RESERVE_BYTES // 2)}
        assert [reserve.append(big), reserve.append(big), reserve.append({"row": 1})] == [True, False, False]
        assert not reserve.empty
        reserve.clear()
        assert reserve.append({"row": 1})


def test_a_file_without_a_head_is_an_older_versions(tmp_path):
    path = tmp_path / "process"
    path.write_bytes(b"")
    with path.open("rb") as file:
        assert read_exit(file.fileno()).entries == []
        assert read_exit(file.fileno()).died is False


def test_the_words_in_the_reserve_are_json_on_one_line(journal, path):
    journal.begin(job(), request())
    with locked(path):
        tell(journal, narrative="One line\nand\u2028another\0")
        (entry, *_) = (each for each in read_exit(journal._liveness._fd).entries if len(each["events"]) == 2)
        assert json.loads(json.dumps(entry)) == entry
    until(lambda: not journal.unwritten.has_events)


def test_a_row_that_no_process_can_write_yet_is_kept_once(journal, tmp_path):
    folder = tmp_path / "runs.jsonl"
    folder.mkdir()
    for _ in range(2):  # as when the exited process can't be reaped at the first look
        journal.unwritten.take_over([{"row": ROW, "log": str(folder)}])
    assert [row for _, row in journal.unwritten._rows] == [ROW]
    folder.rmdir()
    until(lambda: RunLog(folder).rows(), "the row")
