"""A night that goes wrong ends early, says why, and loses nothing."""

import json

import pytest

from harmonia_lab.batch import read_report
from harmonia_lab.batch import report as reports
from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest, MetadataError, StorageError
from harmonia_lab.testing import FakeAudioEngine
from tests.batch.conftest import lab_in, quiet, row, statuses

ROWS = [row(seed=seed) for seed in range(6)]


def full():
    return StorageError("The disk is full.", code=ErrorCode.STORAGE_FULL)


@pytest.mark.parametrize(("stop_after", "failed"), [(2, 2), (1, 1), (0, 4)])
def test_equal_failures_in_a_row_end_it(tmp_path, stop_after, failed):
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=[full() for _ in range(4)])) as lab:
        report = lab.batch(ROWS, tmp_path / "out", stop_after=stop_after, say=quiet)
    assert statuses(report)[: failed + 1] == ["failed"] * failed + (["waiting"] if stop_after else ["made"])
    written = read_report(tmp_path / "out")
    assert written["state"] == ("stopped" if stop_after else "done")
    assert (written["stopped"] or {}).get("code") == ("STORAGE_FULL" if stop_after else None)
    assert ("STOPPED: " in str(report)) == bool(stop_after)


def test_other_failures_a_song_between_them_and_rows_that_cost_nothing_do_not_end_it(tmp_path):
    good = row(metadata={"title": "x"})  # fails before anything is made
    errors = [full(), AudioError("The flute broke."), full(), full()]
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=errors)) as lab:
        report = lab.batch([*ROWS[:3], good, good, good, *ROWS[3:]], tmp_path / "out", stop_after=2, say=quiet)
        assert statuses(report)[:7] == ["failed"] * 7
        assert report.stopped.code == ErrorCode.STORAGE_FULL
    errors = [full(), full()]
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=errors)) as lab:
        report = lab.batch(ROWS, tmp_path / "out", stop_after=3, say=quiet)
        assert (statuses(report), report.stopped) == (["failed"] * 2 + ["made"] * 4, None)


@pytest.mark.parametrize("stop_after", [-1, 1.5, "many"])
def test_stop_after_is_a_number_of_songs(lab, tmp_path, stop_after):
    with pytest.raises(InvalidRequest, match="stop_after"):
        lab.batch(ROWS, tmp_path / "out", stop_after=stop_after, say=quiet)


def test_a_required_engine_that_is_not_there_begins_nothing(ollama, tmp_path):
    ollama.stop()
    with lab_in(tmp_path, metadata="auto") as lab:
        with pytest.raises(MetadataError, match="requires ollama, and the words would be by embedded"):
            lab.batch(ROWS, tmp_path / "out", require="ollama", say=quiet)
        assert not (tmp_path / "out").exists()
        with pytest.raises(InvalidRequest, match="no metadata engine 'olama'"):
            lab.batch(ROWS, tmp_path / "out", require="olama", say=quiet)


def test_a_required_engine_that_goes_ends_it_at_once(ollama, tmp_path, monkeypatch):
    monkeypatch.setattr("harmonia_lab.generation.generation.recovery_for", lambda *_: None)

    def say(line):
        if "music" in line:
            ollama.stop()

    with lab_in(tmp_path, metadata="auto") as lab:
        report = lab.batch(ROWS, tmp_path / "out", require="ollama", say=say)
    assert statuses(report) == ["made", "failed"] + ["waiting"] * 4
    assert report.stopped.code == ErrorCode.OLLAMA_UNAVAILABLE
    assert "ollama is required" in report.stopped.message


def test_the_report_is_written_as_it_goes_and_says_how_long_the_rest_takes(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "LEAST_S", 0.0)
    monkeypatch.setattr(reports, "COST_SHARE", 0)
    seen, lines = [], []

    def say(line):
        lines.append(line)
        if "lyrics" in line:
            found = read_report(tmp_path)
            seen.append((found["state"], found["made"], found["waiting"]))

    lab.batch([*ROWS[:3], row(seed=0, id="x")], tmp_path, say=say)
    assert seen == [("running", 0, 4), ("running", 1, 3), ("running", 2, 2)]
    assert [("left" in line) for line in lines if "music" in line] == [True, True, False]
    found = read_report(tmp_path)
    assert (found["state"], found["made"], found["unusedColumns"]) == ("done", 4, ["id"])
    assert found["rows"][3]["extra"] == {"id": "x"}
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".batch.lock"]


