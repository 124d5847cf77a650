"""The sounds of a listening test: excerpts of equal length and loudness, anchors and damaged copies, encoded.

Owns what is done to a song before it is heard blind. Loudness is the integrated one of ITU-R BS.1770, by the meter that
masters the songs (`audio_engines/mixing/loudness.py`). Every sound of a test is brought to one loudness, that of the
softest, or less where a true peak would pass −1 dBTP; so a gain never clips.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers, true_peak
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.design import Stimulus, Treatment

__all__ = ["FORMATS", "Excerpt", "SoundFormat", "encoded_sounds", "excerpts", "loudness", "read_excerpt", "treated"]

SoundFormat = Literal["mp3", "flac"]
FORMATS: tuple[SoundFormat, ...] = ("mp3", "flac")
"""mp3: small. flac: what was rendered, bit for bit but for the gain: for tests of codecs, models and mixes by ear."""

COMPRESSION = 0.35
"""Of MP3 on libsndfile's scale, 0…1: about 190 kbit/s in stereo, so that the codec isn't what is heard."""

PEAK_DBTP = -1.0
TOLERANCE_LU = 0.1
FADE_S = 0.01
"""Seconds of the fades at an excerpt's ends: a cut in the middle of a wave would click."""

LEAST_S = 0.5
ANCHOR_HZ = 3500.0
"""The low anchor of ITU-R BS.1534-3, a low-pass of 3.5 kHz."""

DAMAGE_HZ, DAMAGE_NOISE_DB = 600.0, -6.0
"""A check's damage: a low-pass that takes the words away, and white noise of half of the song's amplitude."""

SoundArray: TypeAlias = NDArray[np.float32]
"""[channels, frames]."""


@dataclass(frozen=True)
class Excerpt:
    """Where the sounds of a block begin, and how long they are, in seconds: for all of a block alike, since a length
    would tell which one it is."""

    start: float
    seconds: float


def excerpts(stimuli: Sequence[Stimulus], start: float, seconds: float | None) -> dict[str, Excerpt]:
    """Return the excerpt of each block: at most `seconds`, and no longer than its shortest song.

    Raises InvalidRequest for a sound that can't be read, or that ends before LEAST_S after `start`.
    """
    found: dict[str, Excerpt] = {}
    for each in stimuli:
        length = _length(Path(each.folder) / "song.flac") - start
        if length < LEAST_S:
            raise InvalidRequest(
                f"{each.folder} is too short: of its sound, {max(0.0, length):.3g} s are left after {start:g} s.",
                hint="Take a smaller start.",
            )
        known = found.get(each.block)
        found[each.block] = Excerpt(start, min(length, seconds or length, known.seconds if known else length))
    return found


def _length(path: Path) -> float:
    try:
        facts = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InvalidRequest(
            f"{path} can't be read ({error}).", hint="`harmonia verify` says what a song's folder lacks."
        ) from None
    return float(facts.frames / facts.samplerate)


def read_excerpt(path: Path, excerpt: Excerpt) -> tuple[SoundArray, int]:
    """Return sound and sample rate of an excerpt, faded at both ends. Raises InvalidRequest."""
    try:
        with soundfile.SoundFile(path) as source:
            rate = int(source.samplerate)
            source.seek(round(excerpt.start * rate))
            audio = source.read(round(excerpt.seconds * rate), dtype="float32", always_2d=True).T
    except (OSError, soundfile.LibsndfileError) as error:
        raise InvalidRequest(f"{path} can't be read ({error}).") from None
    faded: SoundArray = np.ascontiguousarray(audio[:2])
    fade = np.linspace(0, 1, max(2, round(FADE_S * rate)), dtype=np.float32)[: faded.shape[1]]
    faded[:, : len(fade)] *= fade
    faded[:, -len(fade) :] *= fade[::-1]
    return faded, rate


def treated(audio: SoundArray, rate: int, treatment: Treatment) -> SoundArray:
    """Return the sound as an anchor or a check has it."""
    if not treatment:
        return audio
    low = _low_pass(audio, rate, ANCHOR_HZ if treatment == "anchor" else DAMAGE_HZ)
    if treatment == "anchor":
        return low
    noise = np.random.default_rng(0).standard_normal((audio.shape[1],)).astype(np.float32)
    power = float(np.sqrt(np.mean(np.square(audio)))) * 10 ** (DAMAGE_NOISE_DB / 20)
    damaged: SoundArray = low + power * noise
    return damaged


