"""Chords: Roman numerals to pitch classes, and progressions over the form with cadences, in a key that can be heard.

Owns which chord sounds when. How its notes are spread over octaves is `voicing.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle, islice
from statistics import correlation
from typing import NamedTuple

from harmonia_lab.music.composing.form import Form, Section
from harmonia_lab.music.composing.setting import Harmony
from harmonia_lab.music.genres import GenreStyle
from harmonia_lab.protocol.vocabulary import TONICS

__all__ = ["MAJOR_SCALE", "MINOR_SCALE", "Key", "harmonise", "scale_over"]

MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)
_DEGREES = {"i": 0, "ii": 1, "iii": 2, "iv": 3, "v": 4, "vi": 5, "vii": 6}


class Key(NamedTuple):
    """tonic: pitch class 0…11."""

    tonic: int
    minor: bool

    @property
    def home(self) -> str:
        """The tonic chord's numeral."""
        return "i" if self.minor else "I"


def harmonise(
    form: Form, style: GenreStyle, key: Key, *, final: float, beats: float, dice: random.Random
) -> tuple[Harmony, ...]:
    """The song's chords: two to a usual phrase, a cadence at each section's end, the plain tonic triad to end on.

    Of the genre's progressions in random order, the first that makes the key plain is taken. final: beat of the last
    chord. beats: where it ends.
    """
    last = _chord(key.home, final, beats - final, key, style._replace(sevenths=False))
    if not form.final_bar:
        half = final / 2
        before = [_chord(key.home, 0.0, half, key, style), _chord("V", half, half, key, style)] if final else []
        return (*before, last)
    best, clearest = [last], -2.0
    for scheme in _schemes(style, key, dice):
        chords = [*_chords(form, style, key, scheme, final), last]
        clarity = _clarity(chords, key)
        if clarity > clearest:
            best, clearest = chords, clarity
        if clearest >= _CLEAR:
            break
    return tuple(best)


class _Scheme(NamedTuple):
    """progressions: numerals by kind of section. opening: the chord that leads from one section into the next."""

    progressions: dict[str, list[str]]
    opening: str


def _schemes(style: GenreStyle, key: Key, dice: random.Random) -> list[_Scheme]:
    """Every way to give verses, choruses and bridges the genre's progressions, in random order.

    Choruses start on the tonic where the genre has such a progression, and differ from verses where it has two.
    Sections open on the dominant; the soft way, on the subdominant, is the last resort where that blurs the key.
    """
    stock = [numerals.split() for numerals in (style.minor if key.minor else style.major)]
    found = []
    for chorus in [p for p in stock if p[0] == key.home] or stock:
        for verse in [p for p in stock if p is not chorus] or stock:
            for bridge in [p for p in stock if p is not chorus and p is not verse] or stock:
                away = next((i for i, numeral in enumerate(bridge) if numeral.lower() in ("iv", "vi")), 0)
                tail = {"bridge": bridge[away:] + bridge[:away], "solo": verse, "outro": chorus}
                found.append({"intro": chorus, "verse": verse, "chorus": chorus, **tail})
    dice.shuffle(found)
    return [_Scheme(p, opening) for opening in (_dominant(style, key), _subdominant(key)) for p in found]


def _dominant(style: GenreStyle, key: Key) -> str:
    """V; in minor metal the seventh degree, because power chords have no leading tone to raise."""
    return "VII" if key.minor and style.groove == "metal" else "V"


def _subdominant(key: Key) -> str:
    return "iv" if key.minor else "IV"


