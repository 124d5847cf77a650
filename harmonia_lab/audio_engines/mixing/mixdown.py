"""Mixdown: from stems to a mastered song, with level, filters, panning and reverb for each stem.

Owns the order of the steps, and the summing (not levels, which are in `balance.py`, what differs by genre, in
`presets.py`, compression, mastering, measurements, reverb and filters, in `compressor.py`, `mastering.py`,
`loudness.py`, `reverb.py` and `spectral.py`, nor audio files, in `../audiofile.py`). Equal stems give equal bytes:
neither time nor threads nor BLAS influence the result.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.balance import LeadToBand, StemLevel, role_response, role_send, stem_levels
from harmonia_lab.audio_engines.mixing.compressor import compress, reduce
from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers
from harmonia_lab.audio_engines.mixing.mastering import master, ratio
from harmonia_lab.audio_engines.mixing.presets import SINGLE_MIX, MixPreset
from harmonia_lab.audio_engines.mixing.reverb import add_reverb
from harmonia_lab.audio_engines.mixing.spectral import (
    Framing,
    frame_frequencies,
    high_pass,
    keep_freed_memory,
    low_shelf,
)
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import AudioError

__all__ = ["Measurements", "Mix", "StemLevel", "mix", "mixed_stems"]

_SAMPLE_RATE = 48_000  # Hz, of the song
_LOW_HZ, _MONO_BELOW_HZ = 90.0, 120.0  # of the preset's shelf, and of its width
_MAX_AMPLITUDE = 1e6  # +120 dBFS; more is an error of the engine
_FADE_IN_S, _FADE_OUT_S = 0.004, 0.2

_CONTRAST_LU, _MAX_LIFT_DB, _RAMP_S = 4.0, 6.0, 0.25
"""A section may be this much softer than the loudest one; half of a larger difference is compensated, up to 6 dB, on a
ramp before the section begins. Otherwise listeners turn up a sparse intro, and the next section is too loud."""


@dataclass(frozen=True)
class Measurements:
    """Measurements of the finished song. None stands for −∞.

    preset: its name. lead_to_band_lu, lead_to_band_db: loudness and power of the lead against all other stems together,
    where words are sung (`balance.LeadToBand`); None without a lead or without others. compression_db: the compressor's
    mean and its deepest reduction. peak_to_loudness_db: true peak minus loudness. silent: the mix was
    silent, and so was not mastered. master_gain_db: gain of the whole mix before the limiter. limiting_db: the
    limiter's deepest reduction. section_lifts_db: the gain that raised each section.
    """

    preset: str
    lead_to_band_lu: float | None
    lead_to_band_db: float | None
    compression_db: tuple[float, float]
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
    preset: MixPreset = SINGLE_MIX,
    sections: Sequence[float] = (),
    sung: Sequence[tuple[float, float]] = (),
) -> Mix:
    """Return a song of exactly round(seconds · 48,000) samples; shorter stems are padded with silence, longer ones cut.

    Stems may have any number of channels, and any sample rate that is a multiple of 25 Hz. preset: the genre's;
    `SINGLE_MIX` is used instead where all stems are whole mixes. sections: the starts of the song's sections in
    seconds, in order; see `_CONTRAST_LU`. sung: start and end, in seconds, of the sections in which words are sung;
    without any, the lead is set against the others in the whole song. progress: called with 0…1. Raises Cancelled, and
    AudioError for a stem without channels, with NaN or infinity, or of another sample rate.
    """
    desk = _Desk.of(stems, seconds, preset, sung, cancel, progress)
    bus = _bus(desk, desk.strips, cancel, lambda done: progress(0.35 + 0.35 * done))
    powers = segment_powers(bus, _SAMPLE_RATE, cancel)
    lifts = _raise_soft_sections(bus, powers, sections, cancel)
    reduction = _compress(bus, powers, desk.preset, cancel)
    progress(0.8)
    result = master(bus, _SAMPLE_RATE, cancel, crest=desk.preset.crest, powers=powers)
    progress(1.0)
    silent = not math.isfinite(result.loudness)
    lead = desk.lead
    measurements = Measurements(
        preset=desk.preset.name,
        lead_to_band_lu=lead and lead.loudness,
        lead_to_band_db=lead and lead.power,
        compression_db=(float(reduction.mean()), float(reduction.max())) if len(reduction) else (0.0, 0.0),
        loudness_lufs=_finite(result.loudness),
        true_peak_dbtp=_finite(result.true_peak),
        peak_to_loudness_db=None if silent else result.true_peak - result.loudness,
        silent=silent,
        master_gain_db=result.gain,
        limiting_db=result.limiting,
        section_lifts_db=tuple(lifts),
        stems=tuple(desk.levels),
    )
    return Mix(result.audio, _SAMPLE_RATE, measurements)


def mixed_stems(
    stems: Sequence[Stem],
    *,
    seconds: float,
    cancel: CancelToken,
    preset: MixPreset = SINGLE_MIX,
    sections: Sequence[float] = (),
    sung: Sequence[tuple[float, float]] = (),
) -> tuple[tuple[StemLevel, ...], Iterator[NDArray[np.float32]]]:
    """Return the stems' levels, and each stem as it sounds in the song before mastering, [2, samples] at 48 kHz.

    A stem has its level, filters, place and reverb, the fades, and the gains over time of soft sections and of the
    compressor, which the whole mix determines. All these are linear, so that the stems' sum is the mix that `master`
    got, to the rounding of float32. The arguments are those of `mix`.
    """
    desk = _Desk.of(stems, seconds, preset, sung, cancel, lambda _: None)
    bus = _bus(desk, desk.strips, cancel, lambda _: None)
    powers = segment_powers(bus, _SAMPLE_RATE, cancel)
    lifts = _raise_soft_sections(bus, powers, sections, cancel)
    reduction = _compress(bus, powers, desk.preset, cancel)

    def alone() -> Iterator[NDArray[np.float32]]:
        for strip in desk.strips:
            audio = _bus(desk, [strip], cancel, lambda _: None)
            _lift(audio, sections, lifts, cancel)
            if len(reduction):
                reduce(audio, reduction, cancel)
            yield audio

    return tuple(desk.levels), alone()


@dataclass(frozen=True)
class _Desk:
    """The channel strips of a mix, and what was decided for it. samples: the song's length."""

    preset: MixPreset
    levels: Sequence[StemLevel]
    lead: LeadToBand | None
    strips: Sequence[_Strip]
    samples: int

    @staticmethod
    def of(
        stems: Sequence[Stem],
        seconds: float,
        preset: MixPreset,
        sung: Sequence[tuple[float, float]],
        cancel: CancelToken,
        progress: Callable[[float], None],
    ) -> _Desk:
        keep_freed_memory()
        if all(stem.role == "mix" for stem in stems):
            preset = SINGLE_MIX
        channels = [_checked(stem)[:, : math.ceil(seconds * stem.sample_rate)] for stem in stems]
        levels, lead = stem_levels(stems, channels, preset, sung, cancel, lambda done: progress(0.35 * done))
        strips = [_strip(*each, preset) for each in zip(stems, levels, channels, strict=True)]
        return _Desk(preset, levels, lead, strips, round(seconds * _SAMPLE_RATE))


