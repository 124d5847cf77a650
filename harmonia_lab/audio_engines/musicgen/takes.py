"""What is generated for a song: its stems, and the candidates of each.

Owns the rows, their seeds, and what their prompts ask for. `rendering.py` renders them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harmonia_lab.audio_engines.musicgen.candidates import AskedSound
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["Take", "asked_of", "candidate_rows"]


@dataclass(frozen=True)
class Take:
    """A stem to be generated: one row of a batch.

    part: whose notes it is to play; None for a mix. candidate: its number, from 1; 0 for the only one.
    """

    name: str
    role: Role
    prompt: str
    seed: int
    part: Part | None = None
    candidate: int = 0

    @property
    def key(self) -> str:
        """The name under which its sound is kept for another attempt."""
        return f"{self.name} candidate {self.candidate}" if self.candidate else self.name


def candidate_rows(takes: Sequence[Take], best_of: int) -> list[Take]:
    """Return each candidate of each take: all first ones, which have the takes' own seeds, then all second ones, …"""
    if best_of == 1:
        return list(takes)

    def seed(take: Take, number: int) -> int:
        return take.seed if number == 1 else derive_seed(take.seed, "candidate", str(number))

    numbers = range(1, best_of + 1)
    return [replace(take, candidate=number, seed=seed(take, number)) for number in numbers for take in takes]


def asked_of(take: Take, plan: Plan, settings: Settings) -> AskedSound:
    """Return the tempo and the key that a take's prompt names."""
    own_words = take.role == "mix" and settings.prompt is not None
    if own_words or plan.metadata is None:
        return AskedSound(None, None)
    return AskedSound(plan.metadata.bpm, plan.metadata.key if take.role != "drums" else None)
