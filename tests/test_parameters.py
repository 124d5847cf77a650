"""One value or several, as people and papermill give them."""

import numpy as np
import pandas as pd
import pytest

from harmonia_lab import Lab
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.parameters import as_list, as_names, as_numbers
from harmonia_lab.study.reading import design_of
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


@pytest.fixture
def lab(tmp_path):
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path) as lab:
        yield lab


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a, story", ["a, story"]),
        (7, [7]),
        ((7, 8), [7, 8]),
        (range(2), [0, 1]),
        (np.arange(2), [0, 1]),
        (pd.Series([3, 4]), [3, 4]),
        (np.float64(2.5), [2.5]),
        ({"narrative": "x"}, [{"narrative": "x"}]),
        (None, []),
    ],
)
def test_one_value_is_a_list_of_one(given, meant):
    found = as_list(given)
    assert found == meant
    assert [type(value) for value in found] == [type(value) for value in meant]


def test_a_text_is_numbers_or_names_where_those_are_meant():
    assert as_numbers("7") == [7]
    assert as_numbers("7, 8,9.5") == [7, 8, 9.5]
    assert as_numbers("seven") == ["seven"]  # what is wrong with it is said where it is used
    assert as_names("piano, cello") == ["piano", "cello"]
    assert as_names(["piano"]) == ["piano"]


@pytest.mark.parametrize(
    ("seeds", "audio", "rows"),
    [
        (3, "sketch", 1),
        ("3, 4", "sketch", 2),
        ([3], ["sketch", "musicgen"], 2),
        (np.array([1, 2]), "sketch,fake", 4),
    ],
)
def test_a_sweep_takes_one_seed_and_one_engine(lab, seeds, audio, rows):
    report = lab.sweep("A lighthouse, at night.", seeds=seeds, audio=audio, seconds=2, check=True, say=lambda _: None)
    assert len(report.outcomes) == rows
    errors = [str(error.error) for error in report.errors]
    assert not any("'s'" in error for error in errors), errors  # an engine named by a letter


def test_a_batch_takes_one_row(lab):
    report = lab.batch({"narrative": "A lighthouse.", "seconds": 2, "seed": 3}, None, check=True, say=lambda _: None)
    assert [outcome.row.request.seed for outcome in report.outcomes] == [3]


def test_a_song_takes_one_name_of_an_instrument_and_numbers_of_numpy(lab):
    song = lab.compose(
        "A story.", seconds=np.float32(2), seed=np.int64(7), bpm=np.int64(90), instruments="piano, cello",
        audio="sketch", progress=False,
    )  # fmt: skip
    assert song.seed == 7
    assert lab.journal.request(song.generation_id).bpm == 90
    assert [each.name for each in lab.journal.request(song.generation_id).instruments] == ["piano", "cello"]
    with pytest.raises(InvalidRequest, match="seed"):
        lab.submit("A story.", seed=[7, 8])


DESIGN = {"primary": "cpu_s", "configurations": {"a": {"audio": "sketch"}, "b": {"audio": "musicgen"}}}


@pytest.mark.parametrize(
    ("given", "lengths", "seeds"),
    [
        ({"lengths": 20, "seeds": 2}, (20.0,), (0, 1)),
        ({"lengths": "10, 20", "seeds": "7, 8"}, (10.0, 20.0), (7, 8)),
        ({"lengths": np.array([10]), "seeds": np.array([7, 8])}, (10.0,), (7, 8)),
    ],
)
def test_a_study_takes_one_length_and_one_story(given, lengths, seeds):
    design = design_of({**DESIGN, "stories": "A lighthouse.", **given}, {})
    assert (design.lengths, design.seeds, len(design.stories)) == (lengths, seeds, 1)


def test_what_is_no_number_is_said_with_its_field():
    with pytest.raises(InvalidRequest, match=r"lengths.*'long' is not seconds from 1 to 600"):
        design_of({**DESIGN, "stories": ["x"], "lengths": "long"}, {})
