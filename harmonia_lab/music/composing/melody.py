"""The melody: themes for each kind of section, set to its lines; the chorus lies higher and is the same each time.

Owns pitches and lengths of the melody's notes as written. `rhythm.py` places the syllables.

Each line's pitches are the cheapest path through the notes in range (dynamic programming): chord tones on strong
beats and long notes, steps rather than leaps, a leap followed by a step back, non-chord tones left by step, close to
the theme's contour. D. Huron, "Sweet Anticipation" (2006), chapters 5-6, found these habits in most melodies: pitch
proximity, step inertia, post-skip reversal, and the phrase as an arch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Phrase, Section
from harmonia_lab.music.composing.harmony import scale_over
from harmonia_lab.music.composing.prosody import Syllable
from harmonia_lab.music.composing.rhythm import invented_stresses, metric_weight, place_syllables

__all__ = ["Tessitura", "melody_section", "melody_tessitura"]

_SCHEMES = ("abac", "aabc", "abab", "aaba")
"""The themes of a section's lines; lines with the same letter share one."""

_CONTOURS = (
    ((0, 3, 4, 1), (3, 1, -2, 0)), ((-2, 1, 4, 2), (4, 2, 0, -2)), ((2, 4, 1, 0), (0, -2, 2, 1)),
    ((4, 2, 3, 0), (1, 3, 0, -3)), ((0, 0, 4, 3), (2, 4, 1, -1)), ((-3, 0, 2, 4), (4, 3, -1, 0)),
)  # fmt: skip
"""Contours of themes a and b: semitones from the section's centre at the start, the thirds and the end of a line."""
_CLOSING = (2, 3, 0, -2)
"""The contour of the theme c."""

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


def melody_tessitura(low: int, high: int, register: int) -> Tessitura:
    """Return a part of [low, high], low enough for a higher chorus. register: semitones by which the mood raises it."""
    centre = min(high - 9.0, max(low + 5.0, low + 0.36 * (high - low) + register))
    return Tessitura(max(low, round(centre) - 9), min(high, round(centre) + 15), centre)


class _Theme(NamedTuple):
    """What lines of one theme share. name: of their random generators. contour: semitones from `centre`, evenly spaced.

    closing: whether the line ends on the tonic.
    """

    name: str
    centre: float
    contour: tuple[int, ...]
    closing: bool


def melody_section(context: SongContext, section: Section, tessitura: Tessitura) -> list[ScoreNote]:
    """Return the melody of one section. Sections of a kind with equal lines and chords get equal melodies.

    Intro and outro quote the chorus, without its words.
    """
    kind = "chorus" if section.kind in ("intro", "outro") else section.kind
    rng = context.rng("melody", kind)
    scheme = rng.choice(_SCHEMES)
    contours = dict(zip("ab", rng.choice(_CONTOURS), strict=True)) | {"c": _CLOSING}
    centre = tessitura.centre + _LIFT.get(section.kind, 0)
    notes: list[ScoreNote] = []
    for index, phrase in enumerate(section.phrases):
        last = index == len(section.phrases) - 1
        letter = "c" if last and len(section.phrases) > 1 and section.kind == "chorus" else scheme[index % 4]
        theme = _Theme(f"{kind} {letter}", centre, contours[letter], closing=last and section.kind != "intro")
        notes += _phrase(context, phrase, theme, tessitura, _syllables(context, section, index))
    return notes


def _syllables(context: SongContext, section: Section, index: int) -> tuple[Syllable, ...]:
    """Return the phrase's syllables; in an intro or outro without words the chorus's, without text; else none."""
    phrase = section.phrases[index]
    if phrase.line:
        return phrase.line.syllables
    if section.kind in ("intro", "outro"):
        chorus = next((s.phrases for s in context.sections if s.kind == "chorus"), ())
        quoted = chorus[index % len(chorus)] if chorus else phrase
        if quoted.line and quoted.bars == phrase.bars:
            return tuple(syllable._replace(text="") for syllable in quoted.line.syllables)
    return ()


