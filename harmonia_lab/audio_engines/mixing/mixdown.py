"""From stems to a song: levels by measured loudness, a place and a room for each instrument, mastered.

Owns the balance between roles and the summing. The master's target, the measurements, the reverb and the filters stand
in their own files; files on disk are `audiofile.py`.

Every stem is brought to the same loudness first, so that the balance in `_ROLES` holds for any engine, sound bank and
arrangement. The same stems give the same bytes: there is no clock, no thread and no BLAS in it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers
from harmonia_lab.audio_engines.mixing.mastering import master, ratio
from harmonia_lab.audio_engines.mixing.reverb import add_reverb
from harmonia_lab.audio_engines.mixing.spectral import (
    Framing,
    bell,
    frame_frequencies,
    high_pass,
    keep_freed_memory,
)
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import AudioError
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["Measurements", "Mix", "StemLevel", "mix"]


class _Channel(NamedTuple):
    """How a role stands in the mix.

    level: LU against the lead. high_pass: Hz. bell: Hz, dB, Q. aside: where one part of the role stands, −1 left …
    1 right. width: how far out several parts are spread. send: the reverb's level against the dry sound, dB.
    """

    level: float
    high_pass: float
    bell: tuple[float, float, float]
    aside: float
    width: float
    send: float


_ROLES: dict[Role, _Channel] = {
    "lead": _Channel(0.0, 110, (3000, 1.5, 0.8), 0.0, 0.35, -8),
    "chords": _Channel(-3.0, 100, (2800, -1.5, 0.7), 0.25, 0.5, -10),
    "bass": _Channel(-2.5, 32, (750, 1.5, 0.8), 0.0, 0.15, -30),
    "drums": _Channel(-2.5, 28, (350, -2.0, 0.8), 0.0, 0.3, -14),
    "pad": _Channel(-7.0, 150, (400, -2.0, 0.7), -0.3, 0.6, -6),
    "mix": _Channel(0.0, 28, (1000, 0.0, 1.0), 0.0, 0.0, -math.inf),
}
"""Levels in the usual order of a vocal mix: the melody on top, the rhythm section just below, chords 3 LU and pads
7 LU under the melody, since what sounds all the time needs little level. Filters clear each other's place: the chords
give way at 3 kHz where the lead gains, and only bass and drums reach below 100 Hz."""

_STEM_LUFS = -23.0  # the lead's; what all of them add up to stays well inside full scale
_MOST_STEM_GAIN_DB = 30.0  # what is fainter was meant to be, or is noise
_ABSURD = 1e6  # +120 dBFS
_FADE_IN_S, _FADE_OUT_S = 0.004, 0.2

_CONTRAST_LU, _MOST_LIFT_DB, _RIDE_S = 4.0, 6.0, 0.25
"""A section may be this much softer than the loudest; half of what is beyond is made up, up to 6 dB, by a ride of the
fader in the quarter second before it begins. Else a sparse intro makes one turn up what then bursts in."""


@dataclass(frozen=True)
class StemLevel:
    """loudness_lufs: as rendered, filtered for its role; None for silence. gain_db: what it got before the master.
    pan: −1 left … 1 right."""

    name: str
    loudness_lufs: float | None
    gain_db: float
    pan: float


@dataclass(frozen=True)
class Measurements:
    """Of the finished song. None stands for −∞.

    silent: there was nothing to bring to a loudness. master_gain_db: what the whole mix got before the limiter.
    limiting_db: the limiter's deepest reduction. peak_to_loudness_db: true peak over loudness, the crest as heard.
    section_lifts_db: what soft sections were raised by, one a section.
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
        """Plain JSON values, rounded to 0.001; field names as here."""
        lifts = [round(lift, 3) for lift in self.section_lifts_db]
        plain = asdict(self) | {"section_lifts_db": lifts, "stems": [asdict(stem) for stem in self.stems]}
        for record in (plain, *plain["stems"]):
            record.update({name: round(value, 3) for name, value in record.items() if isinstance(value, float)})
        return plain


@dataclass(frozen=True)
class Mix:
    """audio: float32 [2, samples], −1…1, the song. sample_rate: Hz."""

    audio: NDArray[np.float32]
    sample_rate: int
    measurements: Measurements


