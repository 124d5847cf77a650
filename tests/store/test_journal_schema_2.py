"""A journal of schema 2, from before folders, engines and deaths were journalled, opens as before, and is brought up.

`journal-schema-2.sqlite3` was written by commit 0d1c066, with fakes: "done", which is shared with bob; "failed" after
its first stem, in a folder of its own; "running", whose process was killed, and "waiting" behind it. Songs were in
"/SONGS".
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.journal_rows import SCHEMA_VERSION
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine
from tests.generation.crashes import draw_nothing

OLD = Path(__file__).with_name("journal-schema-2.sqlite3")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.local._draw_overview", draw_nothing)
    (tmp_path / "home").mkdir()
    shutil.copy(OLD, tmp_path / "home" / "journal.sqlite3")
    with Lab(
        metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path / "home"
    ) as lab:
        yield lab


def test_its_generations_and_shares_are_there_and_it_has_the_new_version(lab):
    assert {job.id: job.status for job in lab.journal.jobs()} == {
        "done": "completed",
        "failed": "failed",
        "running": "failed",
        "waiting": "failed",
    }
    assert lab.journal.shares.of("done") == {"bob": "controller"}
    assert str(lab.journal.state("done").song_path).startswith("/SONGS/")
    with contextlib.closing(sqlite3.connect(lab.journal.path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,) == (4,)


def test_what_its_process_left_ends_as_interrupted_and_nobody_is_blamed(lab):
    for name in ("running", "waiting"):
        assert lab.journal.state(name).failure.error.code == "INTERRUPTED"
        assert lab.journal.submissions.deaths(name) == 0
        assert lab.journal.submissions.of(name) is None
    assert [row["run_id"] for row in lab.log.rows()] == ["running-1", "waiting-1"]


def test_its_failed_songs_can_be_tried_again_with_what_the_journal_has_of_stage_1(lab):
    song = lab.retry("failed").result(60)
    assert Path(song.directory).parent == lab.songs.absolute()
    assert (song.metadata.title, song.engines["metadata"]) == (SONG_METADATA.title, "given")
    assert lab.retry("waiting").result(60).engines["metadata"] == "fake"


def test_it_is_brought_up_once(tmp_path):
    path = tmp_path / "journal.sqlite3"
    shutil.copy(OLD, path)
    for _ in range(2):
        Journal(path).close()
    with contextlib.closing(Journal(path)) as journal:
        assert len(journal.jobs()) == 4
