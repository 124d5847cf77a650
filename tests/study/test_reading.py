"""A design is read from a file or a mapping, and everything that is wrong with it is said at once."""

import json
from collections import Counter

import pytest

from harmonia_lab.errors import ErrorCode, InvalidRequest
from harmonia_lab.study.configurations import combined, recorded, restored
from harmonia_lab.study.reading import design_of, from_record, read_design
from harmonia_lab.testing import SONG_METADATA

TOML = """
name = "decoders"
stories = ["One story.", { narrative = "Another.", bpm = 90 }, { metadata = "metadata.json" }]
seeds = 3
lengths = [2, 4.5]
primary = "cpu_s"
audio = "musicgen"

[configurations.fast]
audio_settings = { decoder = "fast" }

[configurations.reference]
audio_settings = { decoder = "reference" }
"""


def design(**fields):
    basis = {"stories": ["A story."], "primary": "cpu_s", "configurations": {"a": {}, "b": {"audio": "sketch"}}}
    return design_of(basis | fields, {})


def faults(**fields):
    with pytest.raises(InvalidRequest) as caught:
        design(**fields)
    return {each["field"]: each for each in caught.value.details["errors"]}


def test_a_toml_file_and_a_json_file_are_one_design(tmp_path):
    (tmp_path / "metadata.json").write_text(SONG_METADATA.model_dump_json(by_alias=True))
    (tmp_path / "d.toml").write_text(TOML)
    read = read_design(tmp_path / "d.toml", {"metadata": "embedded"})
    assert read.configurations["fast"] == {
        "metadata": "embedded",
        "audio": "musicgen",
        "audio_settings": {"decoder": "fast"},
    }
    assert [story.narrative for story in read.stories] == ["One story.", "Another.", ""]
    assert read.stories[2].metadata == SONG_METADATA
    assert (read.seeds, read.lengths) == ((0, 1, 2), (2.0, 4.5))
    # As an editor on Windows saves it.
    text = "\ufeff" + json.dumps(read.to_json(), indent=1).replace("\n", "\r\n")
    (tmp_path / "d.json").write_bytes(text.encode())
    assert read_design(tmp_path / "d.json", {}) == read


def test_every_fault_is_said_at_once_with_its_field_and_code():
    found = faults(
        configuratons={},
        stories=["fine", {"narrative": "x", "bpm": 3}, {"metadata": "nowhere.json"}, 5],
        seeds=[1, 1],
        lengths=[0],
        primary="cpu",
        claim="median",
        warm_up=1.5,
        configurations={"a": {"decoder": "fast"}, "b/c": {}, "d": 3},
    )
    assert found.keys() == {
        "configuratons", "stories.2.bpm", "stories.3.metadata", "stories.4", "seeds", "lengths", "primary", "claim",
        "warm_up", "configurations.a.decoder", "configurations.b/c", "configurations.d",
    }  # fmt: skip
    assert {each["code"] for each in found.values()} == {ErrorCode.INVALID_PAYLOAD}
    assert "Did you mean configurations?" in found["configuratons"]["message"]
    assert "Did you mean cpu_s?" in found["primary"]["message"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"primary": None}, "primary"),
        ({"stories": []}, "stories"),
        ({"configurations": {"alone": {}}}, "configurations"),
        ({"seeds": True}, "seeds"),
        ({"seeds": 10**6}, "seeds"),
        ({"lengths": [float("nan")]}, "lengths"),
        ({"smallest_ratio": 1}, "smallest_ratio"),
        ({"keep_songs": "no"}, "keep_songs"),
        ({"name": "../else"}, "name"),
        ({"audio_settings": "fast"}, "audio_settings"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_field(fields, field):
    assert field in faults(**fields)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.toml", b"stories = [", "is no TOML"),
        ("d.json", b"{", "is no JSON"),
        ("d.json", b"[1]", "holds no object"),
        ("d.toml", b"name = '\xff'", "byte 8"),
        ("d.yaml", b"name: x", "no .toml and no .json"),
        ("d.json", b"[" * 100_000, "is no JSON"),
        ("d.toml", None, "No such file"),
    ],
)
def test_a_file_that_is_no_design_is_refused_by_name(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=says) as caught:
        read_design(tmp_path / name, {})
    assert name in caught.value.message


def test_each_block_has_every_configuration_once_in_an_order_that_its_seed_draws():
    names = {"a": {}, "b": {}, "c": {}}
    blocks = design(seeds=200, lengths=[2, 3], configurations=names).blocks()
    assert [block.number for block in blocks] == list(range(1, 401))
    assert all(sorted(block.order) == ["a", "b", "c"] for block in blocks)
    assert blocks == design(seeds=200, lengths=[2, 3], configurations=names).blocks()
    other = design(seeds=200, lengths=[2, 3], configurations=names, order_seed=1).blocks()
    assert [block.order for block in blocks] != [block.order for block in other]
    # Six orders, each drawn 67 times of 400 with a standard deviation of 7.5.
    drawn = Counter(block.order for block in blocks)
    assert len(drawn) == 6
    assert all(35 < count < 100 for count in drawn.values())