@dataclass(frozen=True)
class _Strip:
    """A stem on the console. response: complex64, of each bin of its frame. pan: [2, 1]. send: a ratio."""

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
    sample_rate: int = 48_000,
) -> Mix:
    """A song of exactly round(seconds · sample_rate) samples; shorter stems end in silence, longer ones are cut.

    Stems may have any number of channels, and any sample rate that is a multiple of 25 Hz. Silent stems stay silent.
    sections: where the song's sections begin, in seconds and in order; much softer ones are raised a little. progress
    gets 0…1. Raises AudioError that names the stem that holds NaN, infinity or no channel; Cancelled.
    """
    keep_freed_memory()
    levels: list[StemLevel] = []
    strips: list[_Strip] = []
    crowds = Counter(stem.role for stem in stems)
    for stem, pan in zip(stems, _places([stem.role for stem in stems]), strict=True):
        audio = _checked(stem)[:, : math.ceil(seconds * stem.sample_rate)]
        response = _equaliser(stem.role, frame_frequencies(stem.sample_rate))
        # A mono stem sounds from two loudspeakers.
        powers = segment_powers(audio, stem.sample_rate, cancel, response) * (3 - len(audio))
        loudness = integrated_loudness(powers)
        gain = 0.0
        if math.isfinite(loudness):
            wanted = _STEM_LUFS + _ROLES[stem.role].level - 5 * math.log10(crowds[stem.role])
            gain = min(wanted - loudness, _MOST_STEM_GAIN_DB)
        level = StemLevel(stem.name, _finite(loudness), gain, pan)
        levels.append(level)
        strips.append(_strip(stem, level, audio, response, sample_rate))
        progress(0.35 * len(levels) / len(stems))
    bus, send = _sum(
        strips, round(seconds * sample_rate), sample_rate, cancel, lambda done: progress(0.35 + 0.35 * done)
    )
    add_reverb(send, bus, sample_rate, cancel)
    del send
    _fade(bus, sample_rate)
    lifts = _ride(bus, sections, sample_rate, cancel)
    progress(0.8)
    result = master(bus, sample_rate, cancel)
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
    return Mix(result.audio, sample_rate, measurements)


def _checked(stem: Stem) -> NDArray[np.float32]:
    """The stem's audio with one or two channels; more are folded, odd ones left, even ones right."""
    audio = np.asarray(stem.audio, np.float32)
    if audio.ndim != 2 or not len(audio):
        raise AudioError(f"Stem {stem.name!r} has the shape {list(audio.shape)}, not [channels, samples].")
    if stem.sample_rate <= 0 or stem.sample_rate % 25:
        raise AudioError(
            f"Stem {stem.name!r} has {stem.sample_rate} samples a second; only multiples of 25 can be mixed."
        )
    if audio.size and not max(float(audio.max()), -float(audio.min())) < _ABSURD:  # NaN compares as false
        second = int(np.argmax(~(np.abs(audio) < _ABSURD).all(axis=0))) / stem.sample_rate
        raise AudioError(
            f"Stem {stem.name!r} is no sound at {second:.2f} s: NaN, infinity or a value beyond all scale.",
            hint="Render it again; if it comes back, report the engine, the model and the seed.",
            details={"stem": stem.name, "second": round(second, 3)},
        )
    if len(audio) > 2:
        audio = np.stack([audio[0::2].mean(axis=0), audio[1::2].mean(axis=0)])
    return audio


def _places(roles: Sequence[Role]) -> list[float]:
    """Where each part stands, −1…1: alone, where its role likes to stand; several of a role, spread over its width."""
    crowds, seen, places = Counter(roles), Counter[Role](), []
    for role in roles:
        channel, others = _ROLES[role], crowds[role] - 1
        places.append((2 * seen[role] / others - 1) * channel.width if others else channel.aside)
        seen[role] += 1
    return places


def _equaliser(role: Role, frequencies: NDArray[np.float64]) -> NDArray[np.complex128]:
    channel = _ROLES[role]
    return high_pass(frequencies, channel.high_pass) * bell(frequencies, *channel.bell)


