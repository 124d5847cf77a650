"""`harmonia clean` says what it deletes and what it keeps."""

import json

import pytest

from harmonia_lab.cli import main
from harmonia_lab.store.journal import Journal
from tests.events.stories import job, request, told_live
from tests.generation.test_retention import partial, song


@pytest.fixture
def songs(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    (tmp_path / "songs").mkdir()
    return tmp_path / "songs"


def run(capsys, *arguments):
    status = main(["clean", *arguments])
    return status, *capsys.readouterr()


def test_it_says_what_it_deletes_and_what_it_keeps(songs, capsys):
    song(songs, "old\x1b[31m", days=10)
    song(songs, "new")
    partial(songs, "dead", days=2)
    options = ["--songs", str(songs), "--keep-days", "7"]
    status, told, _ = run(capsys, *options, "--dry-run")
    assert (status, "\x1b" in told, len(list(songs.iterdir()))) == (0, False, 3)
    assert told.count("would be deleted  ") == 2
    assert "older than 7 days" in told
    status, told, _ = run(capsys, *options)
    assert (status, [path.name for path in songs.iterdir()]) == (0, ["new"])
    assert f"{songs}: 1 kept" in told
    assert "2 deleted" in told


def test_its_figures_are_for_programs_too(songs, capsys):
    song(songs, "a", days=2)
    song(songs, "b", days=1)
    status, told, _ = run(capsys, "--songs", str(songs), "--keep-bytes", "150K", "--json")
    done = json.loads(told)
    assert (status, done["dryRun"], done["generationsDeleted"], done["left"]) == (0, False, 0, [])
    assert [each["directory"] for each in done["deleted"]] == [str(songs / "a")]
    assert [each["kind"] for each in done["kept"]] == ["song"]


@pytest.mark.parametrize("options", [["--keep-bytes", "much"], ["--keep-songs", "-1"], ["--keep-songs", "1.5"]])
def test_a_limit_that_is_none_is_bad_usage(songs, capsys, options):
    song(songs, "a", days=2)
    status, _, said = run(capsys, "--songs", str(songs), *options)
    assert (status, bool(said)) == (2, True)
    assert (songs / "a").exists()


def test_it_lifts_a_quarantine_and_deletes_nothing(songs, capsys):
    journal = Journal(songs.parent / "home" / "journal.sqlite3")
    journal.begin(job("g"), request())
    journal.record(*told_live("g", "failed"))
    with journal._file.writing() as database:
        database.executemany("INSERT INTO deaths VALUES ('g', ?)", [("one",), ("two",)])
    song(songs, "old", days=10)
    status, told, _ = run(capsys, "--songs", str(songs), "--lift-quarantine", "g", "--keep-songs", "0")
    assert (status, "can be tried again" in told) == (0, True)
    assert journal.submissions.deaths("g") == 0
    assert (songs / "old").exists()
    status, _, said = run(capsys, "--lift-quarantine", "nothing")
    assert (status, "no generation 'nothing'" in said) == (1, True)
    journal.close()
