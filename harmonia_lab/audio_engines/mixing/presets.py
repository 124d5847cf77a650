"""Mix presets: how loud the lead is, how much the mix is compressed, how wide, bassy and wet it is, in each genre.

Owns the table `MIX_PRESETS` (not the balance among the other roles, which is in `mixdown.py`, nor the compressor, which
is in `compressor.py`). Equal presets for all genres made a lullaby as dense as thrash.

Sources. The values are ours, set by measuring sketch songs; they follow the order, not the figures, of what is known of
recordings: rap, pop, rock and metal are compressed most, and jazz, classical and chamber music least (M. Kirchberger
and F. A. Russo, "Dynamic range across music genres …", Trends in Hearing 20, 2016).
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.audio_engines.mixing.compressor import Compression
from harmonia_lab.music.genres import nearest_genre

__all__ = ["MIX_PRESETS", "SINGLE_MIX", "MixPreset", "mix_preset"]


class MixPreset(NamedTuple):
    """name: for the record. lead: LU, loudness of the lead above all other stems together, where words are sung.

    drums, bass: dB, added to the level of the role. low: dB, a shelf under 90 Hz on the whole mix. width: factor on the
    difference of left and right above 120 Hz; below that the mix is mono. reverb: dB, added to every stem's send.
    compression: of the whole mix; None for none. crest: dB, the most that the true peak may exceed the loudness.
    """

    name: str
    lead: float
    drums: float
    bass: float
    low: float
    width: float
    reverb: float
    compression: Compression | None
    crest: float


_GLUE = Compression(threshold=0.0, ratio=2.0, knee=8.0, attack=0.030, release=0.150)
"""Holds a mix together: it follows phrases, and lets the attack of a note pass."""

_FIRM = Compression(threshold=-2.0, ratio=3.0, knee=6.0, attack=0.010, release=0.100)
"""For dense mixes: it works all the time, and rounds off drums."""

_HARD = Compression(threshold=-4.0, ratio=6.0, knee=4.0, attack=0.002, release=0.060)
"""Leaves little of the difference between loud and soft."""

_UNLIMITED = 13.0  # −14 LUFS and −1 dBTP allow no more

MIX_PRESETS: dict[str, MixPreset] = {
    preset.name: preset
    for preset in (
        #          name          lead  drums bass  low  width reverb compression crest
        MixPreset("pop",          1.0,  0.0,  0.0,  1.0, 1.15,  0.0, _FIRM, 10.0),
        MixPreset("rock",         0.5,  1.0,  0.0,  0.5, 1.20, -3.0, _FIRM,  9.5),
        MixPreset("folk",         2.0, -3.0, -1.0, -0.5, 1.00,  0.0, None,  _UNLIMITED),
        MixPreset("country",      1.5, -1.0, -0.5,  0.0, 1.05, -1.0, _GLUE, 11.5),
        MixPreset("jazz",         1.5, -2.0,  0.0, -0.5, 1.00, -1.0, None,  12.5),
        MixPreset("blues",        1.0, -0.5,  0.0,  0.0, 0.95, -2.0, _GLUE, 11.5),
        MixPreset("soul",         1.0,  0.0,  0.5,  0.5, 1.05, -1.0, _GLUE, 11.0),
        MixPreset("electronic",   0.5,  1.0,  0.5,  1.5, 1.30,  0.0, _FIRM,  9.0),
        MixPreset("house",        0.5,  1.5,  0.5,  2.0, 1.25, -1.0, _HARD,  8.5),
        MixPreset("ambient",      0.5, -4.0, -1.0, -1.0, 1.35,  4.0, None,  _UNLIMITED),
        MixPreset("hip hop",      0.5,  1.5,  1.0,  2.0, 1.05, -4.0, _FIRM,  9.0),
        MixPreset("classical",    1.0, -3.0, -0.5, -0.5, 1.10,  2.0, None,  _UNLIMITED),
        MixPreset("indie",        0.5,  0.5,  0.0,  0.0, 1.15,  1.0, _GLUE, 10.5),
        MixPreset("metal",        0.0,  1.5,  0.0,  0.0, 1.25, -6.0, _HARD,  7.4),
        MixPreset("bossa nova",   2.0, -2.0, -0.5, -0.5, 0.95, -1.0, None,  12.0),
        MixPreset("reggae",       0.5,  0.0,  1.5,  2.0, 1.00,  0.0, _GLUE, 10.5),
        MixPreset("waltz",        1.5, -3.0, -0.5, -0.5, 1.10,  1.0, None,  _UNLIMITED),
        MixPreset("cinematic",    0.5,  0.5,  0.0,  1.0, 1.25,  3.0, _GLUE, 12.0),
    )
}  # fmt: skip
"""One row for each of `protocol.vocabulary.GENRES`."""

SINGLE_MIX = MixPreset("single mix", 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, None, _UNLIMITED)
"""For engines that render the whole mix: its genre's density, width and bass are in it already. Only mastered."""


def mix_preset(genre: str) -> MixPreset:
    """Return the preset of the genre of the table that `genre` names ("thrash" → metal)."""
    return MIX_PRESETS[nearest_genre(genre)]