def _strip(
    stem: Stem, level: StemLevel, audio: NDArray[np.float32], response: NDArray[np.complex128], sample_rate: int
) -> _Strip:
    """Gain, filters and resampling as one response. The frames last 2 s at every rate, so bins of different rates mean
    the same frequency: resampling is leaving out or adding empty bins."""
    response = response[: Framing.at(sample_rate).size // 2 + 1] * ratio(level.gain_db)
    if stem.sample_rate != sample_rate:
        response = response * _band_edge(len(response)) * (sample_rate / stem.sample_rate)
    angle = (level.pan + 1) * math.pi / 4  # constant power; 1 in the middle
    pan = math.sqrt(2) * np.array([[math.cos(angle)], [math.sin(angle)]], np.float32)
    send = np.float32(ratio(_ROLES[stem.role].send) / 2)  # of left and right together
    return _Strip(audio, Framing.at(stem.sample_rate), response.astype(np.complex64), pan, send)


def _sum(
    strips: Sequence[_Strip], samples: int, sample_rate: int, cancel: CancelToken, progress: Callable[[float], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All strips together, [2, samples], and what the reverb gets, [samples].

    All that a strip does is linear, so it is done to spectra: a stem costs one transform, and only the sum is
    transformed back.
    """
    bus = np.empty((2, samples), np.float32)
    send = np.empty(samples, np.float32)
    framing = Framing.at(sample_rate)
    frames = [np.empty((len(strip.audio), strip.framing.size), np.float32) for strip in strips]
    count = framing.count(samples)
    for index in range(count):
        spectra = np.zeros((3, framing.size // 2 + 1), np.complex64)  # left, right, send
        for strip, frame in zip(strips, frames, strict=True):
            cancel.raise_if_cancelled()
            strip.framing.cut(strip.audio, index, frame)
            if not frame.any():
                continue
            bins = len(strip.response)
            placed = np.fft.rfft(frame)[:, :bins] * strip.response * strip.pan
            spectra[:2, :bins] += placed
            spectra[2, :bins] += (placed[0] + placed[1]) * strip.send
        sound = np.fft.irfft(spectra, framing.size)[:, framing.kept]
        where = slice(index * framing.hop, min((index + 1) * framing.hop, samples))
        bus[:, where] = sound[:2, : where.stop - where.start]
        send[where] = sound[2, : where.stop - where.start]
        progress((index + 1) / count)
    return bus, send


def _band_edge(bins: int) -> NDArray[np.float64]:
    """1, falling to 0 over the last 5 % of the bins: the edge of a resampler, gentle enough to ring for 10 ms only."""
    edge = np.clip((bins - 1 - np.arange(bins)) / (0.05 * bins), 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * edge))


def _fade(bus: NDArray[np.float32], sample_rate: int) -> None:
    """The very ends, so that nothing clicks; the music's own ending is composed."""
    for seconds, step in ((_FADE_IN_S, 1), (_FADE_OUT_S, -1)):
        length = min(round(seconds * sample_rate), bus.shape[1])
        bus[:, ::step][:, :length] *= np.asarray(0.5 - 0.5 * np.cos(np.pi * np.arange(length) / length), np.float32)


def _ride(bus: NDArray[np.float32], sections: Sequence[float], sample_rate: int, cancel: CancelToken) -> list[float]:
    """Raise the sections that are far softer than the loudest, in place; what each got, in dB."""
    if len(sections) < 2:
        return [0.0] * len(sections)
    powers = segment_powers(bus, sample_rate, cancel)
    borders = [round(start * 10) for start in sections] + [len(powers)]
    loudness = [integrated_loudness(powers[first:last]) for first, last in itertools.pairwise(borders)]
    lifts = [
        min(max(0.0, (max(loudness) - own - _CONTRAST_LU) / 2), _MOST_LIFT_DB) if math.isfinite(own) else 0.0
        for own in loudness
    ]
    if any(lifts):
        times = [
            moment for last, start in itertools.pairwise(sections) for moment in (max(last, start - _RIDE_S), start)
        ]
        gains = [lift for pair in itertools.pairwise(lifts) for lift in pair]
        for start in range(0, bus.shape[1], sample_rate):
            cancel.raise_if_cancelled()
            block = bus[:, start : start + sample_rate]
            seconds = (start + np.arange(block.shape[1])) / sample_rate
            block *= (10 ** (np.interp(seconds, times, gains) / 20)).astype(np.float32)
    return lifts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
