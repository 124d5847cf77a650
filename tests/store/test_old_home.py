"""A home that version 0.1.0 left, before its modules were renamed, opens as before: journal, run log and songs.

`home-0.1.0` was written by that version, by fakes and the sketch engine: one song that is done, one that failed after
its first stem, one that was cancelled, and one whose process was killed. Its journal has the songs in "/SONGS".
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.client.store import State, reduce
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine

KEPT = Path(__file__).with_name("home-0.1.0")


@pytest.fixture
def lab(tmp_path):
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "journal.sqlite3")) as database, database:
        database.execute("UPDATE generations SET song = replace(song, '/SONGS', ?)", (str(tmp_path / "songs"),))
    audio = FakeAudioEngine()
    with Lab(metadata=FakeMetadataEngine(), audio=audio, songs=tmp_path / "songs", home=tmp_path / "home") as lab:
        yield lab


def test_every_generation_is_there_and_what_a_killed_process_left_has_ended(lab):
    assert {job.id: job.status for job in lab.journal.jobs()} == {
        "old-done": "completed",
        "old-failed": "failed",
        "old-cancelled": "cancelled",
        "old-interrupted": "failed",
    }
    interrupted = lab.journal.state("old-interrupted")
    assert interrupted.failure.error.code == "INTERRUPTED"
    assert lab.journal.request("old-interrupted").narrative == "It is interrupted."
    assert lab.journal.state("old-cancelled").failure.error.code == "CANCELLED"


def test_the_song_is_where_its_events_say_and_holds_what_its_record_says(lab):
    state = lab.journal.state("old-done")
    assert (state.metadata, state.over, state.song.duration) == (SONG_METADATA, True, 1.0)
    assert state.song_path.read_bytes()[:4] == b"fLaC"
    assert lab.verify(state.song_path.parent).ok


def test_a_client_that_reads_the_events_again_knows_it_all(lab):
    store = State()
    for event in lab.journal.history("old-done"):
        store = reduce(store, event)
    assert store.completed_generations["old-done"].metadata == SONG_METADATA
    assert store.jobs["old-done"].result.metadata == SONG_METADATA


def test_a_failed_song_is_tried_again_and_a_stem_of_another_plan_is_not_used(lab):
    song = lab.retry("old-failed").result(60)
    assert Path(song.audio_path).is_file()
    # The piano's stem had been kept, but of the plan that 0.1.0 composed; this version's is another.
    assert lab.audio_engine.rendered == ["piano", "flute"]


def test_the_run_log_has_its_rows(lab):
    frame = lab.log.frame()
    assert frame["status"].tolist() == ["completed", "failed", "cancelled"]
    assert frame.loc[0, "generation_id"] == "old-done"


def test_what_was_killed_gets_its_row_from_what_the_journal_knows(lab):
    assert lab.journal.state("old-interrupted").status == "failed"
    row = lab.log.rows()[-1]
    assert (row["generation_id"], row["error_code"], row["stage"]) == ("old-interrupted", "INTERRUPTED", "metadata")
    assert (row["narrative_characters"], row["started_at"][-1]) == (len("It is interrupted."), "Z")
    assert len(lab.log.rows()) == 4


def test_an_attempt_after_those_of_an_older_version_has_a_number_of_its_own(lab):
    lab.retry("old-failed").result(60)
    assert [row["run_id"] for row in lab.log.rows() if row["generation_id"] == "old-failed"] == [
        "old-failed-1",
        "old-failed-2",
    ]
