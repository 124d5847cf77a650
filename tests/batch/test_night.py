"""A night that goes wrong ends early, says why, and loses nothing."""

import json

import pytest

from harmonia_lab.batch import BatchOptions, read_report, run_batch
from harmonia_lab.batch import report as reports
from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest, MetadataError, StorageError
from harmonia_lab.testing import FakeAudioEngine
from tests.batch.conftest import GIVEN, lab_in, quiet, row, statuses

ROWS = [row(seed=seed) for seed in range(6)]


def full():
    return StorageError("The disk is full.", code=ErrorCode.STORAGE_FULL)


@pytest.mark.parametrize(("stop_after", "failed"), [(2, 2), (1, 1), (0, 4)])
def test_equal_failures_in_a_row_end_it(tmp_path, stop_after, failed):
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=[full() for _ in range(4)])) as lab:
        report = lab.batch(ROWS[:4], tmp_path / "out", stop_after=stop_after, say=quiet)
    assert statuses(report) == ["failed"] * failed + ["waiting"] * (4 - failed)
    written = read_report(tmp_path / "out")
    assert written["state"] == ("stopped" if stop_after else "done")
    assert (written["stopped"] or {}).get("code") == ("STORAGE_FULL" if stop_after else None)
    assert ("STOPPED: " in str(report)) == bool(stop_after)


def test_other_failures_rows_that_cost_nothing_and_a_song_between_them_do_not_end_it(tmp_path):
    bad = row(metadata={"title": "x"})  # fails before anything is made
    errors = [full(), AudioError("The flute broke."), full(), full()]
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=errors)) as lab:
        report = lab.batch([*ROWS[:3], bad, bad, bad, *ROWS[3:]], tmp_path / "out", stop_after=2, say=quiet)
        assert statuses(report) == ["failed"] * 7 + ["waiting"] * 2
        assert report.stopped.code == ErrorCode.STORAGE_FULL
        lab.audio_engine.errors = [full()]
        report = lab.batch(ROWS[:2], tmp_path / "out", stop_after=2, say=quiet)
        assert (statuses(report), report.stopped) == (["failed", "made"], None)
        lab.audio_engine.errors = [full()]
        report = lab.batch(ROWS[1:3], tmp_path / "out", stop_after=2, say=quiet)
        assert (statuses(report), report.stopped) == (["kept", "failed"], None)


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


class WithoutWords:
    """A lab whose stage 1 can't be had."""

    def __init__(self, lab):
        self._lab = lab

    def __getattr__(self, name):
        if name == "metadata_engine":
            raise MetadataError("Nothing writes words here.", code=ErrorCode.OLLAMA_UNAVAILABLE)
        return getattr(self._lab, name)


def test_without_an_engine_for_words_rows_that_bring_them_are_made_all_the_same(lab, old_batch):
    lab = WithoutWords(lab)
    report = run_batch(lab, [GIVEN, row(seed=1)], old_batch, BatchOptions(), say=quiet)
    assert statuses(report) == ["kept", "failed"]
    assert report.errors[0].error.code == ErrorCode.OLLAMA_UNAVAILABLE
    assert statuses(run_batch(lab, [GIVEN], old_batch, BatchOptions(require="ollama"), say=quiet)) == ["kept"]
    with pytest.raises(MetadataError, match="by none: Nothing writes words here"):
        run_batch(lab, [row()], old_batch, BatchOptions(require="ollama"), say=quiet)


def test_a_required_engine_that_goes_ends_it_at_once(ollama, tmp_path):
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

    lab.batch([*ROWS[:2], row(seed=0, id="x")], tmp_path, say=say)
    assert seen == [("running", 0, 3), ("running", 1, 2)]
    assert [("left" in line) for line in lines if "music" in line] == [True, False]
    found = read_report(tmp_path)
    assert (found["state"], found["made"], found["unusedColumns"]) == ("done", 3, ["id"])
    assert found["rows"][2]["extra"] == {"id": "x"}
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".batch.lock"]


def test_a_report_that_cannot_be_written_loses_neither_the_one_before_nor_the_night(lab, old_batch):
    before = (old_batch / "report.json").read_bytes()
    (old_batch / ".report.json.partial").mkdir()  # nothing can be written there
    report = lab.batch([GIVEN, row(key="H")], old_batch, say=quiet)
    assert statuses(report) == ["kept", "failed"]
    assert not report.ok
    assert "report could not be written" in str(report)
    assert (old_batch / "report.json").read_bytes() == before


