"""What a plan says of itself: progression, groove, the melody and its figures, where lines begin.

Owns these readings, of a plan as `plan.json` has it. What is heard is measured by
`harmonia_lab/audio_engines/listening` and `levels.py`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

__all__ = [
    "Figure", "Melody", "different_grooves", "entries", "figures", "groove", "lead_name", "melody", "progressions",
    "shared_figures", "sung_spans",
]  # fmt: skip

PlanData = Mapping[str, Any]
Melody = list[tuple[int, int]]
"""(Onset in sixteenths from the song's start, MIDI pitch) of each note, by onset."""

Figure = tuple[tuple[int, Fraction], ...]
"""(Interval to the next note in semitones, ratio of the next note's length to this one's) of consecutive notes."""

_DEGREES = ("1", "b2", "2", "b3", "3", "4", "#4", "5", "b6", "6", "b7", "7")
_DRUMS = {35: "kick", 36: "kick", 37: "stick", 38: "snare", 39: "clap", 40: "snare"}
"""The drums that tell grooves apart; hats, cymbals, ghost notes and fills vary inside one groove."""

_GHOST = 30
"""Steps of velocity: a hit that much softer than its drum's loudest one is a ghost note."""

_ALIKE = 0.75
"""Grooves that have more than this share of their hits in common, of all hits of both, are one groove."""


def progressions(plan: PlanData, chords: int = 4) -> dict[str, str]:
    """Return the first chords of the first verse and of the first chorus, as degrees: {"verse": "1 6m 4 5"}.

    A lower case m marks a minor or diminished third. Chords that repeat at once count once.
    """
    bar = plan["beats_per_bar"]
    found: dict[str, str] = {}
    for section in plan["sections"]:
        if section["name"] in ("verse", "chorus") and section["name"] not in found:
            start, end = section["bar"] * bar, (section["bar"] + section["bars"]) * bar
            inside = [_degree(c, plan["tonic"]) for c in plan["chords"] if start - 1e-6 <= c["start"] < end - 1e-6]
            changes = [degree for degree, _ in itertools.groupby(inside)]
            found[section["name"]] = " ".join(changes[:chords])
    return found


def _degree(chord: Mapping[str, Any], tonic: int) -> str:
    root, *others = chord["pitch_classes"]
    minor = any((other - root) % 12 == 3 for other in others)
    return _DEGREES[(root - tonic) % 12] + ("m" if minor else "")


def groove(plan: PlanData) -> list[str]:
    """Return the hits of kick, stick, snare and clap that most bars of the choruses have, or of the song without any.

    As ["kick 0", "kick 8", "snare 4", …]: sixteenths from the bar line. Empty without drums.
    """
    kits = [part for part in plan["parts"] if part["instrument"]["role"] == "drums"]
    if not kits:
        return []
    steps = round(plan["beats_per_bar"] * 4)
    notes = [note for note in kits[0]["notes"] if note["pitch"] in _DRUMS]
    loudest = {pitch: max(n["velocity"] for n in notes if n["pitch"] == pitch) for pitch in {n["pitch"] for n in notes}}
    bars: dict[int, set[str]] = {}
    for note in notes:
        if note["velocity"] > loudest[note["pitch"]] - _GHOST:
            bar, step = divmod(round(note["start"] * 4), steps)
            bars.setdefault(bar, set()).add(f"{_DRUMS[note['pitch']]} {step}")
    sections = [section for section in plan["sections"] if section["name"] == "chorus"]
    chorus = {bar for section in sections for bar in range(section["bar"], section["bar"] + section["bars"])}
    chosen = [hits for bar, hits in bars.items() if bar in chorus] or list(bars.values())
    counted = Counter(hit for hits in chosen for hit in hits)
    return sorted(hit for hit, number in counted.items() if number > 0.6 * len(chosen))


def different_grooves(grooves: Iterable[Sequence[str]]) -> int:
    """Return how many grooves there are; those that are nearly alike (`_ALIKE`) count as one, empty ones don't."""
    known: list[set[str]] = []
    for hits in map(set, grooves):
        if hits and all(len(hits & other) <= _ALIKE * len(hits | other) for other in known):
            known.append(hits)
    return len(known)


def lead_name(plan: PlanData) -> str | None:
    """Return the name of the part that sings: the one with the most words, else the first lead; None without either."""
    words: dict[str, int] = {p["name"]: sum(bool(note["lyric"]) for note in p["notes"]) for p in plan["parts"]}
    best = max(words, key=lambda name: words[name], default=None)
    if best is not None and words[best]:
        return best
    leads: list[str] = [part["name"] for part in plan["parts"] if part["instrument"]["role"] == "lead"]
    return leads[0] if leads else None


def melody(plan: PlanData) -> Melody:
    """Return the notes of the part that sings, of simultaneous ones the highest, on the grid of sixteenths."""
    name = lead_name(plan)
    notes: list[dict[str, Any]] = [note for part in plan["parts"] if part["name"] == name for note in part["notes"]]
    found: dict[int, int] = {}
    for note in notes:
        at = round(note["start"] * 4)
        found[at] = max(note["pitch"], found.get(at, 0))
    return sorted(found.items())


def figures(tune: Iterable[Sequence[int]], length: int = 4) -> set[Figure]:
    """Return the different figures of `length` notes in a melody. A note lasts until the next one begins."""
    notes = [(at, pitch) for at, pitch in tune]
    found: set[Figure] = set()
    for start in range(len(notes) - length):
        run = notes[start : start + length + 1]
        gaps = [after - before for (before, _), (after, _) in itertools.pairwise(run)]
        moves = [after - before for (_, before), (_, after) in itertools.pairwise(run)]
        found.add(tuple((moves[i], Fraction(gaps[i + 1], gaps[i])) for i in range(length - 1)))
    return found


def shared_figures(one: set[Figure], other: set[Figure]) -> float | None:
    """Return the share of the figures of both melodies that the other has too, 0…1; None where a melody has none."""
    if not one or not other:
        return None
    return 2 * len(one & other) / (len(one) + len(other))


def sung_spans(plan: PlanData) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of the sections in which lines are sung, from the first to the last word."""
    bar = plan["beats_per_bar"] * 60 / plan["bpm"]
    found = []
    for section in plan["sections"]:
        start, end = section["bar"] * bar, (section["bar"] + section["bars"]) * bar
        lines = [line for line in plan["sung"] if start - bar <= line["start"] < end - 1e-6 and line["end"] > start]
        if section["lyric_section"] is not None and lines:
            found.append((min(line["start"] for line in lines), max(line["end"] for line in lines)))
    return found


def entries(plan: PlanData) -> list[float]:
    """Return where in its bar each sung line begins, in beats from the bar line, in steps of half a beat.

    A pickup lies near the bar's end.
    """
    beat = 60 / plan["bpm"]
    return [round(2 * line["start"] / beat) / 2 % plan["beats_per_bar"] for line in plan["sung"]]
