"""Chords: Roman numerals to pitch classes, and progressions with cadences over the form, in a clearly audible key.

Owns which chord sounds when, and the scale over it (not the octaves of its notes, which are in `voicing.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import cycle, islice, product
from typing import NamedTuple

from harmonia_lab.music.composing.form import Form
from harmonia_lab.music.genres import GenreStyle
from harmonia_lab.music.plan import Chord
from harmonia_lab.protocol.vocabulary import TONICS

__all__ = ["KEY_PROFILES", "Key", "harmonise", "scale_over"]

_MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
_MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)
_DEGREES = ("i", "ii", "iii", "iv", "v", "vi", "vii")


class Key(NamedTuple):
    """tonic: pitch class 0…11."""

    tonic: int
    minor: bool

    @property
    def scale(self) -> tuple[int, ...]:
        """The pitch classes of the (natural minor) scale, from the tonic up."""
        return tuple((self.tonic + step) % 12 for step in (_MINOR_SCALE if self.minor else _MAJOR_SCALE))

    def numeral(self, degree: str) -> str:
        """Return the Roman numeral of the chord on the tonic ("I") or subdominant ("IV"): minor in minor keys."""
        return degree.lower() if self.minor else degree


def harmonise(
    form: Form, style: GenreStyle, key: Key, *, final: float, beats: float, rng: random.Random
) -> tuple[Chord, ...]:
    """Return the song's chords: two to a phrase, cadences at the ends of sections, the tonic triad at the end.

    The genre's progressions are tried in random order, and the first that makes the key clear is taken; if none does,
    the one that makes it clearest. They are judged by a model song first of all, so that the choice seldom changes with
    the length of the lyrics or the tempo. final: beat of the last chord. beats: its end.
    """
    last = _chord(key.numeral("I"), final, beats - final, key, style._replace(sevenths=False, dominant_sevenths=False))
    if not form.final_bar:
        half = final / 2
        before = zip((key.numeral("I"), "V"), (0.0, half), strict=True) if final else ()
        return (*(_chord(numeral, start, half, key, style) for numeral, start in before), last)
    best, clearest = [last], -2.0  # less than any difference of correlations
    for scheme in _schemes(style, key.minor, rng):
        chords = [*_chords(form, style, key, scheme, final), last]
        clarity = _clarity(chords, key)
        if clarity > clearest:
            best, clearest = chords, clarity
        if clarity >= _CLEAR_ENOUGH and _model_clarity(scheme, style, key.minor) >= _CLEAR:
            return tuple(chords)
    return tuple(best)


class _Scheme(NamedTuple):
    """progressions: by kind of section. opening: the chord that ends most sections and leads on to the next one."""

    progressions: Mapping[str, str]
    opening: str

    def numerals(self, kind: str, count: int) -> list[str]:
        """Return `count` numerals of a kind of section.

        Of a progression's forms the longest is taken that fills the section a whole number of times, else the first.
        """
        forms = [form.split() for form in self.progressions[kind].split("|")]
        whole = [form for form in forms if count % len(form) == 0] or forms[:1]
        chosen = max(whole, key=len)
        return list(islice(cycle(chosen), count))


def _model_clarity(scheme: _Scheme, style: GenreStyle, minor: bool) -> float:
    """Return the clarity of two verses and two choruses, of two lines or of four, whichever is less clear."""
    key = Key(0, minor)
    found = []
    for units in (4, 8):
        numerals = [
            numeral
            for kind in ("verse", "chorus") * 2
            for numeral in _with_cadence(scheme.numerals(kind, units), kind, style, key, scheme.opening)
        ]
        chords = [_chord(numeral, 0.0, 1.0, key, style) for numeral in (*numerals, key.numeral("I"))]
        found.append(_clarity(chords, key))
    return min(found)


def _schemes(style: GenreStyle, minor: bool, rng: random.Random) -> list[_Scheme]:
    """Return all ways to assign the genre's progressions to verses, choruses and bridges, in random order.

    Choruses differ from verses. Sections end on the dominant, or, for a chorus that the dominant makes unclear with all
    verses, on the weaker subdominant.
    """
    key = Key(0, minor)
    stock = style.progressions.minor if minor else style.progressions.major
    found = []
    for chorus in rng.sample(stock, len(stock)):
        verses = [p for p in stock if p != chorus]
        for opening, verse in product((_dominant(style, key), key.numeral("IV")), rng.sample(verses, len(verses))):
            bridge = rng.choice([p for p in stock if p not in (chorus, verse)])
            intro = rng.choice((chorus, verse))
            parts = {"verse": verse, "chorus": chorus, "bridge": _turned_away(bridge), "solo": verse}
            found.append(_Scheme({**parts, "intro": intro, "outro": chorus}, opening))
    return found


def _turned_away(progression: str) -> str:
    """Return the progression from its first subdominant or submediant on: bridges begin away from the tonic."""
    numerals = progression.partition("|")[0].split()
    away = next((i for i, numeral in enumerate(numerals) if numeral.lower() in ("iv", "vi")), 0)
    return " ".join(numerals[away:] + numerals[:away])


def _dominant(style: GenreStyle, key: Key) -> str:
    """Return V; for power chords in minor VII (`GenreStyle.power_chords`)."""
    return "VII" if key.minor and style.power_chords else "V"


def _chords(form: Form, style: GenreStyle, key: Key, scheme: _Scheme, final: float) -> list[Chord]:
    """Return all chords before the last one."""
    bar = style.beats_per_bar
    unit = max(form.line_bars * bar / 2, bar if bar % 2 else bar / 2)
    chords: list[Chord] = []
    for section in form.sections:
        start = float(section.bar * bar)
        end = min(final, start + section.bars * bar)
        if start < end:
            count = max(1, -int(-(end - start) // unit))
            numerals = scheme.numerals(section.kind, count)
            for i, numeral in enumerate(_with_cadence(numerals, section.kind, style, key, scheme.opening)):
                at = start + i * unit
                chords.append(_chord(numeral, at, min(end, at + unit) - at, key, style))
    return chords


def _with_cadence(numerals: list[str], kind: str, style: GenreStyle, key: Key, opening: str) -> list[str]:
    """Return the numerals with a cadence: choruses close on the tonic, other sections end on `opening`."""
    if kind == "chorus" and not style.open_choruses and len(numerals) >= 4:
        close = [_dominant(style, key), key.numeral("I")]
    elif len(numerals) >= (4 if kind == "intro" else 2):
        close = [opening]
    else:
        return numerals
    kept = numerals[: -len(close)]
    if kept[-1] in ("V", "VII", close[0]):
        kept[-1] = key.numeral("I") if close[0] == key.numeral("IV") else key.numeral("IV")
    return kept + close


def _chord(numeral: str, start: float, duration: float, key: Key, style: GenreStyle) -> Chord:
    bare = numeral.removeprefix("b").rstrip("°")
    intervals, suffix = _quality(numeral, key, style)
    root = (key.scale[_DEGREES.index(bare.lower())] - numeral.startswith("b")) % 12
    return Chord(start, duration, TONICS[root] + suffix, tuple((root + step) % 12 for step in intervals))


_SECONDARY_DOMINANTS = {False: ("II", "III", "VI", "VII", "bVII"), True: ("II", "IV", "VII")}
"""Chords that have a minor seventh where a genre has sevenths, by whether the key is minor; bVII is the "backdoor"."""


def _quality(numeral: str, key: Key, style: GenreStyle) -> tuple[tuple[int, ...], str]:
    """Return the intervals above the root, and the chord symbol's suffix.

    The dominant always has its seventh, because without it it could be the tonic of another key. A major tonic gets a
    sixth instead of the major seventh, as jazz pianists play it when the melody rests on the tonic, a semitone above.
    """
    if numeral.endswith("°"):
        return ((0, 3, 6, 10), "m7b5") if style.sevenths else ((0, 3, 6), "dim")
    if numeral.islower():
        return ((0, 3, 7, 10), "m7") if style.sevenths else ((0, 3, 7), "m")
    dominant = style.dominant_sevenths or numeral in _SECONDARY_DOMINANTS[key.minor]
    if numeral == "V" or (style.sevenths and dominant):
        return (0, 4, 7, 10), "7"
    if not style.sevenths:
        return (0, 4, 7), ""
    return ((0, 4, 7, 9), "6") if numeral == "I" else ((0, 4, 7, 11), "maj7")


_CLEAR, _CLEAR_ENOUGH = 0.1, 0.12  # of `_clarity`, in the model song and in the song itself
KEY_PROFILES = {
    False: (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    True: (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""Key profiles: how well each pitch class fits a major (False) or minor (True) key, from the tonic up. From C. L.
Krumhansl, "Cognitive Foundations of Musical Pitch" (1990), p. 30."""


