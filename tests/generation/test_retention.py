"""The oldest songs beyond the limits are deleted, and what dead processes left; never what is used or another's own."""

import contextlib
import os
import time
from pathlib import Path

import pytest

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.caretaker import Caretaker
from harmonia_lab.generation.retention import Retention, clean, stored_folders
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.store.sounds import Sounds
from tests.events.stories import job, request, told_live
from tests.waiting import until

DAY = 86_400
OLD_SONG = Path(__file__).with_name("song-v1")


@pytest.fixture
def journal(tmp_path):
    with contextlib.closing(Journal(tmp_path / "home" / "journal.sqlite3")) as journal:
        yield journal


@pytest.fixture
def songs(tmp_path):
    (tmp_path / "songs").mkdir()
    return tmp_path / "songs"


def age(path, days):
    for each in [path, *path.rglob("*")]:
        os.utime(each, (time.time() - days * DAY,) * 2)


def song(songs, name, *, days=0.0, size=100_000):
    """A folder with a record, which is all that makes it a song here."""
    folder = songs / name
    folder.mkdir()
    (folder / "run.json").write_bytes((OLD_SONG / "run.json").read_bytes())
    (folder / "song.flac").write_bytes(bytes(size))
    age(folder, days)
    return folder


def partial(songs, generation_id, files=("plan.json",), *, days=0.0):
    folder = songs / f".{generation_id}.partial-{generation_id[:8]}"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}")
    folder.mkdir(exist_ok=True)
    age(folder, days)
    return folder


def names(songs):
    return sorted(path.name for path in songs.iterdir())


def test_without_limits_every_song_stays(journal, songs):
    song(songs, "old", days=1000)
    done = clean(songs, journal, Retention())
    assert (done.deleted, [folder.path.name for folder in done.kept]) == ([], ["old"])
    assert names(songs) == ["old"]


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"max_songs": 2}, ["b", "c"]),
        ({"max_songs": 0}, []),
        ({"max_days": 5}, ["c"]),
        ({"max_bytes": 250_000}, ["b", "c"]),
        ({"max_bytes": 10**9, "max_songs": 1}, ["c"]),
    ],
)
def test_the_oldest_songs_go_first(journal, songs, limits, left):
    for name, days in (("a", 10), ("c", 1), ("b", 6)):
        song(songs, name, days=days)
    done = clean(songs, journal, Retention(**limits))
    assert names(songs) == left
    assert [deletion.folder.path.name for deletion in done.deleted] == sorted({"a", "b", "c"} - set(left))
    assert done.left == []


def test_a_dry_run_says_the_same_and_deletes_nothing(journal, songs):
    for name, days in (("a", 10), ("b", 1)):
        song(songs, name, days=days)
    partial(songs, "dead", days=2)
    journal.begin(job("done"), request())
    journal.record(*told_live("done"))
    limits = Retention(max_songs=1, journal_generations=0)
    told = clean(songs, journal, limits, dry_run=True)
    assert (len(names(songs)), len(journal.jobs())) == (3, 1)
    done = clean(songs, journal, limits)
    assert [deletion.reason for deletion in told.deleted] == [deletion.reason for deletion in done.deleted]
    assert (told.generations, done.generations) == (1, 1)
    assert (names(songs), journal.jobs()) == (["b"], [])


@pytest.mark.parametrize(
    ("files", "days", "goes"),
    [
        (["plan.json", "finished/key", "transcript.jsonl"], 1.1, True),
        ([], 1.1, True),
        (["plan.json"], 0.9, False),
        (["metadata.json"], 100, False),
        (["finished/stage-1.json"], 100, False),
        (["finished/chords/piano.wav"], 100, False),
        (["stems/1-piano.flac"], 100, False),
        (["thesis.txt"], 100, False),
    ],
)
def test_what_a_dead_process_left_is_swept_after_a_day_if_nothing_in_it_is_of_use(journal, songs, files, days, goes):
    folder = partial(songs, "dead", files, days=days)
    clean(songs, journal, Retention())
    assert folder.exists() is not goes


def test_what_is_of_use_is_kept_as_long_as_a_song(journal, songs):
    partial(songs, "dead", ["metadata.json"], days=8)
    partial(songs, "other", ["metadata.json"], days=6)
    clean(songs, journal, Retention(max_days=7))
    assert names(songs) == [".other.partial-other"]


