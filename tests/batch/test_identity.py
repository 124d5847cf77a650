"""A row is the same row in another night: whatever "auto" means then, and wherever it stands in the table.

`batch-report-1` was written before reports had a number, by `harmonia_lab` of commit 8c08c08: "auto" was Ollama for two
rows, one without a seed, and the third brought its metadata. Stems are left out.
"""

import json
import shutil
from pathlib import Path

import pytest

from harmonia_lab.batch import read_report
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.testing import SONG_METADATA, FakeMetadataEngine
from tests.batch.conftest import lab_in, quiet, row, statuses

KEPT = Path(__file__).with_name("batch-report-1")
ROWS = [row(seed=1), row(), {"metadata": SONG_METADATA, "seconds": 1, "seed": 2}]


def by(out, song, **engine):
    """Let the song's record say that another engine wrote its words."""
    path = out / song["directory"] / "run.json"
    record = json.loads(path.read_text())
    record["engines"]["metadata"] |= engine
    path.write_text(json.dumps(record))


def test_what_was_made_is_kept_when_ollama_goes_and_comes(ollama, tmp_path):
    out, rows = tmp_path / "out", [row(seed=1), row()]
    with lab_in(tmp_path, metadata="auto") as lab:
        made = lab.batch(rows, out, say=quiet)
    assert statuses(made) == ["made"] * 2
    assert made.to_json()["engines"]["metadata"] == {"ollama (fake:3b)": 2}
    ollama.stop()
    lines = []
    with lab_in(tmp_path, metadata="auto") as lab:
        assert lab.metadata_engine.name == "embedded"
        kept = lab.batch([*rows, row(key="H")], out, say=lines.append)
    assert [o.song for o in kept.songs] == [o.song for o in made.outcomes]
    assert any("ollama (fake:3b)" in line for line in lines)
    assert "2 kept songs with words by ollama; now it is embedded" in str(kept)


def test_a_night_on_the_fallback_is_said_before_and_after(ollama, tmp_path):
    ollama.stop()
    lines = []
    with lab_in(tmp_path, metadata="auto") as lab:
        report = lab.batch([row(seed=1)], tmp_path / "out", check=True, say=lines.append)
        assert any(line.startswith("NOTE: embedded is the fallback") for line in lines)
        assert report.to_json()["fallback"]["engine"] == "embedded"
        # As if the embedded model had written it: what a person reads afterwards.
        lab.metadata_engine = FakeMetadataEngine()
        lab.metadata_engine.name = "embedded"
        lab._local._metadata_engine = lab.metadata_engine
        report = lab.batch([row(seed=1)], tmp_path / "out", say=quiet)
    assert "NOTE: the words of 1 song made now are by embedded, the fallback" in str(report).splitlines()[-1]


def test_remake_makes_again_what_another_engine_wrote_and_nothing_else(ollama, tmp_path):
    out, rows = tmp_path / "out", [row(seed=1), row(seed=2), ROWS[2]]
    with lab_in(tmp_path, metadata="auto") as lab:
        first = lab.batch(rows, out, say=quiet).outcomes[0].song
        by(out, first, engine="embedded", model="small")
        assert statuses(lab.batch(rows, out, say=quiet)) == ["kept"] * 3
        again = lab.batch(rows, out, remake=True, say=quiet)
        assert statuses(again) == ["made", "kept", "kept"]
        assert statuses(lab.batch(rows, out, remake=True, say=quiet)) == ["kept"] * 3
    made = again.outcomes[0]
    assert made.song["directory"] == first["directory"]
    assert made.song["generationId"] != first["generationId"]
    earlier = json.loads((out / made.replaced / "run.json").read_text())
    assert earlier["generationId"] == first["generationId"]
    assert lab.log.rows()[-1]["directory"] == str(out / first["directory"])


