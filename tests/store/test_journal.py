"""Nothing that was kept is lost: over threads, processes, a kill, a full disk."""

import contextlib
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.generation import interrupted
from harmonia_lab.store import journal as journal_module
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog
from tests.events.stories import AUDIO_URL, METADATA, job, logged, request, story, told_live
from tests.store.conftest import open_journal
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "journal.sqlite3"


@pytest.fixture
def journal(place):
    """A journal of each kind."""
    opened = open_journal(place)
    yield opened
    opened.close()


def run_log(journal):
    return RunLog(journal.path.with_name("runs.jsonl"))


def fail_interrupted(journal):
    return interrupted.end_interrupted(journal, run_log(journal))


def keep(journal, generation_id="g", ending="completed", **options):
    journal.begin(job(generation_id), request(given=options.get("given", False)))
    events = told_live(generation_id, ending, **options)
    for event in events:
        journal.record(event)
    return events


def lifecycle(events, family, after=0):
    return [e for e in events if e.family == family and e.delivery == "lifecycle" and e.seq > after]


@pytest.mark.parametrize("family", ["generation", "job"])
def test_what_came_after_a_number_comes_back_as_it_was_in_order(journal, family):
    events = keep(journal, recovered=True)
    for after in range(len(lifecycle(events, family)) + 2):
        assert journal.replay("g", family, after) == lifecycle(events, family, after)


def test_an_unknown_id_has_nothing(journal):
    assert (journal.replay("x", "job"), journal.state("x"), journal.history("x")) == ([], None, [])


DAMAGE = {
    "job": "UPDATE generations SET job = '{\"id\"' WHERE id = 'bad'",
    "request": "UPDATE generations SET request = '[]' WHERE id = 'bad'",
    "song": "UPDATE generations SET song = x'00' WHERE id = 'bad'",
    "event": "UPDATE events SET payload = '{}' WHERE generation = 'bad'",
    "name": "UPDATE events SET name = 'from-another-world' WHERE generation = 'bad'",
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("ending", ["completed", "in stage 2"])
def test_a_damaged_generation_hides_no_other_and_is_named(path, kind, ending, caplog):
    with contextlib.closing(Journal(path)) as journal:
        keep(journal, "good")
        keep(journal, "bad", ending)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(DAMAGE[kind])
        database.execute("UPDATE generations SET process = 'somebody-who-is-gone'")
    with contextlib.closing(Journal(path)) as journal:
        fail_interrupted(journal)
        assert "good" in [job.id for job in journal.jobs()]
        assert journal.history("good")
        with pytest.raises(StorageError, match="generation bad is damaged"):
            journal.history("bad")
    if kind in ("job", "song"):  # the list has to leave it out
        assert "generation bad is damaged" in caplog.text


def test_no_url_is_kept_and_the_file_comes_back(path):
    journal = Journal(path)
    events = keep(journal)
    assert AUDIO_URL in str([event.to_wire() for event in events])
    with sqlite3.connect(path) as database:
        kept = str(database.execute("SELECT payload FROM events").fetchall())
        kept += str(database.execute("SELECT job FROM generations").fetchall())
    database.close()
    assert "file:" not in kept
    assert journal.state("g").song_path == Path("/songs/a song/song.flac")
    assert journal.jobs()[0].result.output_path == AUDIO_URL
    journal.close()


def test_where_a_generation_stands_is_known_at_once_and_after_reopening(place):
    journal = open_journal(place)
    events = keep(journal, ending="in stage 2")
    live = journal.state("g")
    snapshot = live.snapshot().to_wire()
    assert (snapshot["status"], snapshot["stage"], snapshot["seq"], snapshot["jobSeq"]) == ("processing", "audio", 3, 2)
    assert snapshot["progress"]["event"] == "audio-generation-progress"
    assert snapshot["progress"]["data"]["tick"] == live.generation_cursor.tick == 6
    assert (live.owner, live.metadata, journal.request("g")) == ("ann", METADATA, request())
    assert live.latest_progress() == [e for e in events if e.delivery == "progress"][-2:]
    journal.close()
    reopened = open_journal(place)
    assert reopened.state("g") == replace(live, writing=None)  # of progress, the journal keeps the latest alone
    reopened.close()


def test_jobs_are_listed_newest_first_and_only_the_owners_own(journal):
    for generation_id in ("a", "b", "c"):
        keep(journal, generation_id, ending="in stage 1")
    journal.begin(job("z", user_id="bob"), request())
    assert {j.id for j in journal.jobs()} == {"a", "b", "c", "z"}
    mine = journal.jobs("ann")
    assert [j.created_at for j in mine] == sorted((j.created_at for j in mine), reverse=True)
    assert {j.id for j in mine} == {"a", "b", "c"}
    assert mine[0].progress.percentage == 50  # that of the latest progress, though it may not be on disk yet
    assert len(journal.jobs(limit=2)) == 2


def test_an_id_is_used_once(journal):
    keep(journal)
    with pytest.raises(InvalidRequest, match="in use") as caught:
        journal.begin(job(user_id="bob"), request())
    assert caught.value.details == {"fields": ["generationId"]}
    assert journal.state("g").owner == "ann"


def test_a_gap_or_a_repetition_is_refused_and_leaves_no_trace(journal):
    first, second, third = story(ticks=0)[:3]
    journal.begin(job(), request())
    journal.record(first)
    for wrong in (first, third):
        with pytest.raises(ValueError, match="seq"):
            journal.record(wrong)
    with pytest.raises(ValueError, match="seq"):
        journal.record(second, second)
    journal.record(second, third)
    assert journal.replay("g", "generation") == [first, second, third]
    with pytest.raises(ValueError, match="never begun"):
        journal.record(*story("other"))


def test_a_retry_numbers_on_and_is_kept_like_the_first_try(journal):
    keep(journal, ending="failed")
    failed = journal.state("g")
    queued, *rest = again = logged(story(given=True), state=failed)
    journal.record(queued)
    assert journal.state("g").snapshot().progress is None
    journal.record(*rest)
    assert journal.state("g").status == "completed"
    assert journal.replay("g", "job", failed.job_cursor.seq) == lifecycle(again, "job")
    assert journal.replay("g", "generation", failed.generation_cursor.seq) == lifecycle(again, "generation")


def test_it_is_readable_by_its_user_alone(path):
    journal = Journal(path)
    keep(journal)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("journal*")} == {0o600, 0o700}
    journal.close()