def test_a_report_that_cannot_be_written_loses_neither_the_one_before_nor_the_night(lab, tmp_path):
    lab.batch(ROWS[:1], tmp_path, say=quiet)
    before = (tmp_path / "report.json").read_bytes()
    (tmp_path / ".report.json.partial").mkdir()  # nothing can be written there
    report = lab.batch(ROWS[:2], tmp_path, say=quiet)
    assert statuses(report) == ["kept", "made"]
    assert not report.ok
    assert "report could not be written" in str(report)
    assert (tmp_path / "report.json").read_bytes() == before


def test_half_a_character_in_a_column_does_not_end_the_report(lab, tmp_path):
    lab.batch([row(seed=1, id="\ud800")], tmp_path, say=quiet)
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["extra"] == {"id": "\ud800"}


def test_what_a_failure_finished_is_kept_until_the_song_is_whole(tmp_path):
    parts, out = [], tmp_path / "out"
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=[AudioError("Broke."), AudioError("Broke.")])) as lab:
        for status in ("failed", "failed", "made"):
            assert statuses(lab.batch(ROWS[:1], out, say=quiet)) == [status]
            parts.append(len(list(out.glob("*.partial-*/metadata.json"))))
    assert parts == [1, 2, 0]


def test_a_song_that_a_killed_run_had_finished_is_put_in_its_place(lab, tmp_path):
    song = lab.batch(ROWS[:1], tmp_path, say=quiet).outcomes[0].song
    folder = tmp_path / song["directory"]
    folder.rename(tmp_path / f".{folder.name}.partial-{song['generationId'][:8]}")
    report = lab.batch(ROWS[:1], tmp_path, say=quiet)
    assert statuses(report) == ["kept"]
    assert report.outcomes[0].song == song
    assert len(lab.log.rows()) == 1


@pytest.mark.parametrize("change", ["edited lyrics", "no stems"])
def test_what_a_person_does_to_a_song_does_not_spoil_its_row(lab, tmp_path, change):
    song = lab.batch(ROWS[:1], tmp_path, say=quiet).outcomes[0].song
    folder = tmp_path / song["directory"]
    if change == "edited lyrics":
        (folder / "lyrics.txt").write_text("My own words\n")
    else:
        for stem in (folder / "stems").iterdir():
            stem.unlink()
    assert statuses(lab.batch(ROWS[:1], tmp_path, say=quiet)) == ["kept"]


def test_a_damaged_song_is_made_again_on_demand_and_moved_aside_when_the_new_one_is_whole(tmp_path):
    with lab_in(tmp_path, audio=FakeAudioEngine()) as lab:
        folder = tmp_path / lab.batch(ROWS[:1], tmp_path, say=quiet).outcomes[0].song["directory"]
        (folder / "song.flac").write_bytes(b"short")
        lab.audio_engine.errors.append(AudioError("The flute broke."))
        (failed,) = lab.batch(ROWS[:1], tmp_path, remake=True, say=quiet).outcomes
        assert failed.status == "failed"
        assert (folder / "song.flac").read_bytes() == b"short"
        assert not (tmp_path / "replaced").exists()
        (made,) = lab.batch(ROWS[:1], tmp_path, remake=True, say=quiet).outcomes
    assert made.status == "made"
    assert (tmp_path / made.replaced / "song.flac").read_bytes() == b"short"
    assert (folder / "song.flac").stat().st_size > 1000


def test_a_check_makes_nothing_and_tells_every_bad_row(lab, tmp_path):
    rows = [row(seed=1), row(key="H"), row(audio="flute"), row(seed=1), row(tempo=90), row(seed=2, id="x")]
    lab.batch([row(seed=2)], tmp_path / "out", say=quiet)
    lines = []
    report = lab.batch(rows, tmp_path / "out", check=True, say=lines.append)
    assert statuses(report) == ["waiting", "failed", "failed", "waiting", "failed", "kept"]
    assert not report.ok
    assert [line.split(":")[0] for line in lines[:3]] == ["row 2", "row 3", "row 5"]
    assert lines[3].startswith("6 rows: 1 songs to make (")
    assert "1 kept, 1 the same as others, 3 with errors" in lines[3]
    assert lines[4] == "Columns for the report alone: id"
    assert len(lab.log.rows()) == 1
    assert read_report(tmp_path / "out")["state"] == "done"
    assert statuses(lab.batch(rows[:1], None, check=True, say=quiet)) == ["waiting"]


def test_a_sweep_is_checked_too(lab):
    report = lab.sweep("One.", seeds=range(2), audio=["fake", "flute"], check=True, say=quiet)
    assert statuses(report) == ["waiting", "failed"] * 2
    assert not report.out.exists()
