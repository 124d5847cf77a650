"""The export is what webMUSHRA reads and writes: its columns, a page for each trial, sounds of one length and level."""

import csv
import io

import pytest
import soundfile
import yaml

from harmonia_lab.listening.analysis import analyse
from harmonia_lab.listening.answers import parse_answers
from harmonia_lab.listening.files import open_test
from harmonia_lab.listening.loudness import loudness
from harmonia_lab.listening.make import make_test
from harmonia_lab.listening.webmushra import export_webmushra
from tests.listening.songs import answered, make_batch

PLAIN = {"a": 97, "b": 60, "c": 30}


def rated(design, listener, seed):
    return parse_answers(
        answered(design, listener, None, rate=lambda name, treatment: 12 if treatment else PLAIN[name], seed=seed)
    )


def test_scales_with_a_reference_become_an_experiment_with_its_results(tmp_path):
    make_batch(tmp_path / "night", ("a", "b", "c"), seeds=(1, 2))
    made = make_test(tmp_path / "night", tmp_path / "test.html", "scales", reference="a", title='Say "A": <b>')
    test = open_test(made.key)
    result = analyse(test.design, [rated(test.design, "ann", 1), rated(test.design, "bob", 2)])
    out = export_webmushra(result, test.key.parent, tmp_path / "webmushra")
    config = yaml.safe_load((tmp_path / "webmushra" / "config.yaml").read_text())
    assert config["testname"] == 'Say "A": <b>'
    random, *pages = config["pages"][0]
    assert (random, [page["type"] for page in pages]) == ("random", ["mushra", "mushra"])
    assert config["pages"][-1]["type"] == "finish"
    for page in pages:
        assert set(page["stimuli"]) == {"b", "c"}  # webMUSHRA adds the hidden reference and the anchor itself
        assert page["createAnchor35"] is True
        names = [path.rsplit("/", 1)[-1] for path in (page["reference"], *page["stimuli"].values())]
        sounds = [soundfile.read(tmp_path / "webmushra" / name, dtype="float32", always_2d=True) for name in names]
        assert len({sound.shape for sound, _ in sounds}) == 1
        levels = [loudness(sound.T.copy(), rate) for sound, rate in sounds]
        assert max(levels) - min(levels) < 0.3
    rows = list(csv.DictReader(io.StringIO((tmp_path / "webmushra" / "mushra.csv").read_text())))
    assert len(rows) == 2 * 2 * 4
    assert {row["rating_stimulus"]: row["rating_score"] for row in rows} == {
        "reference": "97", "b": "60", "c": "30", "anchor35": "12",
    }  # fmt: skip
    assert list(rows[0]) == ["session_test_id", "email", "session_uuid", "trial_id", "rating_stimulus", "rating_score",
                             "rating_time", "rating_comment"]  # fmt: skip
    assert {row["session_test_id"] for row in rows} == {config["testId"]}
    assert (tmp_path / "webmushra" / "mushra.csv") in out.files


def test_pairs_become_results_and_a_note_says_why_no_config(tmp_path):
    make_batch(tmp_path / "night", ("a", "b"))
    test = make_test(tmp_path / "night", tmp_path / "test.html")
    plain = answered(test.design, "ann", lambda shown: shown.index("b"))
    failed = answered(test.design, "eve", lambda shown: 0, seed=2, passes=False)
    result = analyse(test.design, [parse_answers(plain), parse_answers(failed)])
    out = export_webmushra(result, tmp_path, tmp_path / "webmushra")
    assert [path.name for path in out.files] == ["paired_comparison.csv"]
    assert any("need a reference" in note for note in out.notes)
    assert any("1 answer sets that don't count" in note for note in out.notes)
    rows = list(csv.DictReader(io.StringIO(out.files[0].read_text())))
    assert len(rows) == 3
    assert {(row["choice_reference"], row["choice_non_reference"], row["choice_answer"]) for row in rows} == {
        ("a", "b", "incorrect")
    }
    assert {row["choice_time"] for row in rows} == {"6500"}


@pytest.mark.parametrize("name", ["yes", "1e3", "a: b", "#c", "ünï"])
def test_names_of_conditions_stay_what_they_are_in_yaml(tmp_path, name):
    make_batch(tmp_path / "night", ("a", "b"), seeds=(1,))
    songs = {"reference one": tmp_path / "night" / "a-1", name: tmp_path / "night" / "b-1"}
    test = make_test(songs, tmp_path / "test.html", "scales", reference="reference one")
    from harmonia_lab.listening.webmushra import config_yaml

    assert list(yaml.safe_load(config_yaml(test.design))["pages"][0][1]["stimuli"]) == [name]
