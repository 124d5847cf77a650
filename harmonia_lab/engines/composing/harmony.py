"""Chords: Roman numerals to pitch classes, progressions over the form with cadences, and voicings that lead smoothly.

Owns what is sounded together. Which instrument plays a voicing, and in which rhythm, is `accompaniment.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle, islice

from harmonia_lab.engines.composing.form import Form, Section
from harmonia_lab.engines.composing.setting import Harmony
from harmonia_lab.engines.genres import GenreStyle
from harmonia_lab.protocol.vocabulary import TONICS

__all__ = ["MAJOR_SCALE", "MINOR_SCALE", "harmonise", "scale_over", "voice_lead"]

MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)
_DEGREES = {"i": 0, "ii": 1, "iii": 2, "iv": 3, "v": 4, "vi": 5, "vii": 6}
_LOOPS = frozenset({"electro", "house", "boom bap", "one drop", "none"})
"""Grooves whose choruses keep circling (half cadence) instead of closing (authentic cadence)."""


def harmonise(
    form: Form, style: GenreStyle, tonic: int, *, minor: bool, final: float, beats: float, dice: random.Random
) -> tuple[Harmony, ...]:
    """The song's chords: two to a usual phrase, a cadence at each section's end, the plain tonic triad to end on."""
    bar = style.beats_per_bar
    unit = max(form.line_bars * bar / 2, bar if bar % 2 else bar / 2)
    progressions = _progressions(style, minor=minor, dice=dice)
    chords: list[Harmony] = []
    for section in form.sections:
        start = float(section.bar * bar)
        end = min(final, start + section.bars * bar)
        if start < end:
            count = max(1, -int(-(end - start) // unit))
            numerals = list(islice(cycle(progressions[section.kind]), count))
            for i, numeral in enumerate(_with_cadence(numerals, section, style, minor=minor)):
                at = start + i * unit
                chords.append(_chord(numeral, at, min(end, at + unit) - at, tonic, style, minor=minor))
    if not chords and final:
        chords = [
            _chord(n, i * final / 2, final / 2, tonic, style, minor=minor) for i, n in enumerate(_tonic_dominant(minor))
        ]
    plain = style._replace(sevenths=False)
    return (*chords, _chord("i" if minor else "I", final, beats - final, tonic, plain, minor=minor))


def _tonic_dominant(minor: bool) -> tuple[str, str]:
    return ("i", "V") if minor else ("I", "V")


def _progressions(style: GenreStyle, *, minor: bool, dice: random.Random) -> dict[str, list[str]]:
    """One progression for verses and another for choruses, which starts on the tonic where the genre has such a one."""
    stock = [numerals.split() for numerals in (style.minor if minor else style.major)]
    home = "i" if minor else "I"
    chorus = dice.choice([p for p in stock if p[0] == home] or stock)
    verse = dice.choice([p for p in stock if p is not chorus] or stock)
    bridge = dice.choice([p for p in stock if p not in (chorus, verse)] or stock)
    away = next((i for i, numeral in enumerate(bridge) if numeral.lower() in ("iv", "vi")), 0)
    return {
        "intro": chorus, "verse": verse, "chorus": chorus, "bridge": bridge[away:] + bridge[:away],
        "solo": verse, "outro": chorus,
    }  # fmt: skip


def _with_cadence(numerals: list[str], section: Section, style: GenreStyle, *, minor: bool) -> list[str]:
    """Choruses close on the tonic, everything else opens towards what follows by ending on the dominant."""
    before = "iv" if minor else "IV"
    if section.kind == "chorus" and style.groove not in _LOOPS and len(numerals) >= 4:
        close = ["V", "i" if minor else "I"]
    elif len(numerals) >= 2:
        close = ["V"]
    else:
        return numerals
    kept = numerals[: -len(close)]
    if kept[-1] in ("V", "VII"):
        kept[-1] = before
    return kept + close


@lru_cache(maxsize=256)
def _tones(numeral: str, tonic: int, sevenths: bool, blues: bool, minor: bool) -> tuple[str, tuple[int, ...]]:
    match = re.fullmatch(r"([IViv]+)(°?)", numeral)
    assert match, numeral
    degree = _DEGREES[match[1].lower()]
    root = (tonic + (MINOR_SCALE if minor else MAJOR_SCALE)[degree]) % 12
    if match[2]:
        intervals, suffix = ((0, 3, 6, 10), "m7b5") if sevenths else ((0, 3, 6), "dim")
    elif match[1].islower():
        intervals, suffix = ((0, 3, 7, 10), "m7") if sevenths else ((0, 3, 7), "m")
    elif not sevenths:
        intervals, suffix = (0, 4, 7), ""
    elif blues or degree in (4, 6):
        intervals, suffix = (0, 4, 7, 10), "7"
    else:
        intervals, suffix = (0, 4, 7, 11), "maj7"
    return TONICS[root] + suffix, tuple((root + interval) % 12 for interval in intervals)


def _chord(numeral: str, start: float, duration: float, tonic: int, style: GenreStyle, *, minor: bool) -> Harmony:
    symbol, tones = _tones(numeral, tonic, style.sevenths, style.groove == "shuffle", minor)
    return Harmony(start, duration, symbol, tones, numeral == "V")


def scale_over(chord: Harmony, tonic: int, *, minor: bool) -> frozenset[int]:
    """The pitch classes that a melody may use over a chord: the key's scale, bent where the chord bends it.

    In minor the dominant's raised leading tone replaces the natural seventh (harmonic minor); in major a blue seventh
    or third replaces the natural one.
    """
    scale = {(tonic + step) % 12 for step in (MINOR_SCALE if minor else MAJOR_SCALE)}
    replaced = {(tone + (-1 if minor else 1)) % 12 for tone in set(chord.pitch_classes) - scale}
    return frozenset((scale - replaced) | set(chord.pitch_classes))


def voice_lead(chords: Sequence[Harmony], low: int, high: int, voices: int) -> list[tuple[int, ...]]:
    """A voicing for each chord, lowest note first, in [low, high]: the nearest to the one before.

    Parallel fifths and octaves between the top voice and the root below it are avoided where another inversion lies
    near. Fewer voices than tones leave the fifth out; more of them double the root.
    """
    found: list[tuple[int, ...]] = []
    centre = (low + high) / 2
    previous: Harmony | None = None
    for chord in chords:
        tones = chord.pitch_classes
        options = _voicings(tones, low, high, voices)
        if previous is None:
            best = min(options, key=lambda v: (abs(sum(v) / len(v) - centre), v))
        else:
            last, before = found[-1], previous
            best = min(options, key=lambda v: (_distance(last, v, centre) + _parallels(before, chord, last, v), v))
        found.append(best)
        previous = chord
    return found


@lru_cache(maxsize=512)
def _voicings(tones: tuple[int, ...], low: int, high: int, voices: int) -> tuple[tuple[int, ...], ...]:
    """Close positions of every inversion, and the same with the second voice from the top dropped an octave."""
    if voices < len(tones):
        tones = (tones[0], tones[1], *tones[3:])[:voices] if len(tones) > 3 or voices < 3 else tones[:voices]
    found = set()
    for bottom in range(low, high + 1):
        if bottom % 12 not in tones:
            continue
        stack = [bottom]
        while len(stack) < voices:
            stack.append(next(p for p in range(stack[-1] + 1, stack[-1] + 13) if p % 12 in tones))
        dropped = sorted((*stack[:-2], stack[-2] - 12, stack[-1]))
        found |= {
            tuple(v) for v in (stack, dropped) if v[0] >= low and v[-1] <= high and set(tones) <= {p % 12 for p in v}
        }
    assert found, (tones, low, high)
    return tuple(sorted(found))


def _distance(last: tuple[int, ...], voicing: tuple[int, ...], centre: float) -> float:
    moved = sum(abs(a - b) for a, b in zip(last, voicing, strict=False))
    return moved + 0.3 * abs(sum(voicing) / len(voicing) - centre)


def _parallels(before: Harmony, chord: Harmony, last: tuple[int, ...], voicing: tuple[int, ...]) -> float:
    intervals = ((last[-1] - before.root) % 12, (voicing[-1] - chord.root) % 12)
    moving = last[-1] != voicing[-1] and before.root != chord.root
    return 5.0 if moving and intervals[0] == intervals[1] and intervals[0] in (0, 7) else 0.0