def test_stories_and_lengths_come_once_before_the_next_seed():
    blocks = design(stories=["One.", "Two."], seeds=2, lengths=[2, 3]).blocks()
    assert [(b.seed, b.seconds, b.story) for b in blocks[:5]] == [
        (0, 2.0, 1), (0, 2.0, 2), (0, 3.0, 1), (0, 3.0, 2), (1, 2.0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"seeds": 4}, "4 blocks can't show any difference"),
        ({"seeds": 5}, "The level of 5 blocks is 93.75 %, not 96 %"),
        ({"seeds": 6, "configurations": {"a": {}, "b": {}, "c": {}}}, "The level of 6 blocks is 96.88 %, not 98 %"),
        ({"claim": "typical", "seeds": 9}, "from 10 blocks on; there are 9"),
        ({"primary": "audio_rss_peak_bytes"}, "keep_loaded = false"),
        ({"warm_up": 0}, "Without a warm-up"),
    ],
)
def test_what_a_design_cannot_show_is_said_before_it_runs(fields, says):
    assert any(says in caution for caution in design(**fields).cautions())


def test_a_design_without_such_limits_has_no_cautions():
    assert design(seeds=10).cautions() == []


def test_a_configuration_with_an_engine_of_its_own_takes_no_other_engines_model_and_settings():
    common = {"audio": "musicgen", "audio_model": "small", "audio_settings": {"decoder": "fast", "top_k": 1}}
    assert combined(common, {"audio": "sketch"}) == {"audio": "sketch"}
    assert combined(common, {"audio_settings": {"decoder": "int8"}}) == {
        "audio": "musicgen",
        "audio_model": "small",
        "audio_settings": {"decoder": "int8", "top_k": 1},
    }


def test_passwords_and_headers_are_not_recorded_and_a_repeated_study_needs_them_again():
    settings = {"host": "https://ann:secret@models.example", "headers": {"X-Key": "secret"}, "think": False}
    given = {"metadata": "ollama", "metadata_settings": settings}
    plain = recorded(given)
    assert "secret" not in json.dumps(plain)
    assert plain["metadata_settings"]["headers"] == ["X-Key"]
    assert restored("a", plain, given)["metadata_settings"]["headers"] == {"X-Key": "secret"}
    with pytest.raises(InvalidRequest, match="X-Key"):
        restored("a", plain, {})


def test_a_record_of_a_design_is_the_design_again_unless_an_engine_was_an_object():
    one = design(stories=[{"metadata": SONG_METADATA}, "Two."], lengths=[2], order_seed=7)
    assert from_record(json.loads(json.dumps(one.to_json())), {}) == one
    with pytest.raises(InvalidRequest, match="object"):
        from_record(design(configurations={"a": {}, "b": {"audio": object()}}).to_json(), {})


def test_a_sweep_is_a_configuration_for_each_combination_of_values():
    swept = {
        "sweep": {"cfg_coef": [1.5, 3], "two_step_cfg": [True, False]},
        "audio": "musicgen",
        "audio_model": "small",
    }
    found = design_of({"stories": ["A story."], "primary": "cpu_s", **swept}, {"audio_settings": {"top_k": 5}})
    assert list(found.configurations) == [
        "cfg_coef 1.5, two_step_cfg True", "cfg_coef 1.5, two_step_cfg False",
        "cfg_coef 3, two_step_cfg True", "cfg_coef 3, two_step_cfg False",
    ]  # fmt: skip
    assert found.configurations["cfg_coef 3, two_step_cfg False"] == {
        "audio": "musicgen",
        "audio_model": "small",
        "audio_settings": {"cfg_coef": 3, "two_step_cfg": False},
    }
    assert from_record(found.to_json(), {}) == found


@pytest.mark.parametrize(
    ("sweep", "field"),
    [
        ({}, "sweep"), ([1, 2], "sweep"), ({"cfg_coef": 3}, "sweep.cfg_coef"), ({"cfg_coef": []}, "sweep.cfg_coef"),
        ({"cfg_coef": [3, 3]}, "sweep"), ({"cfg_coef": [3]}, "configurations"),
    ],
)  # fmt: skip
def test_a_sweep_that_compares_nothing_is_a_fault(sweep, field):
    with pytest.raises(InvalidRequest) as caught:
        design_of({"stories": ["A story."], "primary": "cpu_s", "sweep": sweep}, {})
    assert field in {each["field"] for each in caught.value.details["errors"]}


def test_a_sweep_beside_configurations_is_a_fault():
    assert "sweep" in faults(sweep={"cfg_coef": [1, 2]})


def test_a_story_can_have_settings_of_the_audio_engine_with_recordings_beside_the_design(tmp_path):
    story = {"narrative": "A story.", "audio_options": {"cfg_coef": 4, "melody": "tune.wav"}}
    given = {"stories": [story], "primary": "cpu_s", "configurations": {"a": {}, "b": {"audio": "sketch"}}}
    found = design_of(given, {}, tmp_path)
    assert found.stories[0].audio_options == {"cfg_coef": 4, "melody": str(tmp_path / "tune.wav")}
