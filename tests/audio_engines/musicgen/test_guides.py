"""What guides a melody model: the plan's notes, for each stem its own; or a recording, whose sound is repeated."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from harmonia_lab.audio_engines.musicgen import rendering, windows
from harmonia_lab.audio_engines.musicgen.guides import recording_guide
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.spec import ENGINE
from harmonia_lab.errors import InvalidRequest
from tests.audio_engines.musicgen.songs import engine, plan, render, sectioned

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def melody(tmp_path):
    """melody(seconds): a recording of as many notes as fit, of 0.7 s each, in stereo."""

    def write(seconds, rate=22050):
        at = np.arange(int(seconds * rate)) / rate
        steps = np.random.default_rng(3).integers(0, 24, 99)[(at / 0.7).astype(int)]
        sound = 0.4 * np.sin(2 * np.pi * np.cumsum(220 * 2 ** (steps / 12)) / rate)
        soundfile.write(tmp_path / "melody.wav", np.stack([sound, 0.5 * sound], 1), rate, subtype="FLOAT")
        return tmp_path / "melody.wav"

    return write


@pytest.mark.parametrize(
    ("recorded_s", "seconds", "window_s"),
    [(0.8, 1.2, 30), (0.8, 3.5, 2), (2.9, 3.5, 2), pytest.param(8, 31, 30, marks=pytest.mark.stress)],
    ids=["within the window", "a short one", "one longer than the window", "8 s in a song of 31 s"],
)
def test_a_recorded_melody_gives_audiocrafts_tokens(checkpoint, melody, monkeypatch, recorded_s, seconds, window_s):
    path = melody(recorded_s)
    made = []
    generate = windows.generate_windows
    monkeypatch.setattr(windows, "generate_windows", lambda *a, **k: made.append(generate(*a, **k)) or made[-1])
    for module in ("engine", "rendering"):
        monkeypatch.setattr(f"harmonia_lab.audio_engines.musicgen.{module}.WINDOW_S", float(window_s))
    stride = 0.6 * window_s
    mine, song = engine(checkpoint("tiny-melody"), melody=path, extend_stride=stride), plan(float(seconds))
    render(mine, song)
    model = MODELS.peek(mine._choice).musicgen
    monkeypatch.setattr(model, "max_duration", float(window_s))
    model.set_generation_params(duration=float(seconds), extend_stride=stride)
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    from audiocraft.data.audio_utils import convert_audio

    # As `MusicGen.generate_with_chroma` does, up to the tokens.
    wav = convert_audio(torch.from_numpy(sound.T), rate, model.sample_rate, model.audio_channels)
    prompt = mine.record()["prompts"]["mix"]
    attributes, _ = model._prepare_tokens_and_attributes([prompt], None, [wav])
    (take,) = mine._takes(song.parts, song, {part.name: len(part.name) for part in song.parts})
    torch.manual_seed(take.seed)
    theirs = model._generate_tokens(attributes, None)
    assert torch.equal(made[0], theirs)


def test_a_longer_songs_windows_follow_the_repeated_sound(musicgen, melody):
    model = musicgen("tiny-melody")
    conditioner = model.lm.condition_provider.conditioners["self_wav"]
    path = melody(2.1)
    whole = recording_guide(path, conditioner, 50, frames=200, window=250)
    assert np.array_equal(whole(0), whole(100))
    long = recording_guide(path, conditioner, 50, frames=1000, window=250)
    assert np.array_equal(long(0), long(105))  # where the sound begins again
    assert not np.array_equal(long(0), long(50))
    assert len(long(0)) == pytest.approx(5 * conditioner.sample_rate / conditioner.chroma.winhop, abs=2)


def test_a_melody_model_follows_the_plan_and_drums_do_not(checkpoint):
    mine = engine(checkpoint("tiny-melody"), arrangement="stems")
    here, there = render(mine, plan(pitch=64)), render(mine, plan(pitch=69))
    same = [np.array_equal(a.audio, b.audio) for a, b in zip(here, there, strict=True)]
    assert same == [False, False, True]
    assert mine.record()["guidance"] == "the plan"
    assert mine.follows == {"prompt", "tempo", "key", "chroma"}
    free = engine(checkpoint("tiny-melody"), arrangement="stems", guidance="none")
    assert not np.array_equal(render(free)[1].audio, here[1].audio)
    assert free.record()["guidance"] == "none"
    assert free.follows == {"prompt", "tempo", "key"}


@pytest.fixture
def given(monkeypatch):
    """The chroma of each window's rows."""
    from harmonia_lab.audio_engines.musicgen import melody_guidance

    made = []
    guide = melody_guidance.guided_by_chroma
    monkeypatch.setattr(
        melody_guidance, "guided_by_chroma", lambda lm, a, chroma: made.append(chroma) or guide(lm, a, chroma)
    )
    return made