def _bus(
    desk: _Desk, strips: Sequence[_Strip], cancel: CancelToken, progress: Callable[[float], None]
) -> NDArray[np.float32]:
    """Return the sum of `strips` with reverb and fades, [2, samples]."""
    bus, send = _sum(strips, desk.samples, desk.preset, cancel, progress)
    add_reverb(send, bus, _SAMPLE_RATE, cancel)
    _fade(bus)
    return bus


def _compress(
    bus: NDArray[np.float32], powers: NDArray[np.float64], preset: MixPreset, cancel: CancelToken
) -> NDArray[np.float64]:
    """Compress bus in place, and `powers`, one for each 100 ms, likewise. Return the reduction in dB; empty if none."""
    if preset.compression is None or not bus.shape[1]:
        return np.zeros(0)
    reduction = compress(bus, preset.compression, _SAMPLE_RATE, cancel)
    starts = np.minimum(np.arange(len(powers)) * 100, len(reduction) - 1)  # a reduction belongs to a millisecond
    powers *= np.add.reduceat(10 ** (reduction / -10), starts) / np.diff(starts, append=len(reduction)).clip(1)
    return reduction


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


def _strip(stem: Stem, level: StemLevel, audio: NDArray[np.float32], preset: MixPreset) -> _Strip:
    """Return the stem's channel strip, with gain, filters and resampling as one response.

    Frames last 2 s at every sample rate, so that a bin has the same frequency at all of them: resampling means leaving
    out bins or adding empty ones.
    """
    response = role_response(stem)[: Framing.at(_SAMPLE_RATE).size // 2 + 1] * ratio(level.gain_db)
    if stem.sample_rate != _SAMPLE_RATE:
        response = response * _band_edge(len(response)) * (_SAMPLE_RATE / stem.sample_rate)
    angle = (level.pan + 1) * math.pi / 4  # constant power, 1 in the middle
    pan = math.sqrt(2) * np.array([[math.cos(angle)], [math.sin(angle)]], np.float32)
    send = np.float32(ratio(role_send(stem.role) + preset.reverb) / 2)  # half, since left and right are added
    return _Strip(audio, Framing.at(stem.sample_rate), response.astype(np.complex64), pan, send)


def _sum(
    strips: Sequence[_Strip],
    samples: int,
    preset: MixPreset,
    cancel: CancelToken,
    progress: Callable[[float], None],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the strips' sum, with the preset's low end and width, [2, samples], and the reverb's input, [samples].

    The strips are linear, and so they are applied and summed as spectra: a stem needs one FFT for each frame, and only
    the sum is transformed back.
    """
    bus = np.empty((2, samples), np.float32)
    send = np.empty(samples, np.float32)
    framing = Framing.at(_SAMPLE_RATE)
    frames = [np.empty((len(strip.audio), strip.framing.size), np.float32) for strip in strips]
    count = framing.count(samples)
    both, difference = _shape(preset)
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
        if preset is not SINGLE_MIX:
            middle, side = (spectra[0] + spectra[1]) * both, (spectra[0] - spectra[1]) * difference
            spectra[0], spectra[1] = middle + side, middle - side
        sound = np.fft.irfft(spectra, framing.size)[:, framing.kept]
        start = index * framing.hop
        bus[:, start : start + framing.hop] = sound[:2, : samples - start]
        send[start : start + framing.hop] = sound[2, : samples - start]
        progress((index + 1) / count)
    return bus, send


def _shape(preset: MixPreset) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return responses for the sum and for the difference of left and right, each halved."""
    frequencies = frame_frequencies(_SAMPLE_RATE)
    low = low_shelf(frequencies, _LOW_HZ, preset.low)
    both = 0.5 * low
    difference = 0.5 * preset.width * low * np.abs(high_pass(frequencies, _MONO_BELOW_HZ))
    return both.astype(np.complex64), difference.astype(np.complex64)


def _band_edge(bins: int) -> NDArray[np.float64]:
    """Return the resampler's low-pass: 1, falling to 0 over the last 5 % of the bins; it rings for only 10 ms."""
    edge = np.clip((bins - 1 - np.arange(bins)) / (0.05 * bins), 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * edge))


def _fade(bus: NDArray[np.float32]) -> None:
    """Fade the first and last samples, in place, so that they don't click."""
    for seconds, step in ((_FADE_IN_S, 1), (_FADE_OUT_S, -1)):
        length = min(round(seconds * _SAMPLE_RATE), bus.shape[1])
        bus[:, ::step][:, :length] *= np.asarray(0.5 - 0.5 * np.cos(np.pi * np.arange(length) / length), np.float32)


def _raise_soft_sections(
    bus: NDArray[np.float32], powers: NDArray[np.float64], sections: Sequence[float], cancel: CancelToken
) -> list[float]:
    """Raise, in place, sections that are much softer than the loudest one. Return each section's gain in dB.

    powers: of the bus, one for each 100 ms; they are raised too.
    """
    if len(sections) < 2:
        return [0.0] * len(sections)
    borders = [round(start * 10) for start in sections] + [len(powers)]
    loudness = [integrated_loudness(powers[first:last]) for first, last in itertools.pairwise(borders)]
    lifts = [
        min(max(0.0, (max(loudness) - own - _CONTRAST_LU) / 2), _MAX_LIFT_DB) if math.isfinite(own) else 0.0
        for own in loudness
    ]
    if (curve := _lift(bus, sections, lifts, cancel)) is not None:
        powers *= 10 ** (np.interp((np.arange(len(powers)) + 0.5) / 10, *curve) / 10)
    return lifts


def _lift(
    bus: NDArray[np.float32], sections: Sequence[float], lifts: Sequence[float], cancel: CancelToken
) -> tuple[list[float], list[float]] | None:
    """Raise sections in place, with ramps. Return the gain's curve as times (s) and dB; None if it is 0 everywhere."""
    if not any(lifts):
        return None
    times = [at for last, start in itertools.pairwise(sections) for at in (max(last, start - _RAMP_S), start)]
    gains = [lift for pair in itertools.pairwise(lifts) for lift in pair]
    for start in range(0, bus.shape[1], _SAMPLE_RATE):
        cancel.raise_if_cancelled()
        block = bus[:, start : start + _SAMPLE_RATE]
        seconds = (start + np.arange(block.shape[1])) / _SAMPLE_RATE
        block *= (10 ** (np.interp(seconds, times, gains) / 20)).astype(np.float32)
    return times, gains


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