def _phrase(
    context: SongContext, phrase: Phrase, theme: _Theme, tessitura: Tessitura, syllables: tuple[Syllable, ...]
) -> list[ScoreNote]:
    rng = context.rng("melody", theme.name, "rhythm")
    start, end = context.span(phrase)
    beats, beat_s = end - start, context.in_seconds(1)
    if not syllables:
        density = 0.5 + 0.5 * (context.cues.tempo - 0.5)
        syllables = tuple(Syllable("", s) for s in invented_stresses(beats, beat_s, density, rng))
    stressed = [syllable.stressed for syllable in syllables]
    syncopation = context.style.syncopation
    onsets = place_syllables(
        stressed, beats, beats_per_bar=context.beats_per_bar, beat_s=beat_s, syncopation=syncopation, rng=rng
    )
    lengths = _lengths(onsets, beats, beat_s)
    pitches = _pitches(context, [start + onset for onset in onsets], lengths, theme, tessitura)
    return [
        ScoreNote(start + onset, length, pitch, 6.0 if syllable.stressed else 0.0, syllable.text)
        for onset, length, pitch, syllable in zip(onsets, lengths, pitches, syllables, strict=True)
    ]


def _lengths(onsets: Sequence[float], beats: float, beat_s: float) -> list[float]:
    """Return the notes' lengths: until the next one, at most 1.5 s; the last until a breath before the phrase's end."""
    breath = min(0.25 * beats, max(0.25, 0.35 / beat_s))
    longest = max(1.0, 1.5 / beat_s)
    last = min(max(0.25, beats - breath - onsets[-1]), 2 * longest)
    return [*(min(end - onset, longest) for onset, end in pairwise(onsets)), last]


def _pitches(
    context: SongContext, onsets: Sequence[float], lengths: Sequence[float], theme: _Theme, tessitura: Tessitura
) -> list[int]:
    """Return the cheapest path. Random costs, equal for all lines of a theme, make lines alike and seeds differ."""
    rng = context.rng("melody", theme.name, "pitch")
    noise = [rng.random() for _ in range(1024)]
    first = onsets[0] - onsets[0] % context.beats_per_bar
    span = max(1.0, onsets[-1] - onsets[0])
    paths: _Paths = {}
    non_chord_tones: frozenset[int] = frozenset()
    for i, (onset, length) in enumerate(zip(onsets, lengths, strict=True)):
        chord = context.chord_at(onset)
        final = i == len(onsets) - 1
        strong = final or i == 0 or length >= 1.25 or metric_weight(onset, context.beats_per_bar) >= 0.8
        tones = frozenset(chord.pitch_classes[:3] if final else chord.pitch_classes)
        allowed = tones if strong else scale_over(chord, context.key)
        target = theme.centre + _contour(theme.contour, (onset - onsets[0]) / span)
        costs = {}
        for pitch in tessitura.pitches:
            if pitch % 12 in allowed:
                jitter = noise[(int((onset - first) * 4) * 31 + pitch) % 1024]
                foreign = 0.4 if pitch % 12 not in tones else 0.0
                end = _ending_cost(pitch % 12, chord.root, context.key.tonic, theme) if final else 0.0
                costs[pitch] = 0.07 * abs(pitch - target) ** 1.6 + 1.4 * jitter + foreign + end
        paths = _extended(paths, costs, non_chord_tones) if paths else {(p, 0): (c, (p,)) for p, c in costs.items()}
        non_chord_tones = frozenset(p for p in costs if p % 12 not in tones)
    return list(min(paths.values())[1])


_Paths = dict[tuple[int, int], tuple[float, tuple[int, ...]]]
"""(Last pitch, 1 after a leap up, −1 after a leap down, else 0) → the cheapest path that ends so: (cost, pitches)."""


def _extended(paths: _Paths, costs: dict[int, float], non_chord_tones: frozenset[int]) -> _Paths:
    """Return the cheapest paths with one more note. costs: of its pitches. non_chord_tones: of the note before."""
    longer: _Paths = {}
    for (before, leap), (path_cost, path) in paths.items():
        for pitch, cost in costs.items():
            move = pitch - before
            size = abs(move)
            if size > 12:
                continue
            total = path_cost + cost + _INTERVAL_COSTS[size]
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
