"""The sections of a song as a text model is told of them: what each one is, how strong, and who plays in it.

Owns which of the plan's sections a song's prompts tell apart, and when each begins. The words are in `prompts.py`.
Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harmonia_lab.audio_engines.musicgen.prompts import section_prompt
from harmonia_lab.music.plan import Plan, PlanSection
from harmonia_lab.protocol.models import Instrument

__all__ = ["PromptedSection", "prompted_sections"]

LEAST_S = 5.0
"""A shorter section is told as a part of the one before, the first one as a part of the next."""


@dataclass(frozen=True)
class PromptedSection:
    """start, end: seconds of the song. name: the plan's, "outro" for the last one."""

    name: str
    start: float
    end: float
    prompt: str

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "startSeconds": round(self.start, 3),
            "endSeconds": round(self.end, 3),
            "prompt": self.prompt,
        }


@dataclass(frozen=True)
class _Stretch:
    """Seconds of the song in which one of the plan's sections is told of."""

    section: PlanSection
    start: float
    end: float


def prompted_sections(plan: Plan, description: str | None = None) -> list[PromptedSection]:
    """Return the sections without gaps, each with its prompt; none where the plan tells of fewer than two.

    The last one's prompt asks for an ending, whatever the plan calls it. Neighbours with the same prompt are one.
    description: the user's own words, as in `prompt`. plan: with its metadata.
    """
    assert plan.metadata is not None
    found: list[PromptedSection] = []
    stretches = _stretches(plan)
    for number, each in enumerate(stretches):
        name = "outro" if number == len(stretches) - 1 else each.section.name
        playing = _playing(plan, each)
        words = section_prompt(plan.metadata, name, each.section.intensity, playing, description)
        if found and found[-1].prompt == words:
            found[-1] = replace(found[-1], end=each.end)
        else:
            found.append(PromptedSection(name, each.start, each.end, words))
    return found if len(found) > 1 else []


def _stretches(plan: Plan) -> list[_Stretch]:
    """Return the plan's sections, none of them shorter than LEAST_S; an ending takes bars from those before it."""
    bar = plan.seconds_per_bar
    sections = [section for section in plan.sections if section.bar * bar < plan.seconds]
    if not sections:
        return []
    *others, last = sections
    ending = last.bar
    while ending and plan.seconds - ending * bar < LEAST_S:
        ending -= 1
    kept: list[_Stretch] = []
    begins = 0.0
    for section in others:
        end = min(section.bar + section.bars, ending) * bar
        start = kept[-1].end if kept else begins
        if end <= start:
            continue
        if end - start >= LEAST_S:
            kept.append(_Stretch(section, start, end))
        elif kept:
            kept[-1] = replace(kept[-1], end=end)
    return [*kept, _Stretch(last, kept[-1].end if kept else begins, plan.seconds)]


def _playing(plan: Plan, stretch: _Stretch) -> Sequence[Instrument]:
    """Return the instruments with a note in the stretch; all of them where none has."""
    assert plan.metadata is not None
    first, last = (second / plan.seconds_per_beat for second in (stretch.start, stretch.end))
    playing = [part.instrument for part in plan.parts if any(first <= note.start < last for note in part.notes)]
    return playing or plan.metadata.instruments
