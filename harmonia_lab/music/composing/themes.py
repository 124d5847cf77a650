"""Themes: which theme each phrase of the melody has, the syllables it sets, and where in the bar it enters.

Owns these three (not pitches and rhythms, which are in `melody.py` and `rhythm.py`). Lines that share a theme enter
alike: on the first beat, after it (a syncopated entry), or before the bar line (a pickup) if they begin unstressed.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.music.composing.context import SongContext
from harmonia_lab.music.composing.form import Phrase, Section
from harmonia_lab.music.composing.prosody import Syllable
from harmonia_lab.music.composing.rhythm import invented_stresses

__all__ = ["PhrasePlan", "plan_melody"]

_SCHEMES = ("abac", "aabc", "abab", "aaba")
"""The themes of a section's lines; lines with the same letter share one."""


class PhrasePlan(NamedTuple):
    """theme: "chorus a", the name of its random generators. closing: whether the phrase closes the section.

    entry: its first onset in beats from the phrase's start. room: beats at its end in which no note begins, since
    another line may have a pickup there. until: when the next phrase enters, or when this one ends.
    """

    phrase: Phrase
    theme: str
    closing: bool
    syllables: tuple[Syllable, ...]
    entry: float
    room: float
    until: float


def plan_melody(context: SongContext) -> list[list[PhrasePlan]]:
    """Return the plan of each phrase of each section."""
    sections = [_plan_section(context, section) for section in context.sections]
    entries = {plan.phrase.bar: plan.entry for section in sections for plan in section}

    def following(phrase: Phrase) -> float:
        return min(0.0, entries.get(phrase.bar + phrase.bars, 0.0))

    return [[plan._replace(until=plan.until + following(plan.phrase)) for plan in section] for section in sections]


def _plan_section(context: SongContext, section: Section) -> list[PhrasePlan]:
    """Return the plans of a section's phrases. Intro and outro quote the chorus, without its words.

    An outro of the ending "tag" repeats the chorus's last line. Later verses without words have a new second theme.
    """
    quotes = section.kind in ("intro", "outro") and not section.has_words
    kind = "chorus" if section.kind in ("intro", "outro") else section.kind
    scheme = context.rng("melody", kind).choice(_SCHEMES)
    unit = 0.5 if context.in_seconds(0.5) >= (0.18 if context.style.syncopation > 0.1 else 0.4) else 1.0
    longest_room = unit * context.rng("melody", "pickups").choice((1, 2))
    plans = []
    for index, phrase in enumerate(section.phrases):
        last = index == len(section.phrases) - 1
        tag = quotes and section.kind == "outro" and context.feel.ending == "tag"
        letter = "c" if tag or (last and len(section.phrases) > 1 and kind == "chorus") else scheme[index % 4]
        if letter == "b" and kind == "verse" and section.occurrence and not section.has_words:
            letter = "d"
        theme = f"{kind} {letter}"
        syllables = phrase.line.syllables if phrase.line else _quoted(context, phrase, -1 if tag else index, quotes)
        start, end = context.span(phrase)
        room = min(longest_room, 0.2 * (end - start))
        entry, syllables = _entry(context, phrase, theme, syllables, unit, room)
        plans.append(PhrasePlan(phrase, theme, last and section.kind != "intro", syllables, entry, room, end - start))
    return plans


def _quoted(context: SongContext, phrase: Phrase, index: int, quotes: bool) -> tuple[Syllable, ...]:
    """Return the syllables of the chorus's line without their text, if it is as long as the phrase; else none."""
    chorus = next((s.phrases for s in context.sections if s.kind == "chorus"), ()) if quotes else ()
    line = chorus[index % len(chorus)] if chorus else phrase
    if line.line and line.bars == phrase.bars:
        return tuple(syllable._replace(text="") for syllable in line.line.syllables)
    return ()


def _entry(
    context: SongContext, phrase: Phrase, theme: str, syllables: tuple[Syllable, ...], unit: float, room: float
) -> tuple[float, tuple[Syllable, ...]]:
    """Return where the phrase enters, and its syllables; if it has none, invented ones."""
    rng = context.rng("melody", theme, "entry")
    start, end = context.span(phrase)
    early = rng.random() < context.style.pickups
    late = rng.random() < 0.25 + 0.5 * context.style.syncopation
    delay = rng.choice((0.5, 0.5, 1.0, 1.5)) if context.style.syncopation else 1.0
    upbeats = int(min(room, context.room_before(phrase)) / unit + 1e-6)
    if not syllables:
        density = 0.5 + 0.5 * (context.cues.tempo - 0.5)
        stresses = invented_stresses(
            end - start, context.in_seconds(1), density, context.rng("melody", theme, "length")
        )
        syllables = tuple(Syllable("", stressed) for stressed in (*[False] * (upbeats if early else 0), *stresses))
    unstressed = next((i for i, syllable in enumerate(syllables) if syllable.stressed), 0)
    if early and unstressed:
        return -unit * min(unstressed, upbeats), syllables
    spare = (end - start - room - 1.0 - delay) * context.in_seconds(1) - 0.24 * len(syllables)
    return (delay if late and not early and spare > 0 else 0.0), syllables
