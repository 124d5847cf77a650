"""Mixdown: from stems to a mastered song, with level, filters, panning and reverb for each stem.

Owns the balance between roles and the summing (not mastering, measurements, reverb and filters, which are in
`mastering.py`, `loudness.py`, `reverb.py` and `spectral.py`, nor audio files, which are in `../audiofile.py`).

Every stem is first brought to the same loudness, so that the balance in `_CHANNELS` holds for any engine, sound bank
and arrangement. Equal stems give equal bytes: neither time nor threads nor BLAS influence the result.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers
from harmonia_lab.audio_engines.mixing.mastering import master, ratio
from harmonia_lab.audio_engines.mixing.reverb import add_reverb
from harmonia_lab.audio_engines.mixing.spectral import Framing, bell, frame_frequencies, high_pass, keep_freed_memory
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import AudioError
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["Measurements", "Mix", "StemLevel", "mix"]


_SAMPLE_RATE = 48_000  # Hz, of the song


class _Channel(NamedTuple):
    """The mixer settings of a role.

    level: LU relative to the lead. high_pass: Hz. bell: Hz, dB, Q. pan: of the role's only part, −1 left … 1 right.
    width: largest pan of several parts. send: level of the reverb relative to the dry sound, dB.
    """

    level: float
    high_pass: float
    bell: tuple[float, float, float]
    pan: float
    width: float
    send: float


_CHANNELS: dict[Role, _Channel] = {
    "lead": _Channel(0.0, 110, (3000, 1.5, 0.8), 0.0, 0.35, -8),
    "chords": _Channel(-3.0, 100, (2800, -1.5, 0.7), 0.25, 0.5, -10),
    "bass": _Channel(-2.5, 32, (750, 1.5, 0.8), 0.0, 0.15, -30),
    "drums": _Channel(-2.5, 28, (350, -2.0, 0.8), 0.0, 0.3, -14),
    "pad": _Channel(-7.0, 150, (400, -2.0, 0.7), -0.3, 0.6, -6),
    "mix": _Channel(0.0, 28, (1000, 0.0, 1.0), 0.0, 0.0, -math.inf),
}
"""Levels as usual in a vocal mix: the melody loudest, the rhythm section slightly softer, chords 3 LU and pads 7 LU
below the melody, since continuous sounds need little level. The filters separate the roles: chords are cut around
3 kHz, where the lead is boosted, and only bass and drums go below 100 Hz."""

_STEM_LUFS = -23.0  # of the lead; the sum of all stems stays well below full scale
_MAX_STEM_GAIN_DB = 30.0  # a stem that needs more is soft on purpose, or noise
_MAX_AMPLITUDE = 1e6  # +120 dBFS; more is an error of the engine
_FADE_IN_S, _FADE_OUT_S = 0.004, 0.2

_CONTRAST_LU, _MAX_LIFT_DB, _RAMP_S = 4.0, 6.0, 0.25
"""A section may be this much softer than the loudest one; half of a larger difference is compensated, up to 6 dB, on a
ramp before the section begins. Otherwise listeners turn up a sparse intro, and the next section is too loud."""


@dataclass(frozen=True)
class StemLevel:
    """loudness_lufs: as rendered, after its role's filters; None for silence. gain_db: applied before mastering.

    pan: −1 left … 1 right.
    """

    name: str
    loudness_lufs: float | None
    gain_db: float
    pan: float


@dataclass(frozen=True)
class Measurements:
    """Measurements of the finished song. None stands for −∞.

    peak_to_loudness_db: true peak minus loudness. silent: the mix was silent, and so was not mastered. master_gain_db:
    gain of the whole mix before the limiter. limiting_db: the limiter's deepest reduction. section_lifts_db: the gain
    that raised each section.
    """

    loudness_lufs: float | None
    true_peak_dbtp: float | None
    peak_to_loudness_db: float | None
    silent: bool
    master_gain_db: float
    limiting_db: float
    section_lifts_db: tuple[float, ...]
    stems: tuple[StemLevel, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as JSON values under the names of the fields, rounded to 0.001."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)), parse_float=lambda number: round(float(number), 3))
        return plain


@dataclass(frozen=True)
class Mix:
    """audio: the song, float32 [2, samples], −1…1. sample_rate: Hz."""

    audio: NDArray[np.float32]
    sample_rate: int
    measurements: Measurements


@dataclass(frozen=True)
class _Strip:
    """A channel strip: a stem and its settings. response: of each bin of a frame. pan: [2, 1]. send: a ratio."""

    audio: NDArray[np.float32]
    framing: Framing
    response: NDArray[np.complex64]
    pan: NDArray[np.float32]
    send: np.float32


def mix(
    stems: Sequence[Stem],
    *,
    seconds: float,
    cancel: CancelToken,
    progress: Callable[[float], None],
    sections: Sequence[float] = (),
) -> Mix:
    """Return a song of exactly round(seconds · 48,000) samples; shorter stems are padded with silence, longer ones cut.

    Stems may have any number of channels, and any sample rate that is a multiple of 25 Hz. sections: the starts of the
    song's sections in seconds, in order; see `_CONTRAST_LU`. progress: called with 0…1. Raises Cancelled, and
    AudioError for a stem without channels, with NaN or infinity, or of another sample rate.
    """
    keep_freed_memory()
    levels: list[StemLevel] = []
    strips: list[_Strip] = []
    roles = [stem.role for stem in stems]
    for index, stem in enumerate(stems):
        audio = _checked(stem)[:, : math.ceil(seconds * stem.sample_rate)]
        channel, frequencies = _CHANNELS[stem.role], frame_frequencies(stem.sample_rate)
        response = high_pass(frequencies, channel.high_pass) * bell(frequencies, *channel.bell)
        # A mono stem is played by both loudspeakers, and so has twice the power.
        powers = segment_powers(audio, stem.sample_rate, cancel, response) * (3 - len(audio))
        loudness = integrated_loudness(powers)
        gain = 0.0
        if math.isfinite(loudness):
            wanted = _STEM_LUFS + channel.level - 5 * math.log10(roles.count(stem.role))
            gain = min(wanted - loudness, _MAX_STEM_GAIN_DB)
        pan = _pan(stem.role, roles[:index].count(stem.role), roles.count(stem.role))
        levels.append(StemLevel(stem.name, _finite(loudness), gain, pan))
        strips.append(_strip(stem, levels[-1], audio, response))
        progress(0.35 * len(levels) / len(stems))
    bus, send = _sum(strips, round(seconds * _SAMPLE_RATE), cancel, lambda done: progress(0.35 + 0.35 * done))
    add_reverb(send, bus, _SAMPLE_RATE, cancel)
    del send  # it is half as large as the bus
    _fade(bus)
    lifts = _raise_soft_sections(bus, sections, cancel)
    progress(0.8)
    result = master(bus, _SAMPLE_RATE, cancel)
    progress(1.0)
    silent = not math.isfinite(result.loudness)
    measurements = Measurements(
        loudness_lufs=_finite(result.loudness),
        true_peak_dbtp=_finite(result.true_peak),
        peak_to_loudness_db=None if silent else result.true_peak - result.loudness,
        silent=silent,
        master_gain_db=result.gain,
        limiting_db=result.limiting,
        section_lifts_db=tuple(lifts),
        stems=tuple(levels),
    )
    return Mix(result.audio, _SAMPLE_RATE, measurements)


def _checked(stem: Stem) -> NDArray[np.float32]:
    """Return the stem's audio with one or two channels; of more, odd ones are averaged left, even ones right."""
    audio = np.asarray(stem.audio, np.float32)
    if audio.ndim != 2 or not len(audio):
        raise AudioError(f"Stem {stem.name!r} has the shape {list(audio.shape)}, not [channels, samples].")
    if stem.sample_rate <= 0 or stem.sample_rate % 25:
        raise AudioError(f"Stem {stem.name!r} has a sample rate of {stem.sample_rate} Hz, not a multiple of 25 Hz.")
    if audio.size and not max(float(audio.max()), -float(audio.min())) < _MAX_AMPLITUDE:  # NaN compares as false
        second = int(np.argmax(~(np.abs(audio) < _MAX_AMPLITUDE).all(axis=0))) / stem.sample_rate
        raise AudioError(
            f"Stem {stem.name!r} is not valid audio at {second:.2f} s: NaN, infinity or above {_MAX_AMPLITUDE:g}.",
            hint="Render it again; if the error repeats, report the engine, the model and the seed.",
            details={"stem": stem.name, "second": round(second, 3)},
        )
    if len(audio) > 2:
        audio = np.stack([audio[0::2].mean(axis=0), audio[1::2].mean(axis=0)])
    return audio


