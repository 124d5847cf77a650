"""Bands that obey wishes: instruments added, left out, or exactly these.

Owns these changes (not what is wished for: `reading.py`). Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harmonia_lab.protocol.models import Instrument
from harmonia_lab.protocol.vocabulary import INSTRUMENTS

__all__ = ["Band", "band_of", "is_family"]

LARGEST = 8
"""Instruments of a band, at most."""


class Band(NamedTuple):
    """Wishes for a band. named: names of `INSTRUMENTS`. without: names of instruments or of families ("guitar",
    "drums"). only: nothing but `named` shall play. percussion: percussion is wished for that no engine has."""

    named: tuple[str, ...]
    without: tuple[str, ...]
    only: bool
    percussion: bool


def is_family(family: str, name: str) -> bool:
    """Return whether an instrument is meant by "no <family>": a kit by drums, a bass by bass guitar, a guitar."""
    role = INSTRUMENTS[name].role
    if family == name:
        return True
    if family == "drums":
        return role == "drums"
    if family == "bass guitar":
        return role == "bass"
    if family == "synth pad":
        return name.startswith("synth")
    return family in ("guitar", "piano") and name.endswith(f" {family}")


def band_of(band: Sequence[Instrument], wish: Band, usual: Sequence[Instrument]) -> list[Instrument]:
    """Return the band after a wish. usual: the genre's band, from which harmony is added where none is left.

    "only": exactly the named ones. Else each named instrument takes the place of one in its role that isn't named. A
    band that obeys comes back in its order.
    """
    named = [_usual(name) for name in wish.named if not any(is_family(other, name) for other in wish.without)]
    if wish.only and named:
        kept = [instrument for instrument in band if instrument.name in wish.named]
        found = {i.name: i for i in kept}
        return [found.get(i.name, i) for i in named][:LARGEST]
    made = [i for i in band if not any(is_family(other, i.name) for other in wish.without)]
    for instrument in named:
        if instrument.name in {i.name for i in made}:
            continue
        place = next((k for k, i in enumerate(made) if i.role == instrument.role and i.name not in wish.named), None)
        if place is None:
            made.append(instrument)
        else:
            made[place] = instrument
    if wish.percussion and "drums" not in wish.without and not any(i.role == "drums" for i in made):
        made.append(_usual("drums"))
    made = made[-LARGEST:] if len(made) > LARGEST else made
    return made if any(i.role != "drums" for i in made) else made + _harmony(wish, usual)


def _harmony(wish: Band, usual: Sequence[Instrument]) -> list[Instrument]:
    """Return instruments that carry harmony and are not unwanted."""
    spare = [*usual, *(_usual(name) for name in ("piano", "harp", "strings", "acoustic guitar", "flute"))]
    free = [i for i in spare if i.role != "drums" and not any(is_family(other, i.name) for other in wish.without)]
    return free[:1]


def _usual(name: str) -> Instrument:
    return Instrument(name=name, role=INSTRUMENTS[name].role)