def _low_pass(audio: SoundArray, rate: int, hertz: float) -> SoundArray:
    """Return the sound without what is above `hertz`; the edge is a cosine, a sixth of an octave wide."""
    spectrum = np.fft.rfft(audio)
    frequencies = np.fft.rfftfreq(audio.shape[1], 1 / rate)
    position = np.clip(np.log2(np.maximum(frequencies, 1e-9) / hertz) * 6, 0, 1)
    return np.fft.irfft(spectrum * (0.5 + 0.5 * np.cos(np.pi * position)), audio.shape[1]).astype(np.float32)


def loudness(audio: SoundArray, rate: int) -> float:
    """Return the integrated loudness in LUFS; −∞ for silence."""
    return integrated_loudness(segment_powers(audio, rate, CancelToken()))


def encoded_sounds(
    stimuli: Sequence[Stimulus], places: Mapping[str, Excerpt], sound_format: SoundFormat
) -> Iterator[tuple[Stimulus, bytes, dict[str, float]]]:
    """Yield each stimulus with its encoded sound, and what was measured: lufs before, gain_db, seconds.

    Raises InvalidRequest for silence, or a rate that MP3 doesn't have.
    """
    levels = [_measured(each, places[each.block]) for each in stimuli]
    # An anchor may have next to nothing left, of a song of cymbals for one: it must not turn all others down.
    target = min(
        min(lufs, lufs - peak + PEAK_DBTP)
        for each, (lufs, peak) in zip(stimuli, levels, strict=True)
        if each.treatment != "anchor"
    )
    for each, (lufs, peak) in zip(stimuli, levels, strict=True):
        audio, rate = _sound(each, places[each.block])
        gain = min(target - lufs, PEAK_DBTP - peak)
        data = _encode(_turned(audio, gain), rate, sound_format, each)
        lost = 0.0 if sound_format == "flac" else lufs + gain - _loudness_of(data)
        if abs(lost) > TOLERANCE_LU:  # what an MP3 leaves out of noise may be heard as less loud
            gain += lost
            data = _encode(_turned(audio, gain), rate, sound_format, each)
        facts = {"start": places[each.block].start, "seconds": round(audio.shape[1] / rate, 4)}
        yield each, data, facts | {"lufs": round(lufs, 2), "gain_db": round(gain, 2)}


def _turned(audio: SoundArray, gain: float) -> SoundArray:
    return audio * np.float32(10 ** (gain / 20))


def _loudness_of(data: bytes) -> float:
    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return loudness(np.ascontiguousarray(audio.T), int(rate))


def _sound(stimulus: Stimulus, place: Excerpt) -> tuple[SoundArray, int]:
    audio, rate = read_excerpt(Path(stimulus.folder) / "song.flac", place)
    return treated(audio, rate, stimulus.treatment), rate


def _measured(stimulus: Stimulus, place: Excerpt) -> tuple[float, float]:
    """Return loudness (LUFS) and true peak (dBTP)."""
    audio, rate = _sound(stimulus, place)
    lufs = loudness(audio, rate)
    if math.isinf(lufs):
        raise InvalidRequest(
            f"{stimulus.folder} is silent in its excerpt, so it can't be made as loud as the others.",
            hint="Take another part of the songs (start, seconds), or leave this one out.",
        )
    return lufs, 20 * math.log10(max(true_peak(audio, CancelToken()), 1e-9))


def _encode(audio: SoundArray, rate: int, sound_format: SoundFormat, stimulus: Stimulus) -> bytes:
    buffer = io.BytesIO()
    options = (
        {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": COMPRESSION}
        if sound_format == "mp3"
        else {"format": "FLAC", "subtype": "PCM_24"}
    )
    try:
        soundfile.write(buffer, audio.T, rate, **options)
    except (ValueError, soundfile.LibsndfileError) as error:
        raise InvalidRequest(
            f"{stimulus.folder} can't be written as {sound_format.upper()} at {rate} Hz ({error}).",
            hint='Take --sound flac (sound="flac").',
        ) from None
    return buffer.getvalue()
