"""The balance: each stem's level, place and filters, by its role, its genre and how loud it was rendered.

Owns the settings of the roles, and the search for the lead's level (not what differs by genre, which is in
`presets.py`, nor the summing, which is in `mixdown.py`).

Every stem is first brought to the same loudness, so that the balance in `_CHANNELS` holds for any engine, sound bank
and arrangement. Then the lead is set against the sum of all others, where words are sung.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers
from harmonia_lab.audio_engines.mixing.mastering import ratio
from harmonia_lab.audio_engines.mixing.presets import MixPreset
from harmonia_lab.audio_engines.mixing.spectral import bell, frame_frequencies, high_pass
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["LeadToBand", "StemLevel", "role_response", "role_send", "stem_levels"]


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
"""The rhythm section a little louder than the chords, and pads softest, since continuous sounds need little level; the
lead's own level is where the search for it begins. The filters separate the roles: chords are cut around
3 kHz, where the lead is boosted, and only bass and drums go below 100 Hz."""

_STEM_LUFS = -23.0  # of the lead; the sum of all stems stays well below full scale
_MAX_STEM_GAIN_DB = 30.0  # a stem that needs more is soft on purpose, or noise
_LEAST_LEAD_DB = -1.9
"""The least power of the lead against the sum of all others; a preset's loudness may ask for more. Bass has much power
and little loudness, and covers a melody all the same. After the roles' filters the lead has about 1 dB more."""

_MAX_LEAD_CHANGE_DB = 9.0  # a lead that needs more hardly plays where words are sung


class LeadToBand(NamedTuple):
    """The lead against all other stems together, where words are sung, before the compressor, which changes both alike.

    loudness: K-weighted, after the roles' filters, LU. power: unweighted, of the stems as rendered, at their gains, dB.
    """

    loudness: float
    power: float


@dataclass(frozen=True)
class StemLevel:
    """loudness_lufs: as rendered, after its role's filters; None for silence. gain_db: applied before mastering.

    pan: −1 left … 1 right.
    """

    name: str
    loudness_lufs: float | None
    gain_db: float
    pan: float


def stem_levels(
    stems: Sequence[Stem],
    channels: Sequence[NDArray[np.float32]],
    preset: MixPreset,
    sung: Sequence[tuple[float, float]],
    cancel: CancelToken,
    progress: Callable[[float], None],
) -> tuple[list[StemLevel], LeadToBand | None]:
    """Return each stem's level, and where the lead then stands; None without a lead or without others.

    channels: each stem's audio, [1 or 2, samples]. sung: spans of seconds; empty for the whole song. Raises Cancelled.
    """
    roles = [stem.role for stem in stems]
    levels: list[StemLevel] = []
    powers = np.zeros((2, 2))  # [others and lead, K-weighted and unweighted], added up over the sung spans
    for index, (stem, audio) in enumerate(zip(stems, channels, strict=True)):
        # A mono stem is played by both loudspeakers, and so has twice the power.
        weighted = segment_powers(audio, stem.sample_rate, cancel, role_response(stem)) * (3 - len(audio))
        loudness = integrated_loudness(weighted)
        gain = 0.0
        if math.isfinite(loudness):
            offset = preset.drums if stem.role == "drums" else preset.bass if stem.role == "bass" else 0.0
            wanted = _STEM_LUFS + _CHANNELS[stem.role].level + offset - 5 * math.log10(roles.count(stem.role))
            gain = min(wanted - loudness, _MAX_STEM_GAIN_DB)
        pan = _pan(stem.role, roles[:index].count(stem.role), roles.count(stem.role))
        levels.append(StemLevel(stem.name, loudness if math.isfinite(loudness) else None, gain, pan))
        low = preset.low if stem.role == "bass" else 0.0
        plain = _inside(_unweighted(audio), stem.sample_rate // 4, sung) * (3 - len(audio)) * ratio(low) ** 2
        powers[int(stem.role == "lead")] += np.array([_inside(weighted, 10, sung), plain]) * ratio(gain) ** 2
        progress(len(levels) / len(stems))
    if not (powers > 0).all():
        return levels, None
    now = LeadToBand(*(10 * np.log10(powers[1] / powers[0])).tolist())
    change = min(max(preset.lead - now.loudness, _LEAST_LEAD_DB - now.power), _MAX_LEAD_CHANGE_DB)
    change = max(change, -_MAX_LEAD_CHANGE_DB)
    moved = [
        replace(level, gain_db=level.gain_db + change) if role == "lead" else level
        for level, role in zip(levels, roles, strict=True)
    ]
    return moved, LeadToBand(now.loudness + change, now.power + change)


def _inside(powers: NDArray[Any], rate: int, spans: Sequence[tuple[float, float]]) -> float:
    """Return the sum of `powers` [samples], of which there are `rate` a second, inside the spans, per second."""
    parts = [powers[round(start * rate) : round(end * rate)] for start, end in spans] or [powers]
    return sum(float(part.sum(dtype=np.float64)) for part in parts) / rate


def _unweighted(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the power of every fourth sample, summed over channels: enough for a mean, in a quarter of the time."""
    return np.asarray(np.square(audio[:, ::4]).sum(axis=0))


def role_response(stem: Stem) -> NDArray[np.complex128]:
    """Return the response of the filters of the stem's role, at the frequencies of a frame of the stem."""
    channel, frequencies = _CHANNELS[stem.role], frame_frequencies(stem.sample_rate)
    return high_pass(frequencies, channel.high_pass) * bell(frequencies, *channel.bell)


def role_send(role: Role) -> float:
    """Return the level of the reverb of a role relative to its dry sound, dB."""
    return _CHANNELS[role].send


def _pan(role: Role, index: int, count: int) -> float:
    """Return the pan of one of `count` parts of a role, −1…1: the role's `pan`, or several spread over its `width`."""
    channel = _CHANNELS[role]
    return (2 * index / (count - 1) - 1) * channel.width if count > 1 else channel.pan
