"""The melody: themes for each kind of section, set to its lines; the chorus lies higher and is the same each time.

Owns pitches and lengths of the melody's notes as written. `rhythm.py` places the syllables.

Each line's pitches are the cheapest path through the notes in range (dynamic programming): chord tones on strong
beats and long notes, steps rather than leaps, a leap followed by a step back, non-chord tones left by step, rather
stable degrees of the key (`harmony.KEY_PROFILES`), close to the theme's contour. D. Huron, "Sweet Anticipation" (2006),
chapters 5-6, found these habits in most melodies: pitch proximity, step inertia, post-skip reversal, and the phrase as
an arch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.harmony import KEY_PROFILES, scale_over
from harmonia_lab.music.composing.rhythm import metric_weight, place_syllables
from harmonia_lab.music.composing.themes import PhrasePlan

__all__ = ["Tessitura", "melody_section", "melody_tessitura"]

_CONTOURS = (
    ((0, 3, 4, 1), (3, 1, -2, 0)), ((-2, 1, 4, 2), (4, 2, 0, -2)), ((2, 4, 1, 0), (0, -2, 2, 1)),
    ((4, 2, 3, 0), (1, 3, 0, -3)), ((0, 0, 4, 3), (2, 4, 1, -1)), ((-3, 0, 2, 4), (4, 3, -1, 0)),
    ((5, 3, 1, -1), (-1, 2, 4, 2)), ((0, 4, -1, 2), (3, 3, 2, -2)), ((1, -2, 1, 3), (5, 2, 3, 0)),
    ((3, 0, 3, 0), (-2, 3, 5, 1)), ((-1, 4, 4, 0), (2, -1, -3, 1)), ((0, 2, 0, 5), (4, 0, 1, -2)),
)  # fmt: skip
"""Contours of themes a and b: semitones from the section's centre at the start, the thirds and the end of a line."""
_CLOSINGS = ((2, 3, 0, -2), (4, 2, 2, 0), (0, 4, 2, -1))
"""Contours of the theme c."""

_LIFT = {"chorus": 5, "bridge": 2, "solo": 4, "intro": 5, "outro": 3}
"""Semitones by which a kind of section lies above the verse."""


class Tessitura(NamedTuple):
    """The range that a melody may use, and the centre of its verses, as MIDI pitches."""

    low: int
    high: int
    centre: float

    @property
    def pitches(self) -> range:
        return range(self.low, self.high + 1)


def melody_tessitura(low: int, high: int, register: int, home: int) -> Tessitura:
    """Return a part of [low, high], low enough for a higher chorus. register: semitones by which the mood raises it.

    home: pitch class of the centre of the verses, which keeps its place in the scale when the song's key changes.
    """
    lowest, highest = low + 5, high - 8
    ideal = round(low + 0.36 * (high - low) + register)
    first = max(lowest, min(ideal - 6, highest - 11))  # of an octave of centres, of which one fits
    centre = min(highest, first + (home - first) % 12)
    return Tessitura(max(low, centre - 9), min(high, centre + 15), float(centre))


class _Theme(NamedTuple):
    """What lines of one theme share. name: of their random generators. contour: semitones from `centre`, evenly spaced.

    closing: whether the line ends on the tonic.
    """

    name: str
    centre: float
    contour: tuple[int, ...]
    closing: bool


def melody_section(
    context: SongContext, section: Section, plans: Sequence[PhrasePlan], tessitura: Tessitura
) -> list[list[ScoreNote]]:
    """Return the melody of each of the section's phrases, which `themes.plan_melody` planned.

    Sections of a kind with equal lines and chords get equal melodies.
    """
    phrases = []
    for plan in plans:
        kind, letter = plan.theme.split()
        rng = context.rng("melody", kind, "contours")
        contours = dict(zip("ab", rng.choice(_CONTOURS), strict=True)) | {"c": rng.choice(_CLOSINGS)}
        contours["d"] = rng.choice(_CONTOURS)[0]
        centre = tessitura.centre + _LIFT.get(section.kind, 0)
        phrases.append(_phrase(context, plan, _Theme(plan.theme, centre, contours[letter], plan.closing), tessitura))
    return phrases


def _phrase(context: SongContext, plan: PhrasePlan, theme: _Theme, tessitura: Tessitura) -> list[ScoreNote]:
    start, end = context.span(plan.phrase)
    beat_s = context.in_seconds(1)
    onsets = place_syllables(
        [syllable.stressed for syllable in plan.syllables],
        end - start,
        beats_per_bar=context.beats_per_bar,
        beat_s=beat_s,
        syncopation=context.style.syncopation,
        rng=context.rng("melody", theme.name, "rhythm"),
        entry=plan.entry,
        room=plan.room,
    )
    lengths = _lengths(onsets, plan.until, beat_s)
    pitches = _pitches(context, start, onsets, lengths, theme, tessitura)
    return [
        ScoreNote(start + onset, length, pitch, 6.0 if syllable.stressed else 0.0, syllable.text)
        for onset, length, pitch, syllable in zip(onsets, lengths, pitches, plan.syllables, strict=True)
    ]


def _lengths(onsets: Sequence[float], beats: float, beat_s: float) -> list[float]:
    """Return the notes' lengths: until the next one, at most 1.5 s; the last until a breath before the next phrase.

    beats: when the next phrase enters.
    """
    breath = min(0.25 * beats, max(0.25, 0.35 / beat_s))
    longest = max(1.0, 1.5 / beat_s)
    last = min(max(0.25, beats - breath - onsets[-1]), 2 * longest)
    return [*(min(end - onset, longest) for onset, end in pairwise(onsets)), last]