def test_a_folder_at_which_a_process_works_is_left(journal, songs):
    folder = SongFolder(songs, "running")
    folder.create()
    age(folder.work, 100)
    done = clean(songs, journal, Retention(max_days=1, max_bytes=0))
    assert folder.work.exists()
    assert done.left == [".running.partial-running: a process works at it"]
    folder.keep(metadata_given=False)
    assert names(songs) == []


def test_a_folder_whose_song_waits_for_another_attempt_is_left(journal, songs):
    journal.begin(job("waits-for-it"), request())
    folder = partial(songs, "waits-for-it", ["metadata.json"], days=100)
    done = clean(songs, journal, Retention(max_days=1))
    assert (folder.exists(), done.left) == (True, [f"{folder.name}: its song waits, or is being made"])


def test_nothing_outside_the_folder_and_nobodys_own_folder_is_touched(journal, songs, tmp_path):
    outside = song(tmp_path, "outside", days=100)
    (songs / "link").symlink_to(outside)
    song(songs, "inside", days=100)
    (songs / "inside" / "link").symlink_to(outside)
    batch = songs / "night"
    batch.mkdir()
    song(batch, "of-a-batch", days=100)
    (songs / "notes").mkdir()
    (songs / "notes.txt").write_text("mine")
    project = songs / "project"
    project.mkdir()
    (project / "run.json").write_text('{"mine": true}')
    age(project, 100)
    done = clean(songs, journal, Retention(max_songs=0, max_days=1, max_bytes=0))
    assert names(songs) == ["link", "night", "notes", "notes.txt", "project"]
    assert sorted(path.name for path in outside.iterdir()) == ["run.json", "song.flac"]
    assert (batch / "of-a-batch" / "run.json").exists()
    assert "project" in done.left[0]


def test_a_deletion_that_was_interrupted_is_finished(journal, songs):
    song(songs, "gone").rename(songs / ".gone.deleted")
    clean(songs, journal, Retention())
    assert names(songs) == []


def test_a_folder_of_songs_that_is_not_there_is_no_error(journal, tmp_path):
    assert clean(tmp_path / "none", journal, Retention(max_songs=0)).deleted == []
    assert list(stored_folders(tmp_path / "none")) == []


@pytest.mark.parametrize("limits", [{"max_songs": -1}, {"max_days": float("nan")}, {"journal_generations": -1}])
def test_a_limit_below_nothing_is_refused(limits):
    with pytest.raises(InvalidRequest, match="0 or more"):
        Retention(**limits)


def test_the_journal_forgets_the_oldest_and_those_of_an_age_and_none_that_runs(journal, songs):
    for name in "abc":
        journal.begin(job(name), request())
        journal.record(*told_live(name))
    journal.begin(job("running"), request())
    assert clean(songs, journal, Retention(journal_generations=1)).generations == 2
    assert {each.id for each in journal.jobs()} == {"c", "running"}
    assert clean(songs, journal, Retention(journal_days=0)).generations == 1
    assert [each.id for each in journal.jobs()] == ["running"]
    assert journal.shrink() is True


def _uploaded(sounds, days):
    part = sounds.part("ann")
    part.write_bytes(b"sound")
    at = time.time() - days * 86_400
    os.utime(part, (at, at))
    return part


def test_a_process_with_an_open_journal_keeps_to_the_limits_but_leaves_a_fresh_song(journal, songs, monkeypatch):
    monkeypatch.setattr("harmonia_lab.generation.caretaker.LOOK_S", 0.01)
    song(songs, "old", days=3)
    song(songs, "fresh")
    sounds = Sounds(songs.parent / "sounds")
    old = sounds.keep(_uploaded(sounds, days=8))
    part = _uploaded(sounds, days=1)
    fresh = sounds.keep(_uploaded(sounds, days=6))
    caretaker = Caretaker(
        journal, RunLog(songs.parent / "runs.jsonl"), songs, Retention(max_songs=0), lambda event: None, sounds
    )
    until(lambda: names(songs) == ["fresh"], "the deletion of the old song")
    until(lambda: not old.path.exists() and not part.exists(), "the deletion of sounds that no song has named")
    assert fresh.path.exists()
    caretaker.stop()
    caretaker.stop()
