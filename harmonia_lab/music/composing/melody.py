"""The tune: one theme for each kind of section, sung to its lines, the chorus higher and the same each time.

Owns pitches and lengths of the melody as written. The rhythm of a line is from `rhythm.py`.

Each line's pitches are the cheapest path through the notes in range (dynamic programming): chord tones on strong
beats and long notes, steps rather than leaps, a leap answered by a step back, non-chord tones left by step, near a
contour that the theme prescribes. These are the habits that D. Huron, "Sweet Anticipation" (2006), chapters 5-6 found
in most melodies: pitch proximity, step inertia, post-skip reversal, and the phrase as an arch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harmonia_lab.music.composing.form import Phrase, Section
from harmonia_lab.music.composing.harmony import scale_over
from harmonia_lab.music.composing.prosody import Syllable
from harmonia_lab.music.composing.rhythm import invented_stresses, metric_weight, place_syllables
from harmonia_lab.music.composing.setting import ScoreNote, Setting

__all__ = ["Voice", "sing", "tessitura"]

_SCHEMES = ("abac", "aabc", "abab", "aaba")
"""Which lines of a section share a theme."""

_CONTOURS = (
    ((0, 3, 4, 1), (3, 1, -2, 0)), ((-2, 1, 4, 2), (4, 2, 0, -2)), ((2, 4, 1, 0), (0, -2, 2, 1)),
    ((4, 2, 3, 0), (1, 3, 0, -3)), ((0, 0, 4, 3), (2, 4, 1, -1)), ((-3, 0, 2, 4), (4, 3, -1, 0)),
)  # fmt: skip
"""Semitones around the section's centre at the start, thirds and end of lines a and b; c falls to the tonic."""
_CLOSING = (2, 3, 0, -2)

_LIFT = {"chorus": 5, "bridge": 2, "solo": 4, "intro": 5, "outro": 3}
"""Semitones above the verse."""


class Voice(NamedTuple):
    """The range that a melody may use, and the centre of its verses, as MIDI pitches."""

    low: int
    high: int
    centre: float


def tessitura(low: int, high: int, register: int) -> Voice:
    """A part of the range [low, high] that leaves the chorus room to rise; register: semitones that the mood adds."""
    centre = min(high - 9.0, max(low + 5.0, low + 0.36 * (high - low) + register))
    return Voice(max(low, round(centre) - 9), min(high, round(centre) + 15), centre)


class _Theme(NamedTuple):
    """name: of the random numbers that its lines share. contour: semitones from `centre`, at equal distances."""

    name: str
    centre: float
    contour: tuple[int, ...]
    closing: bool


def sing(setting: Setting, section: Section, voice: Voice) -> list[ScoreNote]:
    """The melody of one section. Sections of a kind that have the same lines and chords come out the same.

    Intro and outro quote the chorus, without its words.
    """
    kind = "chorus" if section.kind in ("intro", "outro") else section.kind
    dice = setting.dice("melody", kind)
    scheme = dice.choice(_SCHEMES)
    contours = dict(zip("ab", dice.choice(_CONTOURS), strict=True)) | {"c": _CLOSING}
    centre = voice.centre + _LIFT.get(section.kind, 0)
    notes: list[ScoreNote] = []
    for index, phrase in enumerate(section.phrases):
        last = index == len(section.phrases) - 1
        letter = "c" if last and len(section.phrases) > 1 and section.kind == "chorus" else scheme[index % 4]
        theme = _Theme(f"{kind} {letter}", centre, contours[letter], closing=last and section.kind != "intro")
        notes += _phrase(setting, phrase, theme, voice, _syllables(setting, section, index))
    return notes


def _syllables(setting: Setting, section: Section, index: int) -> tuple[Syllable, ...]:
    """What the phrase sings; without words the chorus's own rhythm in its intro and outro; else empty."""
    phrase = section.phrases[index]
    if phrase.line:
        return phrase.line.syllables
    if section.kind in ("intro", "outro"):
        chorus = next((s.phrases for s in setting.sections if s.kind == "chorus"), ())
        quoted = chorus[index % len(chorus)] if chorus else phrase
        if quoted.line and quoted.bars == phrase.bars:
            return tuple(syllable._replace(text="") for syllable in quoted.line.syllables)
    return ()