def _pitches(
    context: SongContext,
    start: float,
    onsets: Sequence[float],
    lengths: Sequence[float],
    theme: _Theme,
    tessitura: Tessitura,
) -> list[int]:
    """Return the cheapest path. Random costs, equal for all lines of a theme, make lines alike and seeds differ.

    start: of the phrase. onsets: from there.
    """
    rng = context.rng("melody", theme.name, "pitch")
    noise = [rng.random() for _ in range(1024)]
    tastes = _interval_costs(context)
    span = max(1.0, onsets[-1] - onsets[0])
    paths: _Paths = {}
    non_chord_tones: frozenset[int] = frozenset()
    for i, (onset, length) in enumerate(zip(onsets, lengths, strict=True)):
        at = start + onset
        # A long note off the beat belongs to the beat that it anticipates.
        chord = context.chord_at(at + 0.5 if length > 0.5 and at % 1 > 0.25 else at)
        final = i == len(onsets) - 1
        long = length >= 1.25 or metric_weight(at, context.beats_per_bar) >= 0.8
        strong = final or long or (i == 0 and onset >= 0)
        tones = frozenset(chord.pitch_classes[:3] if final else chord.pitch_classes)
        allowed = tones if strong else scale_over(chord, context.key)
        target = theme.centre + _contour(theme.contour, (onset - onsets[0]) / span)
        costs = {}
        for pitch in tessitura.pitches:
            if pitch % 12 in allowed:
                jitter = noise[(math.floor(onset * 4) * 31 + pitch - round(tessitura.centre)) % 1024]
                foreign = 0.4 if pitch % 12 not in tones else 0.0
                end = _ending_cost(pitch % 12, chord.root, context.key.tonic, theme) if final else 0.0
                stable = 0.25 * KEY_PROFILES[context.key.minor][(pitch - context.key.tonic) % 12]
                costs[pitch] = 0.07 * abs(pitch - target) ** 1.6 + 1.4 * jitter + foreign + end - stable
        paths = (
            _extended(paths, costs, non_chord_tones, tastes) if paths else {(p, 0): (c, (p,)) for p, c in costs.items()}
        )
        non_chord_tones = frozenset(p for p in costs if p % 12 not in tones)
    return list(min(paths.values())[1])


_Paths = dict[tuple[int, int], tuple[float, tuple[int, ...]]]
"""(Last pitch, 1 after a leap up, −1 after a leap down, else 0) → the cheapest path that ends so: (cost, pitches)."""


def _extended(
    paths: _Paths, costs: dict[int, float], non_chord_tones: frozenset[int], intervals: Sequence[float]
) -> _Paths:
    """Return the cheapest paths with one more note. costs: of its pitches. non_chord_tones: of the note before.

    intervals: costs of moves by 0…12 semitones.
    """
    longer: _Paths = {}
    for (before, leap), (path_cost, path) in paths.items():
        for pitch, cost in costs.items():
            move = pitch - before
            size = abs(move)
            if size > 12:
                continue
            total = path_cost + cost + intervals[size]
            if size > 2 and before in non_chord_tones:
                total += 3.0
            if leap and not 0 < -move * leap <= 4:
                total += 2.5
            if size == 0 and len(path) > 1 and path[-2] == pitch:
                total += 0.8
            state = (pitch, 0 if size < 5 else 1 if move > 0 else -1)
            if state not in longer or (total, path) < (longer[state][0], longer[state][1][:-1]):
                longer[state] = (total, (*path, pitch))
    return longer


_INTERVAL_COSTS = (0.45, 0.25, 0.18, 0.4, 0.45, 0.25, 6.0, 0.35, 1.3, 1.5, 5.0, 5.0, 1.2)
"""Cost of a move by 0…12 semitones: tritones and sevenths are nearly forbidden; about 60 % of the moves are steps."""


def _interval_costs(context: SongContext) -> list[float]:
    """Return the costs of moves by 0…12 semitones: some songs repeat notes, others like thirds or leaps."""
    rng = context.rng("melody", "intervals")
    repeated, thirds, leaps = rng.choice((-0.3, 0.0, 0.3)), rng.choice((-0.15, 0.0, 0.15)), rng.choice((-0.1, 0.0, 0.2))
    tastes = (repeated, 0.0, 0.0, thirds, thirds, leaps, 0.0, leaps)
    return [cost + taste for cost, taste in zip_longest(_INTERVAL_COSTS, tastes, fillvalue=0.0)]


def _contour(points: Sequence[int], at: float) -> float:
    """Return the contour's value at 0…1 of the line, by linear interpolation."""
    scaled = at * (len(points) - 1)
    left = min(len(points) - 2, math.floor(scaled))
    return points[left] + (points[left + 1] - points[left]) * (scaled - left)


def _ending_cost(pitch_class: int, root: int, tonic: int, theme: _Theme) -> float:
    """Return the cost of a line's last note: closing lines prefer the tonic, then the chord's root; others avoid it."""
    if theme.closing:
        return 0.0 if pitch_class == tonic else 1.0 if pitch_class == root else 1.8
    return 1.2 if pitch_class == tonic else 0.0