def test_an_engine_by_name_keeps_its_own_songs_of_auto_and_no_others(ollama, tmp_path):
    out, rows = tmp_path / "out", [row(seed=1), row(seed=2)]
    with lab_in(tmp_path, metadata="auto") as lab:
        by(out, lab.batch(rows, out, say=quiet).outcomes[0].song, engine="embedded")
    with lab_in(tmp_path, metadata="ollama") as lab:
        assert statuses(lab.batch(rows, out, say=quiet)) == ["made", "kept"]
    with lab_in(tmp_path, metadata="auto") as lab:
        assert statuses(lab.batch(rows, out, say=quiet)) == ["kept", "kept"]


@pytest.mark.parametrize("metadata", ["auto", "ollama"])
def test_a_batch_of_the_first_report_version_is_kept(ollama, tmp_path, metadata):
    out = tmp_path / "out"
    shutil.copytree(KEPT, out)
    old = json.loads((out / "report.json").read_text())
    if metadata == "auto":
        ollama.stop()
    with lab_in(tmp_path, metadata=metadata) as lab:
        report = lab.batch(ROWS, out, say=quiet)
    assert statuses(report) == ["kept"] * 3
    for outcome, was in zip(report.outcomes, old["rows"], strict=True):
        assert outcome.song.items() >= {n: v for n, v in was.items() if n in outcome.song}.items()


def test_a_report_of_the_first_version_is_read_and_one_of_a_later_is_refused(lab, tmp_path):
    old, new = read_report(KEPT), lab.batch([row(seed=1)], tmp_path, say=quiet)
    assert old.keys() == new.to_json().keys()
    assert (old["reportVersion"], old["state"], old["songs"]) == (2, "done", 3)
    assert old["engines"]["metadata"] == {"ollama (fake:3b)": 2, "given": 1}
    assert read_report(tmp_path) == new.to_json()
    for text in ('{"reportVersion": 3, "rows": []}', "[]", '{"reportVersion": "x"}', "{"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(HarmoniaError, match=r"newer Harmonia Lab|no report of a batch"):
            read_report(tmp_path)


def test_a_row_put_into_the_middle_of_the_table_leaves_the_others_as_they_are(lab, tmp_path):
    rows = [row(), row(seed=2), row(narrative="Another.")]
    first = lab.batch(rows, tmp_path / "out", say=quiet)
    report = lab.batch([rows[0], row(seed=9), *rows[1:]], tmp_path / "out", say=quiet)
    assert statuses(report) == ["kept", "made", "kept", "kept"]
    assert [o.song for o in report.outcomes if o.status == "kept"] == [o.song for o in first.outcomes]


def test_a_named_row_has_its_folder_and_two_names_are_two_songs(lab, tmp_path):
    out = tmp_path / "out"
    rows = [row(name="scene [1]"), row(name="scene [2]")]
    report = lab.batch(rows, out, say=quiet)
    assert [o.song["directory"] for o in report.outcomes] == ["scene [1]", "scene [2]"]
    assert len({o.song["seed"] for o in report.outcomes}) == 2
    assert statuses(lab.batch(rows, out, say=quiet)) == ["kept", "kept"]
    assert report.to_json()["rows"][0]["name"] == "scene [1]"


def test_a_name_is_not_enough_where_the_row_has_changed(lab, tmp_path):
    out = tmp_path / "out"
    before = lab.batch([row(name="scene", seed=1)], out, say=quiet).outcomes[0].song
    for change in ({"bpm": 90}, {"seed": 2}, {"audio": "sketch"}):
        (outcome,) = lab.batch([row(name="scene", seed=1) | change], out, say=quiet).outcomes
        assert f"(another {next(iter(change))})" in outcome.error.message
        assert "--remake" in outcome.error.hint
    (outcome,) = lab.batch([row(name="scene", seed=1, bpm=90)], out, remake=True, say=quiet).outcomes
    assert outcome.song["directory"] == "scene"
    assert json.loads((out / outcome.replaced / "run.json").read_text())["generationId"] == before["generationId"]