def _phrase(
    setting: Setting, phrase: Phrase, theme: _Theme, voice: Voice, syllables: tuple[Syllable, ...]
) -> list[ScoreNote]:
    dice = setting.dice("melody", theme.name, "rhythm")
    beats = min(float(phrase.bars * setting.beats_per_bar), setting.final - phrase.bar * setting.beats_per_bar)
    pace = setting.in_seconds(1)
    if not syllables:
        lively = 0.5 + 0.5 * (setting.cues.tempo - 0.5)
        syllables = tuple(Syllable("", s) for s in invented_stresses(beats, pace, lively, dice))
    start = float(phrase.bar * setting.beats_per_bar)
    stressed = [syllable.stressed for syllable in syllables]
    onsets = place_syllables(
        stressed,
        beats,
        beats_per_bar=setting.beats_per_bar,
        pace=pace,
        syncopation=setting.style.syncopation,
        theme=dice,
    )
    lengths = _lengths(onsets, beats, pace)
    pitches = _pitches(setting, [start + onset for onset in onsets], lengths, theme, voice)
    return [
        ScoreNote(start + onset, length, pitch, 6.0 if syllable.stressed else 0.0, syllable.text)
        for onset, length, pitch, syllable in zip(onsets, lengths, pitches, syllables, strict=True)
    ]


def _lengths(onsets: Sequence[float], beats: float, pace: float) -> list[float]:
    """Each note lasts until the next, at most 1.5 s; the last until a breath before the phrase ends."""
    breath = min(0.25 * beats, max(0.25, 0.35 / pace))
    longest = max(1.0, 1.5 / pace)
    ends = [*onsets[1:], max(onsets[-1] + 0.25, beats - breath)]
    return [
        min(end - onset, longest if i < len(onsets) - 1 else 2 * longest)
        for i, (onset, end) in enumerate(zip(onsets, ends, strict=True))
    ]


def _pitches(
    setting: Setting, onsets: Sequence[float], lengths: Sequence[float], theme: _Theme, voice: Voice
) -> list[int]:
    table = setting.dice("melody", theme.name, "pitch")
    noise = [table.random() for _ in range(1024)]
    first = onsets[0] - onsets[0] % setting.beats_per_bar
    span = max(1.0, onsets[-1] - onsets[0])
    # State: (pitch, how it was reached: 1 by a leap up, -1 by a leap down, 0 otherwise). Value: (cost, path so far).
    paths: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
    loose: frozenset[int] = frozenset()
    for i, (onset, length) in enumerate(zip(onsets, lengths, strict=True)):
        chord = setting.chord_at(onset)
        final = i == len(onsets) - 1
        firm = final or i == 0 or length >= 1.25 or metric_weight(onset, setting.beats_per_bar) >= 0.8
        tones = frozenset(chord.pitch_classes[:3] if final else chord.pitch_classes)
        allowed = tones if firm else scale_over(chord, setting.tonic, minor=setting.minor)
        target = theme.centre + _contour(theme.contour, (onset - onsets[0]) / span)
        static = {}
        for pitch in range(voice.low, voice.high + 1):
            if pitch % 12 in allowed:
                jitter = noise[(int((onset - first) * 4) * 31 + pitch) % 1024]
                foreign = 0.4 if pitch % 12 not in tones else 0.0
                end = _ending(pitch % 12, chord.root, setting.tonic, theme) if final else 0.0
                static[pitch] = 0.07 * abs(pitch - target) ** 1.6 + 1.4 * jitter + foreign + end
        paths = _extended(paths, static, loose) if paths else {(p, 0): (c, (p,)) for p, c in static.items()}
        loose = frozenset(p for p in static if p % 12 not in tones)
    return list(min(paths.values())[1])


def _extended(
    paths: dict[tuple[int, int], tuple[float, tuple[int, ...]]], static: dict[int, float], loose: frozenset[int]
) -> dict[tuple[int, int], tuple[float, tuple[int, ...]]]:
    grown: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
    for (before, leapt), (so_far, path) in paths.items():
        for pitch, cost in static.items():
            move = pitch - before
            size = abs(move)
            if size > 12:
                continue
            total = so_far + cost + _MOVES[size]
            if size > 2 and before in loose:
                total += 3.0
            if leapt and not 0 < -move * leapt <= 4:
                total += 2.5
            if size == 0 and len(path) > 1 and path[-2] == pitch:
                total += 0.8
            state = (pitch, 0 if size < 5 else 1 if move > 0 else -1)
            if state not in grown or (total, path) < (grown[state][0], grown[state][1][:-1]):
                grown[state] = (total, (*path, pitch))
    return grown


_MOVES = (0.45, 0.25, 0.18, 0.4, 0.45, 0.25, 6.0, 0.35, 1.3, 1.5, 5.0, 5.0, 1.2)
"""Cost of moving by 0…12 semitones. Tritones and sevenths are all but forbidden; sung lines get about 60 % steps."""


def _contour(points: Sequence[int], at: float) -> float:
    scaled = at * (len(points) - 1)
    left = min(len(points) - 2, math.floor(scaled))
    return points[left] + (points[left + 1] - points[left]) * (scaled - left)


def _ending(pitch_class: int, root: int, tonic: int, theme: _Theme) -> float:
    """Sections close on the tonic where the chord has it; other lines end open, off the tonic."""
    if theme.closing:
        return 0.0 if pitch_class == tonic else 1.0 if pitch_class == root else 1.8
    return 1.2 if pitch_class == tonic else 0.0
