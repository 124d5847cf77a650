"""One song's own settings of the audio engine: they beat the lab's, are checked before anything starts, are recorded as
asked and as used, and are the same at every further attempt."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harmonia_lab import Lab
from harmonia_lab.audio_options import known_options, option_value
from harmonia_lab.engines.base import Remedy
from harmonia_lab.engines.song_options import song_option, song_options, with_song_options
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.generation.recovery_plans import RecoveryLimits
from harmonia_lab.generation.stem_cache import stems_key
from harmonia_lab.music.composing import compose
from harmonia_lab.protocol.models import SongRequest, parse_request
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine

ASKED = {"metadata": SONG_METADATA, "seconds": 1, "seed": 7}
SONG = ASKED | {"progress": False}


@pytest.fixture
def lab_of(tmp_path):
    labs = []

    def make(audio=None, **options):
        given = {"metadata": FakeMetadataEngine(), "songs": tmp_path / "songs", "home": tmp_path / "home"} | options
        labs.append(Lab(audio=audio or FakeAudioEngine(sample_rate=8000), **given))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "tune.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(800) / 5), 8000)
    return path


def test_a_songs_options_beat_the_labs_and_those_of_the_next_song_are_the_labs_again(lab_of):
    lab = lab_of()
    plain = lab.compose(**SONG)
    other = lab.compose(**SONG, audio_options={"pitch": 440})
    again = lab.compose(**SONG, audio_options={"pitch": None})
    assert plain.checksum == again.checksum != other.checksum
    asked, used = (read_record(Path(other.directory))[part] for part in ("request", "engines"))
    assert asked["audioOptions"] == {"pitch": 440}
    assert used["audio"]["settings"] == {"pitch": 440.0}
    assert "audioOptions" not in read_record(Path(again.directory))["request"]
    assert [row["audio_options"] for row in lab.log.rows()] == [None, '{"pitch": 440}', None]


def test_the_record_makes_the_same_bytes_again(lab_of, recording):
    song = lab_of().compose(**SONG, audio_options={"pitch": 330.0, "melody": recording})
    assert lab_of().verify(song.directory, rerun=True).ok


@pytest.mark.parametrize(
    ("audio", "options", "field", "says"),
    [
        ("sketch", {"cfg_coef": 5.0}, "cfg_coef", "Engines that take it: musicgen"),
        ("sketch", {"negative_prompt": "drums"}, "negative_prompt", "diffusers, musicgen"),
        (None, {"cfg_coef": 5.0}, "cfg_coef", "The fake engine takes no cfg_coef"),
        (None, {"pich": 5.0}, "pich", "Known: "),
        ("sketch", {"cfg_coeff": 5.0}, "cfg_coeff", "Did you mean cfg_coef?"),
        (None, {"pitch": "high"}, "pitch", "a number"),
        (None, {"pitch": True}, "pitch", "a number"),
        (None, {"pitch": 5}, "pitch", "20…2000"),
        (None, {"prompt": 5}, "prompt", "a text"),
        (None, {"melody": "nowhere.wav"}, "melody", "does not exist"),
        (None, {"pitch": [1]}, "audio_options.pitch", "a text, a number, true or false"),
        (None, {"pitch": float("nan")}, "audio_options.pitch", "finite"),
        (None, {"prompt": "x" * 5000}, "audio_options.prompt", "at most 4,096"),
        (None, {"Pitch!": 1}, "audio_options.Pitch!.[key]", "pattern"),
    ],
    ids=str,
)
def test_what_an_engine_does_not_take_is_refused_before_stage_1_with_its_name(lab_of, audio, options, field, says):
    writer = FakeMetadataEngine()
    lab = lab_of(audio, metadata=writer)
    with pytest.raises(InvalidRequest) as caught:
        lab.submit("A story.", audio_options=options)
    assert caught.value.code == ErrorCode.INVALID_PAYLOAD
    assert caught.value.details["fields"] == [field]
    assert says in str(caught.value)
    assert (writer.seeds, lab.journal.jobs()) == ([], [])


def test_another_engine_for_the_song_is_the_one_that_is_asked(lab_of):
    with pytest.raises(InvalidRequest, match="The sketch engine takes no pitch"):
        lab_of().submit("A story.", audio="sketch", audio_options={"pitch": 440})
    song = lab_of("sketch").compose(**SONG, audio=FakeAudioEngine(), audio_options={"pitch": 440})
    assert song.engines["audio"] == "fake"


def test_a_recording_is_named_by_its_absolute_path_from_then_on(lab_of, recording, monkeypatch):
    monkeypatch.chdir(recording.parent)
    lab = lab_of()
    song = lab.compose(**SONG, audio_options={"melody": recording.name})
    assert read_record(Path(song.directory))["request"]["audioOptions"] == {"melody": str(recording)}
    assert lab.journal.request(song.generation_id).audio_options == {"melody": str(recording)}


def test_a_retry_in_another_lab_and_a_recovery_have_the_same_options(lab_of):
    straight = lab_of().compose(**SONG, audio_options={"pitch": 440})
    remedied = FakeAudioEngine(sample_rate=8000, errors=[AudioError("It broke.")], remedies=[Remedy("restart", "…")])
    assert lab_of(remedied).compose(**SONG, audio_options={"pitch": 440}).checksum == straight.checksum
    broken = FakeAudioEngine(sample_rate=8000, errors=[AudioError("It broke.")])
    lab = lab_of(broken, limits=TimeLimits(recovery=RecoveryLimits(attempts=0)))
    job = lab.submit(**ASKED, generation_id="again", audio_options={"pitch": 440})
    with pytest.raises(HarmoniaError):
        job.result(60)
    lab.close()
    song = lab_of().retry("again").result(60)
    assert song.checksum == straight.checksum
    assert read_record(Path(song.directory))["engines"]["audio"]["settings"] == {"pitch": 440.0}


def test_a_retry_with_an_engine_that_does_not_take_them_is_refused(lab_of):
    lab = lab_of(
        FakeAudioEngine(errors=[AudioError("It broke.")]), limits=TimeLimits(recovery=RecoveryLimits(attempts=0))
    )
    job = lab.submit("A story.", seconds=1, audio_options={"pitch": 440})
    with pytest.raises(HarmoniaError):
        job.result(60)
    with pytest.raises(InvalidRequest, match="The sketch engine takes no pitch"):
        lab.retry(job.id, audio="sketch")


def test_finished_stems_of_other_options_are_not_taken():
    plan, engine = compose(SONG_METADATA, 1.0, seed=0), FakeAudioEngine()
    keys = {
        stems_key(plan, {}, engine.for_song(options).identity())
        for options in ({}, {"pitch": 440}, {"pitch": 441}, {"prompt": "calm"})
    }
    assert len(keys) == 4
    assert stems_key(plan, {}, engine.identity()) in keys


def test_the_stems_of_another_recording_under_the_same_name_are_not_taken():
    plan = compose(SONG_METADATA, 1.0, seed=0)
    one, other = ({"settings": {"melody": "/a.wav"}, "recordings": {"melody": digest}} for digest in ("1", "2"))
    assert stems_key(plan, {}, one) != stems_key(plan, {}, other)


def test_a_song_that_waits_gets_its_options_on_the_engine_that_takes_a_stuck_ones_place(tmp_path):
    stuck, fresh = FakeAudioEngine(), FakeAudioEngine()
    request = parse_request(narrative="A story.", seed=1, generation_id="waits", audio_options={"pitch": 440})
    generation = Generation(
        request,
        metadata_engine=FakeMetadataEngine(),
        audio_engine=stuck,
        folder=None,
        draw=None,
        emit=lambda event: None,
        log_row=lambda row: None,
    )
    assert generation.lent_engine is generation._metadata_engine
    generation.replace_engine(stuck, fresh)
    generation._stage = "audio"
    assert generation.lent_engine is fresh
    assert generation.engine_at_work.rendered is fresh.rendered
    assert generation.engine_at_work.settings.pitch == 440


def test_a_field_is_an_option_by_its_declaration_alone():
    @dataclass(frozen=True)
    class Settings:
        voices: int = song_option(1, "how many", int)
        loud: bool = song_option(False, "whether", bool)
        device: str = "cpu"

    found = [(each.name, each.type, each.per_song) for each in song_options(Settings)]
    assert found == [
        ("voices", int, True),
        ("loud", bool, True),
    ]
    assert with_song_options(Settings(device="gpu"), {"voices": 3, "loud": True}) == Settings(3, True, "gpu")
    with pytest.raises(InvalidRequest, match="No song can have its own device"):
        with_song_options(Settings(), {"device": "gpu"})
    with pytest.raises(InvalidRequest, match="voices should be a whole number"):
        with_song_options(Settings(), {"voices": 1.5})


def test_every_option_of_our_engines_is_known_with_its_type():
    known = known_options()
    names = [
        "prompt",
        "negative_prompt",
        "melody",
        "continue_from",
        "cfg_coef",
        "temperature",
        "top_k",
        "top_p",
        "two_step_cfg",
    ]
    assert known.keys() >= {*names}
    assert {name for name in names if known[name].type is Path} == {"melody", "continue_from"}
    assert all(option.help and option.per_song for option in known.values())


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("cfg_coef", " 5 ", 5.0), ("cfg_coef", 5, 5.0), ("top_k", "250", 250), ("top_k", 250.0, 250),
        ("two_step_cfg", "Yes", True), ("two_step_cfg", "false", False), ("prompt", " calm ", "calm"),
        ("cfg_coef", "much", "much"), ("top_k", "2.5", "2.5"), ("two_step_cfg", "perhaps", "perhaps"),
        ("not_an_option", "5", "5"),
    ],
)  # fmt: skip
def test_what_a_person_wrote_is_read_by_the_options_type_or_left_for_the_engine_to_refuse(name, written, value):
    found = option_value(name, written)
    assert (found, type(found)) == (value, type(value))


def test_requests_of_before_have_no_options_and_empty_ones_are_none():
    old = SongRequest.model_validate({"narrative": "A story.", "seconds": 20.0})
    assert old.audio_options is None
    assert parse_request(narrative="A story.", audio_options={}) == parse_request(narrative="A story.")
    assert "audioOptions" not in json.loads(old.to_json())
