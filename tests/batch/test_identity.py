"""A row is the same row in another night: whatever "auto" means then, and wherever it stands in the table."""

import json

import pytest

from harmonia_lab.batch import read_report
from harmonia_lab.batch.identity import RowIdentities
from harmonia_lab.batch.report import BatchReport, Outcome, Writer
from harmonia_lab.batch.rows import rows_of
from harmonia_lab.batch.songs import song_of
from harmonia_lab.errors import HarmoniaError
from tests.batch.conftest import BY_OLLAMA, GIVEN, OLD_BATCH, OLD_ROWS, lab_in, quiet, row, statuses


def rewrite(folder, **engine):
    """Let the song's record say that another engine wrote its words."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    record["engines"]["metadata"] |= engine
    path.write_text(json.dumps(record))


def by_ollama(out):
    return next(out.glob("a-story-*"))


@pytest.mark.parametrize("metadata", ["auto", "ollama"])
def test_a_batch_of_the_first_report_version_is_kept(ollama, tmp_path, old_batch, metadata):
    old = json.loads((old_batch / "report.json").read_text())
    with lab_in(tmp_path, metadata=metadata) as lab:
        report = lab.batch(OLD_ROWS, old_batch, say=quiet)
    assert statuses(report) == ["kept"] * 2
    for outcome, was in zip(report.outcomes, old["rows"], strict=True):
        assert outcome.song.items() >= {n: v for n, v in was.items() if n in outcome.song}.items()


def test_what_was_made_is_kept_when_ollama_goes(ollama, tmp_path, old_batch):
    ollama.stop()
    lines = []
    with lab_in(tmp_path, metadata="auto") as lab:
        assert lab.metadata_engine.name == "embedded"
        report = lab.batch(OLD_ROWS, old_batch, say=lines.append)
    assert statuses(report) == ["kept"] * 2
    assert report.to_json()["engines"]["metadata"] == {"ollama (fake:3b)": 1, "given": 1}
    assert any("ollama (fake:3b), fake (tones)" in line for line in lines)
    assert str(report).endswith("NOTE: 1 kept song with words by ollama; now it is embedded.")


def test_what_the_fallback_made_is_kept_when_ollama_comes_unless_it_is_made_again(ollama, tmp_path, old_batch):
    folder = by_ollama(old_batch)
    rewrite(folder, engine="embedded", model="small")
    before = song_of(folder, old_batch)
    with lab_in(tmp_path, metadata="auto") as lab:
        kept = lab.batch(OLD_ROWS, old_batch, say=quiet)
        assert statuses(kept) == ["kept"] * 2
        assert "--remake (remake=True) makes them again" in str(kept)
        again = lab.batch(OLD_ROWS, old_batch, remake=True, say=quiet)
        assert statuses(again) == ["made", "kept"]
        assert statuses(lab.batch(OLD_ROWS, old_batch, remake=True, say=quiet)) == ["kept"] * 2
        made = again.outcomes[0]
        assert (made.song["directory"], made.song["seed"]) == (folder.name, before["seed"])
        assert song_of(old_batch / made.replaced, old_batch)["generationId"] == before["generationId"]
        assert lab.log.rows()[-1]["directory"] == str(folder)


def test_a_night_on_the_fallback_is_said_before_and_after(ollama, tmp_path, old_batch):
    ollama.stop()
    lines = []
    with lab_in(tmp_path, metadata="auto") as lab:
        report = lab.batch([row(seed=1)], tmp_path / "new", check=True, say=lines.append)
    assert any(line.startswith("NOTE: embedded is the fallback") for line in lines)
    assert report.to_json()["fallback"]["engine"] == "embedded"
    folder = by_ollama(old_batch)
    rewrite(folder, engine="embedded")
    outcome = Outcome(rows_of([BY_OLLAMA])[0], "made", song=song_of(folder, old_batch))
    after = BatchReport(old_batch, [outcome], None, Writer("embedded", "no Ollama answers", auto=True, fallback=True))
    assert "NOTE: the words of 1 song made now are by embedded, the fallback: no Ollama answers." in str(after)


def test_an_engine_by_name_keeps_its_own_songs_of_auto_and_no_others(ollama, tmp_path):
    out = tmp_path / "out"
    with lab_in(tmp_path, metadata="auto") as lab:
        folder = out / lab.batch([row()], out, say=quiet).outcomes[0].song["directory"]
    with lab_in(tmp_path, metadata="ollama") as lab:
        assert statuses(lab.batch([row()], out, say=quiet)) == ["kept"]
        rewrite(folder, engine="embedded")
        assert statuses(lab.batch([row()], out, check=True, say=quiet)) == ["waiting"]


def test_a_report_of_the_first_version_is_read_and_one_of_a_later_is_refused(lab, tmp_path):
    old, new = read_report(OLD_BATCH), lab.batch([row(key="H")], tmp_path, say=quiet)
    assert old.keys() == new.to_json().keys()
    assert (old["reportVersion"], old["state"], old["songs"]) == (2, "done", 2)
    assert old["engines"]["metadata"] == {"ollama (fake:3b)": 1, "given": 1}
    assert read_report(tmp_path) == new.to_json()
    for text in ('{"reportVersion": 3, "rows": []}', "[]", '{"reportVersion": "x"}', "{"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(HarmoniaError, match=r"newer Harmonia Lab|no report of a batch"):
            read_report(tmp_path)


def test_a_row_put_into_the_middle_of_the_table_leaves_the_others_as_they_are(lab, old_batch):
    first = lab.batch([GIVEN], old_batch, say=quiet)
    report = lab.batch([row(key="H"), GIVEN | {"seed": 3}, GIVEN], old_batch, say=quiet)
    assert statuses(report) == ["failed", "made", "kept"]
    assert report.outcomes[2].song == first.outcomes[0].song


def test_two_names_are_two_songs_and_no_name_is_the_row_of_before(lab):
    one, two, none = map(RowIdentities(lab).of, rows_of([row(name="a"), row(name="b"), row()]))
    assert len({one.request.seed, two.request.seed, none.request.seed}) == 3
    assert list(one.folders) == ["a"]
    assert none == RowIdentities(lab).of(rows_of([row()])[0])


def test_a_name_is_the_folders_and_is_not_enough_where_the_row_has_changed(lab, tmp_path):
    named = row(name="scene [1]", seed=1)
    before = lab.batch([named], tmp_path, say=quiet).outcomes[0].song
    assert before["directory"] == "scene [1]"
    assert statuses(lab.batch([named], tmp_path, say=quiet)) == ["kept"]
    for change in ({"bpm": 90}, {"seed": 2}, {"audio": "sketch"}):
        (outcome,) = lab.batch([named | change], tmp_path, say=quiet).outcomes
        assert f"(another {next(iter(change))})" in outcome.error.message
        assert "--remake" in outcome.error.hint
    (outcome,) = lab.batch([named | {"bpm": 90}], tmp_path, remake=True, say=quiet).outcomes
    assert outcome.song["directory"] == "scene [1]"
    assert outcome.to_json()["name"] == "scene [1]"
    assert song_of(tmp_path / outcome.replaced, tmp_path)["generationId"] == before["generationId"]
