"""The feel of a song: which of its genre's patterns it has, how it returns to a section, where it pauses, how it ends.

Owns these draws, each from a random generator of its own, so that none changes with the lyrics, the tempo or the key.
What each choice sounds like is decided where it is played: `drums.py`, `accompaniment.py`, `bass.py`, `variations.py`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from harmonia_lab.music.composing.grooves import GROOVES, LIFTS, Groove, Pattern
from harmonia_lab.music.genres import Ending, GenreStyle
from harmonia_lab.music.seeds import derive_rng

__all__ = ["Feel", "choose_feel"]


class Feel(NamedTuple):
    """groove: drums of the whole song; lift: what they add when a section returns. comping, bass: names of patterns.

    contrast: the comping of bridges, solos and later verses. last_chorus: what makes it higher than the ones before:
    the hook an octave up where the instrument has it, or a second voice. pause: what comes before the last chorus: a
    stop of the band, or a first line without drums and bass.
    """

    groove: Groove
    lift: Pattern
    comping: str
    contrast: str
    bass: str
    ending: Ending
    last_chorus: Literal["octave", "harmony"]
    pause: Literal["stop", "breakdown", "none"]


def choose_feel(style: GenreStyle, seed: int) -> Feel:
    """Return the feel that the seed chooses among those of the genre."""
    comping = derive_rng(seed, "feel", "comping").sample(style.comping, 2)
    return Feel(
        groove=GROOVES[derive_rng(seed, "feel", "groove").choice(style.grooves)],
        lift=derive_rng(seed, "feel", "lift").choice(LIFTS) if style.beats_per_bar == 4 else {},
        comping=comping[0],
        contrast=comping[1],
        bass=derive_rng(seed, "feel", "bass").choice(style.bass),
        ending=derive_rng(seed, "feel", "ending").choice(style.endings),
        last_chorus=derive_rng(seed, "feel", "last chorus").choice(("octave", "harmony")),
        pause=derive_rng(seed, "feel", "pause").choice(("stop", "stop", "breakdown", "none"))
        if style.breaks
        else "none",
    )
