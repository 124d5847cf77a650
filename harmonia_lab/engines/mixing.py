"""From stems to a mastered song: levels by measured loudness, a place and a room for each instrument, −14 LUFS.

Owns the balance between roles and the mastering loop. The measurements, the limiter, the reverb and the filters stand
in their own files; files on disk are `audiofile.py`.

Every stem is brought to the same loudness first, so that the balance in `_ROLES` holds for any engine, sound bank and
arrangement. The same stems give the same bytes: there is no clock, no thread and no BLAS in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.engines.limiter import apply_gains, limiting_gains
from harmonia_lab.engines.loudness import CELL, cell_peaks, integrated_loudness, segment_powers, true_peak
from harmonia_lab.engines.reverb import add_reverb
from harmonia_lab.engines.spectral import Framing, bell, frame_frequencies, high_pass, keep_freed_memory
from harmonia_lab.errors import AudioError
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["TARGET_LUFS", "TRUE_PEAK_DBTP", "Measurements", "Mix", "StemLevel", "mix"]

TARGET_LUFS = -14.0
"""What streaming services play at."""

TRUE_PEAK_DBTP = -1.0
"""Room for what a lossy codec adds."""

_MARGIN_DB = 0.1  # between meters, which interpolate differently
_TOLERANCE_LU = 0.1
_MOST_LIMITING_DB = 15.0
"""Beyond that (a lone click), the loudness gives way: the limiter would be all that is heard."""

_FADE_IN_S, _FADE_OUT_S = 0.004, 0.2
_STEM_LUFS = -23.0  # the lead's; what all of them add up to stays well inside full scale
_MOST_STEM_GAIN_DB = 30.0  # what is fainter was meant to be, or is noise
_ABSURD = 1e6  # +120 dBFS
_ATTEMPTS = 4


class _Channel(NamedTuple):
    """How a role stands in the mix. level: LU against the lead. width: how far from the middle several parts of the role
    (or one, where `aside` is set) are placed, 0…1. send: the reverb's level against the dry sound, dB."""

    level: float
    high_pass: float
    bell: tuple[float, float, float]
    width: float
    aside: float
    send: float


