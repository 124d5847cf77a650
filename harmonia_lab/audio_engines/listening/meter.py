"""What a listener can measure in a song: tempo, beats, key, sections, silence and clipping.

Owns the order of the meters, and when a tempo or a key is too unclear to be named. Each meter is a file of this
package. They know nothing of a song but its samples, share no code with the composer, and draw no random numbers: equal
samples give equal figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.listening.beats import find_beats
from harmonia_lab.audio_engines.listening.key import find_chroma, key_of
from harmonia_lab.audio_engines.listening.onsets import find_onsets
from harmonia_lab.audio_engines.listening.sections import find_sections
from harmonia_lab.audio_engines.listening.tempo import tempo_of
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.protocol.sound import Measured
from harmonia_lab.protocol.vocabulary import TONICS

__all__ = ["CLEAR", "Measures", "clipped_share", "measure", "measure_beats"]

CLEAR = 0.5
"""Least confidence with which a tempo or a key is named."""

_SHORTEST_S = 3.0
"""A tempo needs some beats, and a key some chords."""

_LEAST_RATE = 40_000
"""Hz. A higher sample rate is halved until it is lower."""

_SILENT = 1e-3
"""RMS of a tenth of a second, −60 dBFS."""

_FULL = 1 - 2**-15
_RUN = 3
"""Samples in a row at full scale, of 16 bits, that are taken for clipping."""


@dataclass(frozen=True)
class Measures:
    """What was measured. heard: tempo and key, each None if it is unclear. other_bpm: the next likely tempo.

    tuning_hz: of A4; None without a key. beats: seconds; empty without a clear tempo. sections: seconds at which they
    begin. silent_share: of tenths of a second below −60 dBFS. clipped_share: of the samples that the engine made.
    """

    heard: Measured
    other_bpm: float | None
    tuning_hz: float | None
    beats: tuple[float, ...]
    sections: tuple[float, ...]
    silent_share: float
    clipped_share: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values under camelCase names, for the record."""
        return {
            **self.heard.model_dump(mode="json", by_alias=True),
            "otherBpm": self.other_bpm,
            "tuningHz": self.tuning_hz,
            "beats": list(self.beats),
            "sections": list(self.sections),
            "silentShare": self.silent_share,
            "clippedShare": self.clipped_share,
        }


def measure(
    audio: NDArray[np.float32],
    sample_rate: int,
    cancel: CancelToken | None = None,
    rendered: Iterable[NDArray[np.float32]] = (),
) -> Measures:
    """Return what can be measured in a song, finite audio [channels, samples]. sample_rate: Hz.

    rendered: the stems as the engine made them, which show clipping that the mixer's limiter hides. Raises Cancelled.
    """
    poll = (cancel or CancelToken()).raise_if_cancelled
    sound, rate = _halved(audio.mean(axis=0, dtype=np.float32), sample_rate)
    seconds = audio.shape[1] / sample_rate
    onsets = find_onsets(sound, rate, poll)
    tempo = tempo_of(onsets.strength)
    chroma = find_chroma(sound, rate, poll)
    key = key_of(chroma.mean)
    long_enough = seconds >= _SHORTEST_S
    beat, tonal = (long_enough and each.confidence >= CLEAR for each in (tempo, key))
    heard = Measured(
        bpm=round(tempo.bpm, 1) if beat else None,
        bpm_confidence=round(tempo.confidence, 3) if long_enough else 0.0,
        key=f"{TONICS[key.tonic]} {key.mode}" if tonal else None,
        key_confidence=round(key.confidence, 3) if long_enough else 0.0,
    )
    return Measures(
        heard=heard,
        other_bpm=round(tempo.other, 1) if beat and tempo.other is not None else None,
        tuning_hz=round(440 * 2 ** (chroma.tuning / 12), 1) if tonal else None,
        beats=tuple(np.round(find_beats(onsets.strength, tempo.bpm), 2).tolist()) if beat else (),
        sections=tuple(find_sections(onsets.levels)),
        silent_share=round(_silent_share(audio, sample_rate), 4),
        clipped_share=round(max((clipped_share(stem) for stem in rendered), default=clipped_share(audio)), 6),
    )


def measure_beats(
    audio: NDArray[np.float32], sample_rate: int, cancel: CancelToken | None = None
) -> tuple[float | None, NDArray[np.float64]]:
    """Return tempo and beats (s) of finite audio [channels, samples], as `measure` does; None and none if unclear.

    Raises Cancelled.
    """
    poll = (cancel or CancelToken()).raise_if_cancelled
    sound, rate = _halved(audio.mean(axis=0, dtype=np.float32), sample_rate)
    onsets = find_onsets(sound, rate, poll)
    tempo = tempo_of(onsets.strength)
    if audio.shape[1] < _SHORTEST_S * sample_rate or tempo.confidence < CLEAR:
        return None, np.zeros(0)
    return round(tempo.bpm, 1), find_beats(onsets.strength, tempo.bpm)


def clipped_share(audio: NDArray[np.float32]) -> float:
    """Return the share of samples [channels, samples] in runs of three or more at full scale, 0…1."""
    if not audio.size or max(float(audio.max()), -float(audio.min())) < _FULL:
        return 0.0
    full = np.abs(audio) >= _FULL
    runs = full[:, : -_RUN + 1].copy()
    for step in range(1, _RUN):
        runs &= full[:, step : full.shape[1] - _RUN + 1 + step]
    clipped = np.zeros_like(full)
    for step in range(_RUN):
        clipped[:, step : full.shape[1] - _RUN + 1 + step] |= runs
    return float(clipped.mean())


def _silent_share(audio: NDArray[np.float32], sample_rate: int) -> float:
    window = sample_rate // 10
    whole = audio[:, : audio.shape[1] // window * window]
    if not whole.size:
        return 0.0
    pieces = [channel.reshape(-1, window) for channel in whole]
    powers = sum(np.einsum("ij,ij->i", piece, piece) for piece in pieces) / (len(pieces) * window)
    return float(np.mean(powers < _SILENT**2))


def _halved(sound: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], int]:
    """Return the sound at a lower sample rate, by a half-band filter of seven taps: the meters listen up to 11 kHz.

    The filter, (−1, 0, 9, 16, 9, 0, −1) / 32, has four zeros at half the rate: from 48 kHz, what it folds to 5 kHz and
    below, where the key is read, loses 30 dB and more.
    """
    while len(sound) and sample_rate >= _LEAST_RATE and sample_rate % 2 == 0:
        padded = np.pad(sound, 3)
        count = (len(sound) + 1) // 2
        taps = [padded[at : at + 2 * count - 1 : 2] for at in (0, 2, 3, 4, 6)]
        sound = 0.5 * taps[2] + np.float32(9 / 32) * (taps[1] + taps[3]) - np.float32(1 / 32) * (taps[0] + taps[4])
        sample_rate //= 2
    return sound, sample_rate
