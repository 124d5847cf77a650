"""Which audio engine a song gets: by name, by model, or as the lab chooses."""

import pytest

from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.testing import FakeAudioEngine


@pytest.fixture
def engines():
    made = []

    def make(choice="auto", model=None, **settings):
        made.append(AudioEngines(choice, model, settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("choice", [None, "auto", "musicgen"])
def test_a_model_without_an_engine_is_musicgens(engines, checkpoint, choice):
    lab = engines()
    folder = str(checkpoint("tiny"))
    engine = lab.get(choice, folder)
    assert lab.chosen.name == "sketch"
    assert (engine.name, engine.identity()["model"]) == ("musicgen", folder)
    assert lab.get(choice, folder) is engine


def test_a_model_is_refused_for_an_engine_that_was_named_and_has_none(engines):
    with pytest.raises(InvalidRequest, match="sketch has no model"):
        engines().get("sketch", "small")


def test_a_song_that_says_nothing_gets_the_labs_own(engines):
    lab = engines(FakeAudioEngine())
    assert lab.get().name == lab.get("auto").name == "fake"
    assert lab.get("sketch").name == "sketch"
    assert lab.get("auto", "fake") is lab.chosen


def test_auto_is_musicgen_where_a_model_or_a_setting_is_given(engines, checkpoint):
    assert engines(model=str(checkpoint("tiny"))).chosen.name == "musicgen"
    assert engines(arrangement="stems").chosen.name == "musicgen"
    assert engines().chosen.name == "sketch"


def test_settings_for_the_sketch_engine_and_unknown_names_are_refused(engines):
    with pytest.raises(InvalidRequest, match="sketch engine has no settings"):
        engines("sketch", arrangement="stems")
    with pytest.raises(InvalidRequest, match="There is no audio engine"):
        engines("organ")
    with pytest.raises(InvalidRequest, match="There is no audio engine"):
        engines().get("organ")
