"""Sounds of a test are equally loud and long, as the listener's browser decodes them, and damaged ones are damaged."""

import io

import numpy as np
import pytest
import soundfile

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.loudness import loudness, treated
from harmonia_lab.listening.make import design_and_sounds
from tests.listening.songs import RATE, make_batch, make_song


def decoded(data):
    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return audio.T, rate


@pytest.mark.parametrize("sound", ["mp3", "flac"])
def test_all_sounds_are_equally_loud_anchors_and_damaged_ones_too(tmp_path, sound):
    make_batch(tmp_path, ("a", "b", "c"), seconds=1.5)
    made = design_and_sounds(tmp_path, "scales", reference="a", sound=sound)
    levels = [loudness(*decoded(data)) for data in made.sounds.values()]
    assert max(levels) - min(levels) < 0.3
    assert len(levels) == len(made.design.stimuli) > 9
    before = [facts["lufs"] for facts in made.design.sounds.values()]
    assert max(before) - min(before) > 5


def test_no_gain_passes_the_peak_limit(tmp_path):
    # A song of short peaks is soft by its loudness; turned up to others, it would clip.
    make_song(tmp_path / "a", engine="a", level=0.9)
    folder = make_song(tmp_path / "b", engine="b")
    clicks = np.zeros(RATE, np.float32)
    clicks[::400] = 0.99
    soundfile.write(folder / "song.flac", clicks, RATE, format="FLAC", subtype="PCM_16")
    made = design_and_sounds(tmp_path, "pairs", checks=0, sound="flac")
    sounds = [decoded(data) for data in made.sounds.values()]
    assert max(float(np.abs(audio).max()) for audio, _ in sounds) <= 10 ** (-1 / 20) + 0.01
    levels = [loudness(audio, rate) for audio, rate in sounds]
    assert abs(levels[0] - levels[1]) < 0.2


def test_a_blocks_sounds_have_one_length_and_are_the_part_that_was_asked_for(tmp_path):
    make_song(tmp_path / "a", engine="a", seconds=2.0)
    make_song(tmp_path / "b", engine="b", seconds=2.4)
    whole = design_and_sounds(tmp_path, "pairs", seconds=None, sound="flac")
    assert {decoded(data)[0].shape[1] for data in whole.sounds.values()} == {2 * RATE}
    part = design_and_sounds(tmp_path, "pairs", start=0.5, seconds=1.0, sound="flac")
    assert {decoded(data)[0].shape[1] for data in part.sounds.values()} == {RATE}
    with pytest.raises(InvalidRequest, match="too short"):
        design_and_sounds(tmp_path, "pairs", start=1.9)


def test_the_anchor_has_nothing_above_its_frequency_and_damage_is_heard():
    rate = 32_000
    noise = np.random.default_rng(1).standard_normal((2, rate)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(treated(noise, rate, "anchor")[0]))
    hertz = np.fft.rfftfreq(rate, 1 / rate)
    assert spectrum[hertz > 4000].max() < 1e-3 * spectrum[hertz < 3400].max()
    assert np.median(spectrum[hertz < 3400]) > 50
    tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate).astype(np.float32)[None]
    assert np.array_equal(treated(tone, rate, ""), tone)
    damaged = treated(tone, rate, "degraded") - tone
    assert 0.2 < float(np.sqrt(np.mean(damaged**2))) < 0.6


def test_silence_and_what_cannot_be_read_are_refused_with_the_folder(tmp_path):
    make_song(tmp_path / "a", engine="a")
    make_song(tmp_path / "b", engine="b", level=0.0)
    with pytest.raises(InvalidRequest, match=r"/b is silent"):
        design_and_sounds(tmp_path, "pairs")
    (tmp_path / "b" / "song.flac").write_bytes(b"no sound")
    with pytest.raises(InvalidRequest, match=r"b/song.flac can't be read"):
        design_and_sounds(tmp_path, "pairs")
    (tmp_path / "b" / "song.flac").unlink()
    with pytest.raises(InvalidRequest, match=r"b/song.flac can't be read"):
        design_and_sounds(tmp_path, "pairs")


def test_a_rate_that_mp3_has_not_is_refused_with_the_remedy(tmp_path):
    make_batch(tmp_path, rate=96_000, seeds=(1,))
    with pytest.raises(InvalidRequest, match="96000 Hz") as refused:
        design_and_sounds(tmp_path, "pairs")
    assert "flac" in refused.value.hint
    assert design_and_sounds(tmp_path, "pairs", sound="flac").sounds
