"""Whenever a process is killed, the folder, the journal, the run log and what clients heard agree afterwards."""

import contextlib
from pathlib import Path

import pytest

from harmonia_lab.errors import AudioError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.interrupted import end_interrupted
from harmonia_lab.generation.verify import check_folder, song_folders
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.testing import FakeAudioEngine
from tests.generation.crashes import Recorder, draw_nothing, lab_in

REQUEST = SongRequest(narrative="A story.", seconds=1, seed=7, generation_id="g")


def fail():
    return FakeAudioEngine(errors=[AudioError("It broke.")])


@pytest.fixture
def crash_points(tmp_path, monkeypatch):
    """crash_points(ending): everything that a kill may leave of a song that ends so."""
    monkeypatch.setattr("harmonia_lab.backends.local._draw_overview", draw_nothing)

    def make(ending, *, before=False):
        recorder = Recorder(tmp_path / "live", tmp_path / "copies")
        with lab_in(recorder.root, audio=fail() if ending == "failed" else FakeAudioEngine()) as lab:
            assert lab.journal.jobs() == []
            if ending == "cancelled":
                lab.events.subscribe(
                    lambda event: event.name == "audio-generation-started" and lab.cancel(event.generation_id)
                )
            with recorder.recording(lab, monkeypatch, before=before):
                own = recorder.root / "own" if ending == "own folder" else None
                lab.submit_request(REQUEST, out=own).wait(60)
        return recorder

    return make


def check(recorder, point):
    """The generation's status after a kill at `point`, once everything is found to agree; None if it had not begun."""
    recorder.put_back(point)
    home = recorder.root / "home"
    log = RunLog(home / "runs.jsonl")
    with contextlib.closing(Journal(home / "journal.sqlite3")) as journal:
        end_interrupted(journal, log)
        assert end_interrupted(journal, log) == []
        state = journal.state("g")
        songs = [folder for folder in song_folders(recorder.root) if (folder / "run.json").exists()]
        rows = log.rows()
        if state is None:
            assert (songs, rows, point.heard) == ([], [], [])
            return None
        told = [event for family in ("generation", "job") for event in journal.replay("g", family)]
        for family in ("generation", "job"):
            heard = [event for event in point.heard if event.family == family]
            assert journal.replay("g", family)[: len(heard)] == heard, point.what
            assert [event.seq for event in told if event.family == family] == list(
                range(1, state.cursor(family).seq + 1)
            )
        ends = [event for event in told if event.family == "generation" and event.ends]
        assert (len(ends), state.over) == (1, True), point.what
        assert len({row["run_id"] for row in rows}) == len(rows) > 0, point.what
        assert rows[-1]["status"] == state.status, point.what
        if state.status == "completed":
            assert [state.song_path.parent] == songs == [Path(rows[-1]["directory"])], point.what
            assert check_folder(songs[0]).ok
            assert rows[-1]["checksum"] == state.song.checksum
            assert state.song.follows == read_record(songs[0])["follows"] == ["notes"], point.what
        else:
            assert songs == [], point.what
        if state.status == "failed":
            assert rows[-1]["error_code"] == state.failure.error.code, point.what
        return state.status


@pytest.mark.parametrize("ending", ["completed", "own folder", "failed", "cancelled"])
def test_after_a_kill_at_any_change_all_that_is_left_agrees(crash_points, ending):
    recorder = crash_points(ending)
    found = [check(recorder, point) for point in recorder.points[:: 3 if ending == "completed" else 5]]
    assert {"failed", "completed" if ending == "own folder" else ending} <= {*found, "completed", "failed"}


@pytest.mark.stress
@pytest.mark.parametrize("ending", ["completed", "own folder", "failed", "cancelled"])
def test_after_a_kill_before_or_after_every_change_all_agrees_and_a_retry_makes_the_song(crash_points, ending):
    recorder = crash_points(ending, before=True)
    for point in recorder.points:
        if check(recorder, point) == "failed":
            with lab_in(recorder.root) as lab:
                song = lab.retry("g").result(60)
                assert check_folder(Path(song.directory)).ok
                # "given" where the kill came between the event with the words and the file that says who wrote them.
                assert song.engines["metadata"] in ("fake", "given")
            partial = [path for path in recorder.root.rglob("*.partial-*") if path.is_dir()]
            assert partial == [], point.what


def test_a_song_that_was_whole_when_its_process_was_killed_is_completed_not_lost(crash_points):
    recorder = crash_points("completed")
    (whole,) = [index for index, point in enumerate(recorder.points) if point.what == "after run.json"]
    assert [check(recorder, recorder.points[index]) for index in (whole - 1, whole)] == ["failed", "completed"]
    row = RunLog(recorder.root / "home" / "runs.jsonl").rows()[-1]
    assert (row["audio_seconds"], row["stage"], row["run_id"]) == (1.0, "done", "g-1")