def _clarity(chords: Sequence[Chord], key: Key) -> float:
    """Return how much better the chords fit the key or its relative than any other key: a difference of correlations.

    Each note counts with its overtones, as listeners and key finders hear them. The third harmonic, a twelfth up, is
    the strongest: because of it, progressions around the dominant sound as if they were in the dominant's key.
    """
    pitch_class_profile = [0.0] * 12
    for chord in chords:
        for i, tone in enumerate(chord.pitch_classes):
            weight = chord.duration * (1.3 if i == 0 else 1.0)
            for interval, strength in ((0, 1.0), (7, 0.35), (4, 0.2)):
                pitch_class_profile[(tone + interval) % 12] += weight * strength
    relative = Key((key.tonic + (3 if key.minor else 9)) % 12, not key.minor)
    centred = _centred(pitch_class_profile)
    fits = {
        other: sum(a * b for a, b in zip(centred, profile, strict=True)) for other, profile in _CENTRED_PROFILES.items()
    }
    return max(fits[key], fits[relative]) - max(fit for other, fit in fits.items() if other not in (key, relative))


def _centred(profile: Sequence[float]) -> tuple[float, ...]:
    """Return the profile with mean 0 and length 1: the correlation of two is then the sum of their products."""
    mean = sum(profile) / len(profile)
    length = math.hypot(*(value - mean for value in profile)) or 1.0
    return tuple((value - mean) / length for value in profile)


_CENTRED_PROFILES = {
    Key(tonic, minor): _centred([profile[(i - tonic) % 12] for i in range(12)])
    for minor, profile in KEY_PROFILES.items()
    for tonic in range(12)
}


def scale_over(chord: Chord, key: Key) -> frozenset[int]:
    """Return the pitch classes that a melody may use over a chord: the key's scale, altered as in the chord.

    A chord's major third outside the scale is the raised degree below (harmonic minor over the dominant, F sharp over
    D in C major); any other foreign tone is the lowered degree above (blue sevenths and thirds, borrowed chords).
    """
    tones = set(chord.pitch_classes)
    third = (chord.root + 4) % 12
    replaced = {(tone + (-1 if tone == third else 1)) % 12 for tone in tones - set(key.scale)}
    return frozenset((set(key.scale) - replaced) | tones)