def chorale():
    """A plan whose parts hold different notes: A, B and D."""
    song = plan(0.5, ["piano", "flute", "bass guitar", "drums"])
    pitches = {"piano": 57, "flute": 71, "bass guitar": 38, "drums": 36}
    return replace(
        song, parts=tuple(replace(p, notes=(replace(p.notes[0], pitch=pitches[p.name]),)) for p in song.parts)
    )


def test_each_stem_follows_its_own_part_and_a_mix_the_whole_plan(checkpoint, given):
    mine, song = engine(checkpoint("tiny-melody"), arrangement="stems"), chorale()
    render(mine, song)
    piano, flute, bass, drums = given.pop()
    assert [chroma[2].argmax() for chroma in (piano, flute, bass)] == [9, 11, 2]
    assert drums is None
    assert mine.record()["chroma"] == "each stem's own part"
    mix = engine(checkpoint("tiny-melody"), guidance="plan")
    render(mix, song)
    ((whole,),) = given
    assert whole[2].argmax() == 11  # the lead's
    assert mix.record()["chroma"] == "all parts, the lead before the chords"
    assert mix.follows == {"prompt", "tempo", "key", "chroma"}


def test_adding_an_instrument_leaves_the_other_stems_as_they_were(checkpoint):
    mine, song = engine(checkpoint("tiny-melody"), arrangement="stems"), chorale()
    fewer = {s.name: s.audio for s in render(mine, replace(song, parts=song.parts[:1]))}
    more = {s.name: s.audio for s in render(mine, song)}
    np.testing.assert_allclose(more["piano"], fewer["piano"], atol=1e-5)
    assert len({audio.tobytes() for audio in more.values()}) == 4


@pytest.mark.parametrize(
    ("size", "settings", "warned"),
    [
        ("tiny", {"arrangement": "stems"}, True),
        ("tiny-melody", {"arrangement": "stems", "guidance": "none"}, True),
        ("tiny-melody", {"arrangement": "stems"}, False),
        ("tiny", {}, False),
    ],
)
def test_stems_without_a_common_chroma_come_with_a_warning_and_it_comes_once(checkpoint, size, settings, warned):
    mine, seen = engine(checkpoint(size), **settings), []
    render(mine, plan(0.3), progress=seen.append)
    statuses = [p.status for p in seen]
    assert statuses.count(rendering.NO_COMMON_BEAT) == (1 if warned else 0)
    assert mine.record().get("warnings", []) == [rendering.NO_COMMON_BEAT] * warned
    assert ("share no beat" in ENGINE.note(mine.record())) == warned


def test_the_guide_goes_on_in_later_windows(checkpoint, given, monkeypatch):
    for module in ("engine", "rendering"):
        monkeypatch.setattr(f"harmonia_lab.audio_engines.musicgen.{module}.WINDOW_S", 5.0)
    render(engine(checkpoint("tiny-melody"), windows="even", extend_stride=3), sectioned(6.0))
    first, second = (windows[0] for windows in given)
    step = round(3 * 32000 / 4096)
    assert np.array_equal(first[step : step + 40], second[:40])
    assert not np.array_equal(first[:40], second[:40])


def test_a_model_without_melody_conditioner_says_so(checkpoint):
    mine = engine(checkpoint("tiny"))
    render(mine)
    assert mine.record()["guidance"] == "none: this model has no melody conditioner"
    with pytest.raises(InvalidRequest, match="no melody conditioner"):
        render(engine(checkpoint("tiny"), guidance="plan"))
