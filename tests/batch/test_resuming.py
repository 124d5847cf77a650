"""A batch that runs again goes on with what its songs had, also after its process was killed."""

import shutil

import pytest

from harmonia_lab.batch import read_report
from harmonia_lab.errors import AudioError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
from tests.batch.conftest import lab_in, quiet, row, statuses
from tests.generation.crashes import draw_nothing


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """A picture takes a second to draw."""
    monkeypatch.setattr("harmonia_lab.backends.local._draw_overview", draw_nothing)


def broken():
    return FakeAudioEngine(errors=[AudioError("Broke.")])


def song_folder(out):
    (folder,) = [path.parent for path in out.glob("*/run.json")]
    return folder


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_row_goes_on_from_its_words_and_stems_and_makes_the_same_song(tmp_path, name):
    rows, out, words = [row(seed=1, **({"name": name} if name else {}))], tmp_path / "out", FakeMetadataEngine()
    with lab_in(tmp_path, audio=broken()) as lab:
        assert statuses(lab.batch(rows, out, say=quiet)) == ["failed"]
        (failed,) = lab.journal.jobs()
    with lab_in(tmp_path, metadata=words) as lab:
        report = lab.batch(rows, out, say=quiet)
        assert statuses(report) == ["made"]
        assert (words.seeds, lab.audio_engine.rendered) == ([], ["flute"])
        assert [(job.id, job.status) for job in lab.journal.jobs()] == [(failed.id, "completed")]
        assert list(out.glob("*partial*")) == []
        assert statuses(lab.batch(rows, out, say=quiet)) == ["kept"]
        undisturbed = lab.batch(rows, tmp_path / "other", say=quiet)
    again, whole = (read_record(song_folder(path)) for path in (out, undisturbed.out))
    assert again["files"] == whole["files"]
    assert again["request"] | {"generationId": None} == whole["request"] | {"generationId": None}
    assert again["engines"] == whole["engines"]


@pytest.mark.parametrize("change", ["another seed", "another engine", "nothing of stage 1", "words by another"])
def test_a_row_that_asks_for_another_song_begins_anew(tmp_path, change):
    out, require = tmp_path / "out", None
    with lab_in(tmp_path, audio=broken()) as lab:
        lab.batch([row(seed=1, name="mine")], out, say=quiet)
        (failed,) = lab.journal.jobs()
    seed, audio = 2 if change == "another seed" else 1, FakeAudioEngine()
    if change == "another engine":
        audio.name = "another"
    elif change == "nothing of stage 1":
        shutil.rmtree(next(out.glob("*partial*")) / "finished")
    words = FakeMetadataEngine()
    if change == "words by another":
        words.name = require = "another"
    with lab_in(tmp_path, metadata=words, audio=audio) as lab:
        assert statuses(lab.batch([row(seed=seed, name="mine")], out, require=require, say=quiet)) == ["made"]
        assert len(words.seeds) == 1
        assert {job.id: job.status for job in lab.journal.jobs()}[failed.id] == "failed"
        assert len(lab.journal.jobs()) == 2


def test_a_row_that_took_the_process_down_twice_is_left_out_and_the_others_are_made(tmp_path):
    rows, out = [row(seed=seed) for seed in (1, 2)], tmp_path / "out"
    with lab_in(tmp_path, audio=broken()) as lab:
        lab.batch(rows[:1], out, say=quiet)
        (job,) = lab.journal.jobs()
        with lab.journal._file.writing() as database:  # as if it had been killed twice
            database.executemany("INSERT INTO deaths VALUES (?, ?)", [(job.id, "one"), (job.id, "two")])
            database.execute(
                "UPDATE events SET payload = replace(payload, 'AUDIO_ERROR', 'QUARANTINED') WHERE generation = ?",
                (job.id,),
            )
    with lab_in(tmp_path) as lab:
        report = lab.batch(rows, out, say=quiet)
        assert statuses(report) == ["failed", "made"]
        assert read_report(out)["rows"][0]["error"]["code"] == "QUARANTINED"
        assert f"--lift-quarantine {job.id}" in str(report.errors[0].error)
        lab.journal.submissions.forgive(job.id)
        assert statuses(lab.batch(rows, out, say=quiet)) == ["made", "kept"]