_ROLES: dict[Role, _Channel] = {
    "lead": _Channel(0.0, 110, (3000, 1.5, 0.8), 0.35, 0.0, -8),
    "chords": _Channel(-3.0, 100, (2800, -1.5, 0.7), 0.5, 0.25, -10),
    "bass": _Channel(-2.5, 32, (750, 1.5, 0.8), 0.15, 0.0, -30),
    "drums": _Channel(-2.5, 28, (350, -2.0, 0.8), 0.3, 0.0, -14),
    "pad": _Channel(-7.0, 150, (400, -2.0, 0.7), 0.6, -0.3, -6),
    "mix": _Channel(0.0, 28, (1000, 0.0, 1.0), 0.0, 0.0, -math.inf),
}
"""Levels after the usual order of a vocal mix: the melody on top, rhythm section just below, chords 3 LU and pads
7 LU under the melody, since what sounds all the time needs little level. Filters clear each other's place: the chords
give way at 3 kHz where the lead gains, nothing but bass and drums reaches below 100 Hz."""


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
    """Of the finished mix. None stands for −∞: silence. limiting_db: the limiter's deepest reduction.
    silent: there was nothing to bring to a loudness. master_gain_db: what the whole mix got before the limiter."""

    loudness_lufs: float | None
    true_peak_dbtp: float | None
    peak_to_loudness_db: float | None
    silent: bool
    master_gain_db: float
    limiting_db: float
    stems: tuple[StemLevel, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; field names as here."""
        plain = asdict(self)
        plain["stems"] = list(plain["stems"])
        return plain


@dataclass(frozen=True)
class Mix:
    """audio: float32 [2, samples], −1…1, the song. sample_rate: Hz."""

    audio: NDArray[np.float32]
    sample_rate: int
    measurements: Measurements


def mix(
    stems: Sequence[Stem],
    *,
    seconds: float,
    cancel: CancelToken,
    progress: Callable[[float], None],
    sample_rate: int = 48_000,
) -> Mix:
    """A song of exactly round(seconds · sample_rate) samples; shorter stems end in silence, longer ones are cut.

    Stems may have any number of channels and any sample rate that is a multiple of 25 Hz. Silent stems stay silent.
    progress gets 0…1. Raises AudioError that names the stem that holds NaN, infinity or no channel; Cancelled.
    """
    keep_freed_memory()
    samples = round(seconds * sample_rate)
    levels: list[StemLevel] = []
    prepared: list[Stem] = []
    places = _places([stem.role for stem in stems])
    for number, (stem, pan) in enumerate(zip(stems, places, strict=True)):
        audio = _checked(stem)[:, : math.ceil(seconds * stem.sample_rate)]
        prepared.append(Stem(stem.name, stem.role, audio, stem.sample_rate))
        loudness = _loudness(prepared[-1], cancel)
        crowd = sum(other.role == stem.role for other in stems)
        wanted = _STEM_LUFS + _ROLES[stem.role].level - 5 * math.log10(crowd)
        gain = 0.0 if loudness is None else min(wanted - loudness, _MOST_STEM_GAIN_DB)
        levels.append(StemLevel(stem.name, loudness, gain, pan))
        progress(0.35 * (number + 1) / len(stems))
    bus = np.zeros((2, samples), np.float32)
    send = np.zeros(samples, np.float32)
    _sum(prepared, levels, bus, send, sample_rate, cancel, lambda done: progress(0.35 + 0.35 * done))
    add_reverb(send, bus, sample_rate, cancel)
    del send
    _fade(bus, sample_rate)
    progress(0.8)
    audio, measurements = _master(bus, sample_rate, levels, cancel)
    progress(1.0)
    return Mix(audio, sample_rate, measurements)


def _checked(stem: Stem) -> NDArray[np.float32]:
    """The stem's audio with one or two channels; more are folded, odd ones left, even ones right."""
    audio = np.asarray(stem.audio, np.float32)
    if audio.ndim != 2 or not len(audio):
        raise AudioError(f"Stem {stem.name!r} has the shape {list(audio.shape)}, not [channels, samples].")
    if stem.sample_rate <= 0 or stem.sample_rate % 25:
        raise AudioError(f"Stem {stem.name!r} has {stem.sample_rate} samples a second; only multiples of 25 can be mixed.")
    if audio.size and not max(float(audio.max()), -float(audio.min())) < _ABSURD:  # NaN compares as false
        second = int(np.argmax(~(np.abs(audio) < _ABSURD).all(axis=0))) / stem.sample_rate
        raise AudioError(
            f"Stem {stem.name!r} holds values that are no sound (NaN, infinity or beyond all scale) from {second:.2f} s on.",
            hint="Render it again; if it comes back, report the engine, the model and the seed.",
            details={"stem": stem.name, "second": round(second, 3)},
        )
    if len(audio) > 2:
        audio = np.stack([audio[0::2].mean(axis=0), audio[1::2].mean(axis=0)])
    return audio


def _places(roles: Sequence[Role]) -> list[float]:
    """Where each part stands, −1…1: alone where its role likes to stand, several of a role spread over its width."""
    crowds, seen, places = Counter(roles), Counter[Role](), []
    for role in roles:
        channel, crowd = _ROLES[role], crowds[role]
        spread = 0.0 if crowd == 1 else (2 * seen[role] / (crowd - 1) - 1) * channel.width
        places.append(channel.aside if crowd == 1 else spread)
        seen[role] += 1
    return places


def _equaliser(role: Role, frequencies: NDArray[np.float64]) -> NDArray[np.complex128]:
    channel = _ROLES[role]
    return high_pass(frequencies, channel.high_pass) * bell(frequencies, *channel.bell)


def _loudness(stem: Stem, cancel: CancelToken) -> float | None:
    """LUFS after the role's filters, as part of a stereo mix: a mono stem sounds from two loudspeakers."""
    response = _equaliser(stem.role, frame_frequencies(stem.sample_rate))
    powers = segment_powers(stem.audio, stem.sample_rate, cancel, response) * (3 - len(stem.audio))
    return _finite(integrated_loudness(powers))


def _sum(
    stems: Sequence[Stem],
    levels: Sequence[StemLevel],
    bus: NDArray[np.float32],
    send: NDArray[np.float32],
    sample_rate: int,
    cancel: CancelToken,
    progress: Callable[[float], None],
) -> None:
    """Filter, resample, place and add up all stems into bus [2, samples], and what the reverb gets into send [samples].

    All of it is linear, so it happens to spectra: a stem costs one transform, and the sum is transformed back once. The
    frames last 2 s at every rate, so that bins of different rates mean the same frequency and resampling is leaving out
    or adding empty bins.
    """
    framing = Framing.at(sample_rate)
    bins = framing.size // 2 + 1
    channels = []
    for stem, level in zip(stems, levels, strict=True):
        own = Framing.at(stem.sample_rate)
        response = _equaliser(stem.role, frame_frequencies(stem.sample_rate)[:bins])
        if stem.sample_rate != sample_rate:
            response *= _band_edge(len(response)) * (sample_rate / stem.sample_rate)
        response *= _ratio(level.gain_db)
        angle = (level.pan + 1) * math.pi / 4  # constant power; 1 in the middle
        pan = math.sqrt(2) * np.array([[math.cos(angle)], [math.sin(angle)]], np.float32)
        wet = np.float32(_ratio(_ROLES[stem.role].send) / 2)
        frame = np.empty((len(stem.audio), own.size), np.float32)
        channels.append((stem.audio, own, response.astype(np.complex64), pan, wet, frame))
    count = framing.count(bus.shape[1])
    for index in range(count):
        spectra = np.zeros((3, bins), np.complex64)  # left, right, send
        for audio, own, response, pan, wet, frame in channels:
            cancel.raise_if_cancelled()
            own.cut(audio, index, frame)
            if not frame.any():
                continue
            spectrum = np.fft.rfft(frame)[:, : len(response)]
            spectrum *= response
            placed = spectrum * pan
            spectra[:2, : len(response)] += placed
            spectra[2, : len(response)] += (placed[0] + placed[1]) * wet
        sound = np.fft.irfft(spectra, framing.size)[:, framing.kept]
        where = slice(index * framing.hop, min((index + 1) * framing.hop, bus.shape[1]))
        bus[:, where] = sound[:2, : where.stop - where.start]
        send[where] = sound[2, : where.stop - where.start]
        progress((index + 1) / count)


def _band_edge(bins: int) -> NDArray[np.float64]:
    """1, falling to 0 over the last 5 % of the bins: the edge of a resampler, gentle enough to ring for 10 ms only."""
    edge = np.clip((bins - 1 - np.arange(bins)) / (0.05 * bins), 0, 1)
    rounded: NDArray[np.float64] = 0.5 - 0.5 * np.cos(np.pi * edge)
    return rounded


def _fade(bus: NDArray[np.float32], sample_rate: int) -> None:
    """The very ends, so that nothing clicks; the music's own ending is composed."""
    for seconds, step in ((_FADE_IN_S, 1), (_FADE_OUT_S, -1)):
        length = min(round(seconds * sample_rate), bus.shape[1] // 4)
        bus[:, ::step][:, :length] *= (0.5 - 0.5 * np.cos(np.pi * np.arange(length) / max(1, length))).astype(np.float32)


def _master(
    bus: NDArray[np.float32], sample_rate: int, levels: Sequence[StemLevel], cancel: CancelToken
) -> tuple[NDArray[np.float32], Measurements]:
    """Bring the bus to the target loudness under the target peak, by one gain and the limiter; and measure the result.

    The gain is found on the cells' peaks and the segments' powers, which is quick; then the result is measured, and
    what the quick way got wrong is corrected.
    """
    powers = segment_powers(bus, sample_rate, cancel)
    loudness = integrated_loudness(powers)
    if not math.isfinite(loudness):
        return bus, Measurements(None, _finite(_decibels(true_peak(bus, cancel))), None, True, 0.0, 0.0, tuple(levels))
    aim, ceiling, gain = TARGET_LUFS, TRUE_PEAK_DBTP - _MARGIN_DB, TARGET_LUFS - loudness
    peaks = cell_peaks(bus, _ratio(ceiling - gain - 1.5), cancel)  # 1.5 dB: what limiting usually has to be made up by
    most = ceiling - _decibels(float(peaks.max())) + _MOST_LIMITING_DB
    out = np.empty_like(bus)
    for _ in range(_ATTEMPTS):
        gain, gains = _solve(powers, peaks, min(gain, most), aim, ceiling, most, sample_rate, cancel)
        apply_gains(bus, _ratio(gain), gains, out, cancel)
        reached = integrated_loudness(segment_powers(out, sample_rate, cancel))
        peak = _decibels(true_peak(out, cancel))
        if peak <= TRUE_PEAK_DBTP and (abs(TARGET_LUFS - reached) <= _TOLERANCE_LU or gain >= most):
            break
        aim += TARGET_LUFS - reached
        ceiling -= max(0.0, peak - TRUE_PEAK_DBTP)
    else:
        lower = min(0.0, TRUE_PEAK_DBTP - peak)  # the peak is a promise, the loudness an aim
        out *= np.float32(_ratio(lower))
        peak, reached = peak + lower, reached + lower
    limiting = abs(_decibels(float(gains.min())))
    return out, Measurements(reached, peak, peak - reached, False, gain, limiting, tuple(levels))


def _solve(
    powers: NDArray[np.float64],
    peaks: NDArray[np.float32],
    gain: float,
    aim: float,
    ceiling: float,
    most: float,
    sample_rate: int,
    cancel: CancelToken,
) -> tuple[float, NDArray[np.float32]]:
    """The gain (dB, at most `most`) that brings the limited mix to `aim` LUFS, and the limiter's gains on top of it.

    How much power the limiter takes from a segment is estimated from its cells' squared peaks.
    """
    squares = peaks.astype(np.float64) ** 2 + 1e-30
    borders = np.minimum(np.arange(len(powers)) * sample_rate // 10 // CELL, len(peaks) - 1)
    whole = np.add.reduceat(squares, borders)
    while True:
        cancel.raise_if_cancelled()
        gains = limiting_gains(peaks * np.float32(_ratio(gain)), _ratio(ceiling), sample_rate)
        kept = np.add.reduceat(squares * gains[:-1].astype(np.float64) ** 2, borders) / whole
        lacking = aim - integrated_loudness(powers * kept * _ratio(gain) ** 2)
        if abs(lacking) < 0.01 or (lacking > 0 and gain >= most):
            return gain, gains
        gain = min(gain + lacking, most)


def _ratio(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _decibels(ratio: float) -> float:
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