def test_several_threads_write_and_read_at_once(journal):
    wrong = []

    def work(name):
        events = keep(journal, name, ticks=20)
        if journal.replay(name, "generation") != lifecycle(events, "generation"):
            wrong.append(name)

    threads = [threading.Thread(target=work, args=(f"g{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(journal.jobs()) == 8


WRITER = """
import json, sys
from harmonia_lab.store import journal as journal_module
from tests.events.stories import job, request, told_live
from tests.store.conftest import open_journal

place, name, count, ending = sys.argv[1:]
journal_module.EVENT_PATIENCE_S = 300.0  # no event is to go by the reserve, however slow the machine is
journal = open_journal(place)
for i in range(int(count)):
    journal.begin(job(f"{name}{i}"), request())
    for event in told_live(f"{name}{i}", ending):
        journal.record(event)
        if event.delivery == "lifecycle":
            told = event.to_wire() | {"family": event.family, "generationId": event.generation_id}
            print(json.dumps(told), flush=True)
"""


def write(place, name, count, ending):
    command = [sys.executable, "-c", WRITER, str(place), name, str(count), ending]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_two_processes_share_one_journal(place):
    writers = [write(place, name, 20, "completed") for name in "ab"]
    assert [writer.communicate(timeout=200)[0].count("\n") for writer in writers] == [20 * 8] * 2
    journal = open_journal(place)
    assert {j.status for j in journal.jobs()} == {"completed"}
    assert len(journal.jobs()) == 40
    assert fail_interrupted(journal) == []
    journal.close()


@pytest.mark.parametrize("after", [1, 7, 40])
def test_events_published_before_a_kill_are_still_there_and_what_ran_is_ended(place, after):
    writer = write(place, "killed", 1000, "in stage 2")
    told = [json.loads(writer.stdout.readline()) for _ in range(after)]
    watching = open_journal(place)
    assert fail_interrupted(watching) == []  # it lives
    os.kill(writer.pid, signal.SIGKILL)
    told += [json.loads(line) for line in writer.stdout]
    writer.wait()
    writer.stdout.close()

    journal = open_journal(place)
    for said in told:
        replayed = journal.replay(said["generationId"], said["family"], said["seq"] - 1)[0].to_wire()
        assert replayed == {key: value for key, value in said.items() if key in replayed}
    before = {j.id: journal.state(j.id) for j in journal.jobs(limit=10_000)}
    ended = fail_interrupted(journal)
    assert set(ended) == before.keys() != set()
    for generation_id in ended:
        was, now = before[generation_id], journal.state(generation_id)
        seqs = was.generation_cursor.seq, was.job_cursor.seq
        assert (now.status, now.generation_cursor.seq, now.job_cursor.seq) == ("failed", seqs[0] + 1, seqs[1] + 2)
        (error,) = journal.replay(generation_id, "generation", seqs[0])
        assert (error.error.code, error.error.recoverable, error.final) == ("INTERRUPTED", True, True)
        assert [e.name for e in journal.replay(generation_id, "job", seqs[1])] == ["job:failed", "job:status"]
    assert fail_interrupted(journal) == fail_interrupted(watching) == []
    watching.close()
    journal.close()


def test_two_that_start_at_once_end_it_once(place):
    left = open_journal(place)
    keep(left, ending="in stage 1")
    left.close()
    journals, ended = [open_journal(place) for _ in range(4)], []
    threads = [threading.Thread(target=lambda j=journal: ended.extend(fail_interrupted(j))) for journal in journals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["g"]
    until(lambda: journals[0].state("g").status == "failed")  # what another one wrote in Redis is read soon after
    assert [e.name for e in journals[0].replay("g", "job")].count("job:failed") == 1
    assert [row["error_code"] for row in run_log(journals[0]).rows()] == ["INTERRUPTED"]
    for journal in journals:
        journal.close()


ROW = {"run_id": "g-2", "generation_id": "g", "attempt": 2, "purpose": "study", "host": "here", "seed": 7}


def interrupted_with(place, row):
    left = open_journal(place)
    keep(left, ending="in stage 2")
    left.begin_attempt("g", row)
    left.close()


def test_an_interrupted_attempt_gets_the_row_that_it_began_with(place):
    interrupted_with(place, ROW)
    with contextlib.closing(open_journal(place)) as journal:
        assert fail_interrupted(journal) == ["g"]
        (row,) = run_log(journal).rows()
        assert journal.last_attempt("g") == ROW
    assert {name: row[name] for name in ROW} == ROW
    assert (row["status"], row["error_code"], row["stage"], row["total_s"]) == ("failed", "INTERRUPTED", "audio", None)


def test_a_row_that_was_written_before_the_kill_is_not_written_again(place):
    """As after a kill between the row of an attempt and the event that ends its generation."""
    interrupted_with(place, ROW)
    with contextlib.closing(open_journal(place)) as journal:
        run_log(journal).append(ROW | {"status": "completed"})
        assert fail_interrupted(journal) == ["g"]
        assert [row["status"] for row in run_log(journal).rows()] == ["completed"]


@pytest.mark.parametrize("row", [ROW | {"of_a_newer_version": 1}, {"attempt": 2}])
def test_a_row_that_cannot_be_written_keeps_no_generation_from_its_end(place, row, caplog):
    interrupted_with(place, row)
    with contextlib.closing(open_journal(place)) as journal:
        assert fail_interrupted(journal) == ["g"]
        assert journal.state("g").status == "failed"
        assert run_log(journal).rows() == []
    assert "could not be logged" in caplog.text


def test_the_files_of_exited_processes_do_not_pile_up(path):
    for _ in range(3):
        journal = Journal(path)
        keep(journal, f"g{_}", ending="in stage 1")
        os.close(journal._liveness._fd)  # as a crash does: the lock goes, the file stays
        journal._liveness._fd = -1
        journal.close()
    folder = path.with_name(f"{path.name}.processes")
    assert len(list(folder.iterdir())) == 3
    journal = Journal(path)
    assert len(fail_interrupted(journal)) == 3
    assert len(list(folder.iterdir())) == 1
    journal.close()
    assert list(folder.iterdir()) == []


def test_old_generations_are_deleted_and_unfinished_ones_stay(place, monkeypatch):
    monkeypatch.setattr(journal_module, "KEPT_GENERATIONS", 2)
    monkeypatch.setattr("harmonia_lab.store.shared.redis_journal.KEPT_GENERATIONS", 2, raising=True)
    journal = open_journal(place)
    for i in range(4):
        keep(journal, f"done{i}")
    keep(journal, "running", ending="in stage 1")
    journal.close()
    reopened = open_journal(place)
    assert {j.id for j in reopened.jobs()} == {"done2", "done3", "running"}
    assert reopened.replay("done0", "generation") == []
    reopened.close()


def test_a_file_that_is_no_journal_is_left_alone(path):
    path.parent.mkdir()
    path.write_text("my thesis" * 1000)
    with pytest.raises(StorageError, match="cannot be used") as caught:
        Journal(path)
    assert "move the file away" in caught.value.hint
    assert path.read_text().startswith("my thesis")


def test_a_journal_of_a_newer_version_is_left_alone(path):
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StorageError, match="newer version"):
        Journal(path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Journal(tmp_path / "file" / "journal.sqlite3")


def test_closing_twice_is_fine_and_afterwards_it_says_that_it_cannot(journal):
    journal.close()
    journal.close()
    with pytest.raises(StorageError):
        journal.jobs()
