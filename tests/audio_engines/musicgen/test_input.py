"""What a researcher may ask of MusicGen, and what is refused: settings, lengths, recordings."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.recordings import convert_channels, read_recording
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.errors import ErrorCode, InvalidRequest
from tests.audio_engines.musicgen.songs import engine, plan, render

pytestmark = pytest.mark.usefixtures("one_thread")

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * 16000) / 16000)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def recording(tmp_path):
    def write(samples=TONE, rate=16000, subtype="PCM_16", name="melody.wav"):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arrangement", "solo"), ("guidance", "melody"), ("dtype", "float64"), ("decoder", "slow"), ("top_k", -1),
        ("top_k", 2.5), ("top_p", 1.5), ("top_p", -0.1), ("temperature", -1), ("temperature", float("nan")),
        ("cfg_coef", float("inf")), ("cfg_coef", "3"), ("extend_stride", 0), ("extend_stride", 30),
        ("device", "cuda:x"),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named_with_its_range(name, value):
    with pytest.raises(InvalidRequest) as raised:
        Settings.of({name: value})
    assert raised.value.details["fields"] == [name]
    assert raised.value.hint.startswith("Choose")


def test_a_setting_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(InvalidRequest, match="'volume'") as raised:
        Settings.of({"volume": 11})
    assert "cfg_coef" in raised.value.hint


def test_settings_survive_their_record(recording):
    settings = Settings.of({"top_k": 5, "melody": str(recording()), "prompt": "warm"})
    assert Settings.of(settings.to_json()) == settings


def test_settings_that_exclude_each_other_are_refused(recording):
    with pytest.raises(InvalidRequest, match="not both"):
        Settings.of({"melody": recording(), "guidance": "plan"})
    with pytest.raises(InvalidRequest, match="instrument by instrument"):
        Settings.of({"continue_from": recording(), "arrangement": "stems"})


def test_a_prompt_of_a_hundred_kilobytes_is_refused():
    with pytest.raises(InvalidRequest, match="100,000 characters"):
        Settings(prompt="x" * 100_000)


def test_a_top_k_beyond_the_vocabulary_is_refused_and_the_engine_goes_on(checkpoint):
    with pytest.raises(InvalidRequest, match="top_k 513") as raised:
        render(engine(checkpoint("tiny"), top_k=513))
    assert raised.value.hint == "Choose 0 to 512."
    assert render(engine(checkpoint("tiny"), top_k=512))


def test_a_song_without_instruments_is_refused(checkpoint):
    with pytest.raises(InvalidRequest, match="a part at least"):
        render(engine(checkpoint("tiny")), replace(plan(), parts=()))


def corrupt(path):
    path.write_bytes(b"RIFF" + bytes(range(256)))


def truncated(path):
    soundfile.write(path, TONE, 16000, format="FLAC")
    path.write_bytes(path.read_bytes()[:30])


def silent(path):
    soundfile.write(path, 0 * TONE, 16000)


def empty(path):
    soundfile.write(path, TONE[:0], 16000)


def not_a_number(path):
    soundfile.write(path, np.full(1000, np.nan, np.float32), 16000, subtype="FLOAT")


def missing(path):
    pass


def a_folder(path):
    path.mkdir()


@pytest.mark.parametrize("field", ["melody", "continue_from"])
@pytest.mark.parametrize("spoil", [corrupt, truncated, silent, empty, not_a_number, missing, a_folder])
def test_a_recording_that_is_none_is_refused_and_the_engine_goes_on(checkpoint, tmp_path, field, spoil):
    path = tmp_path / "melody.wav"
    spoil(path)
    with pytest.raises(InvalidRequest, match=r"melody\.wav") as raised:
        render(engine(checkpoint("tiny-melody"), **{field: path}))
    assert raised.value.code == ErrorCode.INVALID_PAYLOAD
    assert raised.value.details["fields"] == [field]
    assert render(engine(checkpoint("tiny-melody")))


@pytest.mark.parametrize(
    ("channels", "subtype"), [(1, "PCM_U8"), (2, "PCM_24"), (6, "PCM_16"), (6, "FLOAT"), (3, "PCM_16")]
)
def test_eight_bits_and_six_channels_are_recordings_too(checkpoint, recording, channels, subtype):
    path = recording(np.tile(TONE[:, None], (1, channels)), subtype=subtype)
    for field in ("melody", "continue_from"):
        mine = engine(checkpoint("tiny-melody"), **{field: path})
        assert render(mine, plan(4.0))[0].audio.shape == (1, 4 * 32000)
    assert mine.record()["continuedSeconds"] == 3


def test_a_recording_guides_a_melody_model_and_no_other(checkpoint, recording):
    path = recording()
    mine = engine(checkpoint("tiny-melody"), melody=path)
    here = render(mine)[0].audio
    assert mine.record()["guidance"] == "the recording melody.wav"
    higher = recording(np.sin(np.arange(len(TONE)) / 5).astype(np.float32), name="higher.wav")
    assert not np.array_equal(here, render(engine(checkpoint("tiny-melody"), melody=higher))[0].audio)
    with pytest.raises(InvalidRequest, match="no melody conditioner"):
        render(engine(checkpoint("tiny"), melody=path))


@pytest.mark.parametrize("size", ["tiny", "tiny-stereo"])
def test_a_song_goes_on_from_a_recording(checkpoint, recording, size):
    import torch

    path = recording()
    mine = engine(checkpoint(size), continue_from=path)
    (stem,) = render(mine, plan(5.0))
    codec = MODELS.peek(mine._choice).musicgen.compression_model
    audio, _ = read_recording(path, field="continue_from")
    with torch.inference_mode():
        from audiocraft.data.audio_utils import convert_audio

        codes, _ = codec.encode(
            convert_audio(torch.from_numpy(convert_channels(audio, codec.channels))[None], 16000, 32000, codec.channels)
        )
        decoded = codec.decode(codes)[0].numpy()
    heard = 2 * 32000  # a second before the recording's end: what follows sounds into it
    np.testing.assert_allclose(stem.audio[:, :heard], decoded[:, :heard], atol=1e-5)


def test_a_long_recording_is_continued_from_its_end_and_beyond_a_window(checkpoint, recording):
    path = recording(np.tile(TONE, 6))
    mine = engine(checkpoint("tiny"), continue_from=path)
    assert render(mine, plan(35.0))[0].audio.shape[1] == 35 * 32000
    assert mine.record()["continuedSeconds"] == 12
    with pytest.raises(InvalidRequest, match="not longer than the recording"):
        render(mine, plan(5.0))


def test_channels_are_folded_as_broadcasters_do():
    surround = np.eye(6, dtype=np.float32)  # one channel at a time
    left, right = convert_channels(surround, 2)
    assert left[0] > left[2] == left[4] > 0
    assert right[1] > right[2] == right[5] > 0
    assert left[3] == right[3] == left[1] == right[0] == 0
    assert np.abs(convert_channels(np.ones((6, 4), np.float32), 2)).max() <= 1
    assert convert_channels(np.ones((1, 4), np.float32), 2).shape == (2, 4)
    assert convert_channels(np.ones((5, 4), np.float32), 1).shape == (1, 4)