def _pan(role: Role, index: int, count: int) -> float:
    """Return the pan of one of `count` parts of a role, −1…1: the role's `pan`, or several spread over its `width`."""
    channel = _CHANNELS[role]
    return (2 * index / (count - 1) - 1) * channel.width if count > 1 else channel.pan


def _strip(stem: Stem, level: StemLevel, audio: NDArray[np.float32], response: NDArray[np.complex128]) -> _Strip:
    """Return the stem's channel strip, with gain, filters and resampling as one response.

    Frames last 2 s at every sample rate, so that a bin has the same frequency at all of them: resampling means leaving
    out bins or adding empty ones.
    """
    response = response[: Framing.at(_SAMPLE_RATE).size // 2 + 1] * ratio(level.gain_db)
    if stem.sample_rate != _SAMPLE_RATE:
        response = response * _band_edge(len(response)) * (_SAMPLE_RATE / stem.sample_rate)
    angle = (level.pan + 1) * math.pi / 4  # constant power, 1 in the middle
    pan = math.sqrt(2) * np.array([[math.cos(angle)], [math.sin(angle)]], np.float32)
    send = np.float32(ratio(_CHANNELS[stem.role].send) / 2)  # half, since left and right are added
    return _Strip(audio, Framing.at(stem.sample_rate), response.astype(np.complex64), pan, send)


def _sum(
    strips: Sequence[_Strip], samples: int, cancel: CancelToken, progress: Callable[[float], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the sum of all strips, [2, samples], and the reverb's input, [samples].

    The strips are linear, and so they are applied and summed as spectra: a stem needs one FFT for each frame, and only
    the sum is transformed back.
    """
    bus = np.empty((2, samples), np.float32)
    send = np.empty(samples, np.float32)
    framing = Framing.at(_SAMPLE_RATE)
    frames = [np.empty((len(strip.audio), strip.framing.size), np.float32) for strip in strips]
    count = framing.count(samples)
    for index in range(count):
        spectra = np.zeros((3, framing.size // 2 + 1), np.complex64)  # left, right, send
        for strip, frame in zip(strips, frames, strict=True):
            cancel.raise_if_cancelled()
            strip.framing.cut(strip.audio, index, frame)
            if frame.any():
                bins = len(strip.response)
                placed = np.fft.rfft(frame)[:, :bins] * strip.response * strip.pan
                spectra[:2, :bins] += placed
                spectra[2, :bins] += (placed[0] + placed[1]) * strip.send
        sound = np.fft.irfft(spectra, framing.size)[:, framing.kept]
        start = index * framing.hop
        bus[:, start : start + framing.hop] = sound[:2, : samples - start]
        send[start : start + framing.hop] = sound[2, : samples - start]
        progress((index + 1) / count)
    return bus, send


def _band_edge(bins: int) -> NDArray[np.float64]:
    """Return the resampler's low-pass: 1, falling to 0 over the last 5 % of the bins; it rings for only 10 ms."""
    edge = np.clip((bins - 1 - np.arange(bins)) / (0.05 * bins), 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * edge))


def _fade(bus: NDArray[np.float32]) -> None:
    """Fade the first and last samples, in place, so that they don't click."""
    for seconds, step in ((_FADE_IN_S, 1), (_FADE_OUT_S, -1)):
        length = min(round(seconds * _SAMPLE_RATE), bus.shape[1])
        bus[:, ::step][:, :length] *= np.asarray(0.5 - 0.5 * np.cos(np.pi * np.arange(length) / length), np.float32)


def _raise_soft_sections(bus: NDArray[np.float32], sections: Sequence[float], cancel: CancelToken) -> list[float]:
    """Raise, in place, sections that are much softer than the loudest one. Return each section's gain in dB."""
    if len(sections) < 2:
        return [0.0] * len(sections)
    powers = segment_powers(bus, _SAMPLE_RATE, cancel)
    borders = [round(start * 10) for start in sections] + [len(powers)]
    loudness = [integrated_loudness(powers[first:last]) for first, last in itertools.pairwise(borders)]
    lifts = [
        min(max(0.0, (max(loudness) - own - _CONTRAST_LU) / 2), _MAX_LIFT_DB) if math.isfinite(own) else 0.0
        for own in loudness
    ]
    if any(lifts):
        times = [at for last, start in itertools.pairwise(sections) for at in (max(last, start - _RAMP_S), start)]
        gains = [lift for pair in itertools.pairwise(lifts) for lift in pair]
        for start in range(0, bus.shape[1], _SAMPLE_RATE):
            cancel.raise_if_cancelled()
            block = bus[:, start : start + _SAMPLE_RATE]
            seconds = (start + np.arange(block.shape[1])) / _SAMPLE_RATE
            block *= (10 ** (np.interp(seconds, times, gains) / 20)).astype(np.float32)
    return lifts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