def _chords(form: Form, style: GenreStyle, key: Key, scheme: _Scheme, final: float) -> list[Harmony]:
    """Everything before the last chord."""
    bar = style.beats_per_bar
    unit = max(form.line_bars * bar / 2, bar if bar % 2 else bar / 2)
    chords: list[Harmony] = []
    for section in form.sections:
        start = float(section.bar * bar)
        end = min(final, start + section.bars * bar)
        if start < end:
            count = max(1, -int(-(end - start) // unit))
            numerals = list(islice(cycle(scheme.progressions[section.kind]), count))
            for i, numeral in enumerate(_with_cadence(numerals, section, style, key, scheme.opening)):
                at = start + i * unit
                chords.append(_chord(numeral, at, min(end, at + unit) - at, key, style))
    return chords


def _with_cadence(numerals: list[str], section: Section, style: GenreStyle, key: Key, opening: str) -> list[str]:
    """Choruses close on the tonic, everything else opens towards what follows."""
    if section.kind == "chorus" and not style.circles and len(numerals) >= 4:
        close = [_dominant(style, key), key.home]
    elif len(numerals) >= (4 if section.kind == "intro" else 2):
        close = [opening]
    else:
        return numerals
    kept = numerals[: -len(close)]
    if kept[-1] in ("V", "VII", close[0]):
        kept[-1] = key.home if close[0] == _subdominant(key) else _subdominant(key)
    return kept + close


def _chord(numeral: str, start: float, duration: float, key: Key, style: GenreStyle) -> Harmony:
    intervals, suffix = _quality(numeral, sevenths=style.sevenths, blues=style.groove == "shuffle")
    degree = _DEGREES[numeral.lower().rstrip("°")]
    root = (key.tonic + (MINOR_SCALE if key.minor else MAJOR_SCALE)[degree]) % 12
    return Harmony(start, duration, TONICS[root] + suffix, tuple((root + step) % 12 for step in intervals))


@lru_cache(maxsize=128)
def _quality(numeral: str, *, sevenths: bool, blues: bool) -> tuple[tuple[int, ...], str]:
    """Intervals above the root, and the symbol's suffix.

    The dominant always has its seventh, which tells its key from its own tonic's. A major tonic gets a sixth instead
    of its major seventh, as jazz pianists do when the tune rests on the tonic, and for the same reason.
    """
    assert re.fullmatch(r"[IViv]+°?", numeral), numeral
    if numeral.endswith("°"):
        return ((0, 3, 6, 10), "m7b5") if sevenths else ((0, 3, 6), "dim")
    if numeral.islower():
        return ((0, 3, 7, 10), "m7") if sevenths else ((0, 3, 7), "m")
    if numeral == "V" or (sevenths and (blues or numeral == "VII")):
        return (0, 4, 7, 10), "7"
    if not sevenths:
        return (0, 4, 7), ""
    return ((0, 4, 7, 9), "6") if numeral == "I" else ((0, 4, 7, 11), "maj7")


_CLEAR = 0.1
_PROFILES = {
    False: (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    True: (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""How well each pitch class fits a major (False) or minor (True) key, from the tonic up: C. L. Krumhansl, "Cognitive
Foundations of Musical Pitch" (1990), p. 30."""


def _clarity(chords: Sequence[Harmony], key: Key) -> float:
    """How much better the chords fit the key or its relative than any other key: a difference of correlations.

    A listener (and a key finder) hears each note with its overtones, of which the third harmonic, a twelfth up, is the
    strongest foreign one: progressions that circle the dominant are heard in its key.
    """
    heard = [0.0] * 12
    for chord in chords:
        for i, tone in enumerate(chord.pitch_classes):
            weight = chord.duration * (1.3 if i == 0 else 1.0)
            for interval, strength in ((0, 1.0), (7, 0.35), (4, 0.2)):
                heard[(tone + interval) % 12] += weight * strength
    relative = Key((key.tonic + (3 if key.minor else 9)) % 12, not key.minor)
    fits = {
        Key(tonic, minor): correlation(heard, [_PROFILES[minor][(i - tonic) % 12] for i in range(12)])
        for tonic in range(12)
        for minor in (False, True)
    }
    return max(fits[key], fits[relative]) - max(fit for other, fit in fits.items() if other not in (key, relative))


def scale_over(chord: Harmony, tonic: int, *, minor: bool) -> frozenset[int]:
    """The pitch classes that a melody may use over a chord: the key's scale, bent where the chord bends it.

    In minor the dominant's raised leading tone replaces the natural seventh (harmonic minor); in major a blue seventh
    or third replaces the natural one.
    """
    scale = {(tonic + step) % 12 for step in (MINOR_SCALE if minor else MAJOR_SCALE)}
    replaced = {(tone + (-1 if minor else 1)) % 12 for tone in set(chord.pitch_classes) - scale}
    return frozenset((scale - replaced) | set(chord.pitch_classes))
