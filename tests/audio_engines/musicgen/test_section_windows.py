"""A song by sections: which prompt makes which window, whose tokens they are, where sections meet, how it sounds."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from harmonia_lab.audio_engines.musicgen import (
    encodec_stream,
    melody_guidance,
    plan_sections,
    section_windows,
    stem_sound,
)
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.encodec_stream import CodecStream
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.section_windows import margins_of, plan_section_windows
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled
from harmonia_lab.music.composing import compose
from tests.audio_engines.musicgen.songs import engine, plan, render, sectioned
from tests.audio_engines.musicgen.test_joins import clicks, rms

pytestmark = pytest.mark.usefixtures("one_thread")

BARS = [("intro", 1, 0.3), ("chorus", 2, 0.85), ("outro", 1, 0.4)]
"""Sections at 0, 2.5 and 7.5 s of a song of 10 s."""


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def tiny(checkpoint):
    return checkpoint("tiny")


@pytest.fixture
def short(monkeypatch):
    """A song of 5 s by sections of 2.5 s, and windows of 5 s: what is done is the same, with fewer tokens."""
    for module in ("engine", "rendering"):
        monkeypatch.setattr(f"harmonia_lab.audio_engines.musicgen.{module}.WINDOW_S", 5.0)
    monkeypatch.setattr(plan_sections, "LEAST_S", 2.5)
    return sectioned(5.0, BARS[::2])


class Watched:
    """Calls of the decoder, the codes of whole pieces, and progress, while it is installed."""

    def __init__(self, monkeypatch):
        self.calls, self.pieces, self.progress = [], [], []
        generate, sections = Decoder.generate, section_windows.generate_sections

        def record(decoder, prompt, conditions, **options):
            codes = generate(decoder, prompt, conditions, **options)
            self.calls.append((conditions, prompt, options["max_gen_len"], codes))
            return codes

        def piece(*given, **options):
            self.pieces.append(sections(*given, **options))
            return self.pieces[-1]

        monkeypatch.setattr(Decoder, "generate", record)
        monkeypatch.setattr(section_windows, "generate_sections", piece)

    @property
    def texts(self):
        return [conditions[0].text["description"].partition(" of a")[0] for conditions, *_ in self.calls]


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


@pytest.mark.parametrize("window", [1500, 750, 500])
@pytest.mark.parametrize("stride_s", [0.5, 18, 29.5])
@pytest.mark.parametrize("prompt", [0, 5, 300])
def test_the_windows_reach_every_end_and_none_is_longer_than_the_models(window, stride_s, prompt):
    margins = margins_of(window, 50)
    stride = max(1, min(window - 1, round(window * stride_s / 30)))
    for ends in ([1000], [250, 3000], [600, 900, 2300, 2600], [217, 433, 650, 6000]):
        windows = plan_section_windows(ends, window=window, stride=stride, margins=margins, prompt=prompt)
        assert windows[-1].end == ends[-1]
        assert [w.end for w in windows] == sorted({w.end for w in windows})
        assert all(w.joins == (w.end in ends[:-1]) for w in windows)
        at, joined = prompt, False
        for each in windows:
            # A join moves the place where the next window goes on by as much as its margins allow.
            for moved in (at - margins.reach - margins.overlap, at) if joined else (at,):
                shape = section_windows._shape(each, moved, window, stride, margins)
                assert 0 < shape.length <= window
                assert 0 <= shape.known < shape.length
                assert shape.start + shape.known == moved
            at, joined = each.end, each.joins


def test_a_section_is_left_out_where_a_continued_recording_leaves_too_little_of_it():
    windows = plan_section_windows([300, 900], window=1500, stride=900, margins=margins_of(1500, 50), prompt=200)
    assert [(w.section, w.end) for w in windows] == [(1, 900)]


def test_a_song_by_sections(tiny, short, watched, musicgen):
    """Prompts, tokens, sound and record of one song, which is made once for all of them."""
    mine = engine(tiny, windows="plan", temperature=0, extend_stride=3)
    (stem,) = render(mine, short, progress=watched.progress.append)
    record, calls = mine.record(), watched.calls
    assert stem.audio.shape == (1, 5 * 32000)

    # Each window has its section's prompt, and goes on from what is there, a crossfade before the border.
    assert watched.texts == ["Soft intro", "Soft ending"]
    assert [s["prompt"].partition(" of a")[0] for s in record["sections"]] == watched.texts
    (join,) = record["joins"]
    begin = round((join["seconds"] - join["overlapSeconds"]) * 50)
    margins = margins_of(250, 50)
    assert [length for _, _, length, _ in calls] == [125 + margins.look, 250]
    assert calls[1][1].shape[-1] == begin == 125 - margins.overlap
    assert torch.equal(calls[1][1], calls[0][3][..., :begin])
    assert torch.equal(watched.pieces[0], calls[1][3])

    # The tokens are audiocraft's for this prompt and what is known.
    lm = musicgen("tiny").lm
    for conditions, prompt, length, codes in calls:
        theirs = lm.generate(prompt, conditions, max_gen_len=length, use_sampling=False, cfg_coef=3.0)
        assert torch.equal(codes, theirs)

    # Random weights make noise: no beat is clear, and it doesn't end by itself.
    assert (join["plannedSeconds"], join["seconds"], join["measuredBpm"]) == (2.5, 2.5, None)
    assert join["on"] == "the planned border: no beat is clear here"
    assert record["ending"] == "faded out over 1.25 s"
    assert rms(stem.audio[:, -3200:]) < 0.1 * rms(stem.audio[:, : 3 * 32000])

    # But for crossfade and ending, the sound is that of the tokens.
    with torch.inference_mode():
        whole = MODELS.peek(mine._choice).musicgen.compression_model.decode(watched.pieces[0])[0].numpy()
    overlap = join["overlapSeconds"]
    for start, end in ((0, 2.4 - overlap), (2.5, 3.75)):
        first, last = round(start * 32000), round(end * 32000)
        np.testing.assert_allclose(stem.audio[:, first:last], whole[:, first:last], atol=1e-5)
    faded = slice(round((2.5 - 0.7 * overlap) * 32000), round((2.5 - 0.3 * overlap) * 32000))
    assert not np.allclose(stem.audio[:, faded], whole[:, faded], atol=1e-3)

    # Previews add up to it, and progress never goes back.
    previews = [p.preview for p in watched.progress if p.preview is not None]
    assert [p.start for p in previews] == list(np.cumsum([0] + [p.audio.shape[1] for p in previews])[:-1])
    assert np.array_equal(np.concatenate([p.audio for p in previews], axis=1)[:, : stem.audio.shape[1]], stem.audio)
    fractions = [p.fraction for p in watched.progress]
    assert fractions == sorted(fractions)
    assert max(fractions[:-1]) <= 1


def test_the_same_seed_makes_the_same_song_by_sections(tiny, short):
    first, again = (render(engine(tiny, windows="plan"), short, seed=7)[0].audio for _ in range(2))
    assert np.array_equal(first, again)


class ClickStream(CodecStream):
    """A codec whose sound is a click track, whatever the tokens; each has as much as its frames, as EnCodec."""

    at = 0

    def push(self, codes, *, last=False):
        samples = codes.shape[-1] * 640
        track = clicks(100, 60, 0.3)[:, self.at : self.at + samples]
        self.at += samples
        return torch.from_numpy(track)[None]


def test_sections_of_a_song_with_a_beat_meet_on_one(tiny, monkeypatch):
    monkeypatch.setattr(plan_sections, "LEAST_S", 2.5)
    monkeypatch.setattr(encodec_stream, "CodecStream", ClickStream)
    mine = engine(tiny, windows="plan")
    (stem,) = render(mine, sectioned(8.0, [("intro", 2, 0.3), ("outro", 2, 0.4)]))
    (join,) = mine.record()["joins"]
    assert join["plannedSeconds"] == 5
    assert join["measuredBpm"] == pytest.approx(100, rel=0.02)
    assert join["seconds"] == pytest.approx(0.3 + 8 * 0.6, abs=0.03)
    assert join["overlapSeconds"] == pytest.approx(0.6, abs=0.04)
    # Both sides of a crossfade are the same track, so nothing is heard of it; and the last click is over.
    np.testing.assert_allclose(stem.audio, clicks(100, 8, 0.3), atol=1e-4)
    assert mine.record()["ending"] == "by itself"


def test_a_cancel_while_a_beat_is_looked_for_is_heard(tiny, short, monkeypatch):
    cancel = CancelToken()
    ahead = stem_sound.StemSound.preview_of
    monkeypatch.setattr(stem_sound.StemSound, "preview_of", lambda *a: cancel.cancel() and ahead(*a))
    with pytest.raises(Cancelled):
        render(engine(tiny, windows="plan"), short, cancel=cancel)


def test_a_song_beyond_the_window_is_even_where_that_is_asked_for(tiny, short, watched):
    mine = engine(tiny, windows="even")
    render(mine, sectioned(5.5, BARS))
    assert watched.texts == ["A nostalgic folk song with piano, flute and drums. bpm: 96. key: A minor"] * 2
    assert not {"sections", "joins", "ending"} & mine.record().keys()


@pytest.mark.stress
def test_a_melody_models_chroma_goes_on_through_the_sections(checkpoint, short, watched, monkeypatch):
    given = []
    guide = melody_guidance.guided_by_chroma
    monkeypatch.setattr(
        melody_guidance, "guided_by_chroma", lambda lm, a, chroma: given.append(chroma[0]) or guide(lm, a, chroma)
    )
    mine = engine(checkpoint("tiny-melody"), extend_stride=3)
    render(mine, sectioned(6.0, BARS[::2]))
    assert len(mine.record()["joins"]) == 1
    assert len(given) == len(watched.calls) == 3
    start = round((6 - watched.calls[-1][2] / 50) * 32000 / 4096)  # of the last window, in frames of chroma
    assert start > 8
    assert np.array_equal(given[0][start : start + 40], given[-1][:40])


@pytest.mark.stress
def test_audiocrafts_own_loop_makes_the_same_song_by_sections(tiny, short):
    sounds = [
        render(engine(tiny, windows="plan", decoder=mode, temperature=0), short)[0].audio
        for mode in ("fast", "reference")
    ]
    np.testing.assert_allclose(*sounds, atol=1e-4)
    MODELS.unload()


@pytest.mark.stress
def test_a_recording_is_continued_by_sections(tiny, short, watched, tmp_path):
    soundfile.write(tmp_path / "before.wav", clicks(100, 4)[0], 32000)
    mine = engine(tiny, continue_from=tmp_path / "before.wav", extend_stride=3)
    (stem,) = render(mine, sectioned(10.0, BARS))
    assert stem.audio.shape[1] == 320_000
    assert mine.record()["continuedSeconds"] == 2.5
    assert watched.texts == ["Full chorus", "Full chorus", "Soft ending"]  # the intro is the recording
    assert watched.calls[0][1].shape[-1] == 100  # of 125


@pytest.mark.stress
@pytest.mark.parametrize("size", ["tiny", "tiny-stereo", "tiny-melody"])
@pytest.mark.parametrize("seconds", [40, 90, 200])
def test_long_composed_songs_are_as_long_as_asked(checkpoint, size, seconds):
    metadata = plan().metadata.model_copy(
        update={"lyrics": "[Verse 1]\nThe lamp is low\nThe tide is slow\n\n[Chorus]\nCome home, come home\nOver foam"}
    )
    song = replace(compose(metadata, float(seconds), seed=3), metadata=metadata)
    mine, seen = engine(checkpoint(size)), []
    (stem,) = render(mine, song, progress=seen.append)
    assert stem.audio.shape[1] == seconds * 32000
    assert np.isfinite(stem.audio).all()
    record = mine.record()
    assert len(record["joins"]) == len(record["sections"]) - 1
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert max(np.diff(fractions)) < 0.5