def test_half_a_character_in_a_column_does_not_end_the_report(lab, tmp_path):
    lab.batch([row(key="H", id="\ud800")], tmp_path, say=quiet)
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["extra"] == {"id": "\ud800"}


def test_what_a_failure_finished_is_kept_until_the_song_is_whole(tmp_path):
    parts, out = [], tmp_path / "out"
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=[AudioError("Broke."), AudioError("Broke.")])) as lab:
        for status in ("failed", "failed", "made"):
            assert statuses(lab.batch(ROWS[:1], out, say=quiet)) == [status]
            parts.append(len(list(out.glob("*.partial-*/metadata.json"))))
    assert parts == [1, 1, 0]


def test_a_song_that_a_killed_run_had_finished_is_put_in_its_place(lab, old_batch):
    (folder,) = old_batch.glob("harbour-light-*")
    folder.rename(old_batch / f".{folder.name}.partial-01234567")
    (old_batch / f"{folder.name}.partial-89abcdef").mkdir()
    report = lab.batch([GIVEN], old_batch, say=quiet)
    assert statuses(report) == ["kept"]
    assert report.outcomes[0].song["directory"] == folder.name
    assert lab.log.rows() == list(old_batch.glob("*partial*")) == []


def test_what_a_person_does_to_a_song_does_not_spoil_its_row(lab, old_batch):
    (folder,) = old_batch.glob("harbour-light-*")
    assert not (folder / "stems").exists()
    (folder / "lyrics.txt").write_text("My own words\n")
    assert statuses(lab.batch([GIVEN], old_batch, say=quiet)) == ["kept"]


def test_a_damaged_song_is_made_again_on_demand_and_moved_aside_when_the_new_one_is_whole(lab, old_batch):
    (folder,) = old_batch.glob("harbour-light-*")
    (folder / "song.flac").write_bytes(b"short")
    lab.audio_engine.errors.append(AudioError("The flute broke."))
    (failed,) = lab.batch([GIVEN], old_batch, remake=True, say=quiet).outcomes
    assert failed.status == "failed"
    assert (folder / "song.flac").read_bytes() == b"short"
    assert not (old_batch / "replaced").exists()
    (made,) = lab.batch([GIVEN], old_batch, remake=True, say=quiet).outcomes
    assert made.status == "made"
    assert (old_batch / made.replaced / "song.flac").read_bytes() == b"short"
    assert (folder / "song.flac").stat().st_size > 1000


@pytest.mark.parametrize("damage", ["[]", "null", '{"engines": {}}', '{"timings": {"total": 1, "audio": "x"}}'])
def test_a_damaged_record_is_no_whole_song(lab, old_batch, damage):
    (path,) = old_batch.glob("harbour-light-*/run.json")
    record, changed = json.loads(path.read_text()), json.loads(damage)
    path.write_text(json.dumps(record | changed if changed else changed))
    (outcome,) = lab.batch([GIVEN], old_batch, check=True, say=quiet).outcomes
    assert "no whole song" in outcome.error.message


def test_a_check_makes_nothing_and_tells_every_bad_row(lab, old_batch):
    rows = [row(seed=1), row(key="H"), row(audio="flute"), row(seed=1), row(tempo=90), GIVEN | {"id": "x"}]
    before = (old_batch / "report.json").read_bytes()
    lines = []
    report = lab.batch(rows, old_batch, check=True, say=lines.append)
    assert statuses(report) == ["waiting", "failed", "failed", "waiting", "failed", "kept"]
    assert not report.ok
    assert [line.split(":")[0] for line in lines[:3]] == ["row 2", "row 3", "row 5"]
    assert lines[3].startswith("6 rows: 1 songs to make (")
    assert "1 kept, 1 the same as others, 3 with errors" in lines[3]
    assert lines[4] == "Columns for the report alone: id"
    assert lab.log.rows() == []
    assert (old_batch / "report.json").read_bytes() == before
    assert statuses(lab.batch(rows[:1], None, check=True, say=quiet)) == ["waiting"]


def test_a_sweep_is_checked_too(lab):
    report = lab.sweep("One.", seeds=range(2), audio=["fake", "flute"], check=True, say=quiet)
    assert statuses(report) == ["waiting", "failed"] * 2
    assert not report.out.exists()
