"""How many tokens of context a large model gets, and how much of a story fits into them.

Owns the estimate of tokens and its limits. Too small, a context cuts the story; too large, it takes memory: the keys
and values of 32,768 tokens are some 4 GB for a model of 8 billion parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.metadata_engines.ollama.models import ModelFacts

__all__ = ["THINKING", "ContextSize", "context_size"]

STEPS = (8192, 16384, 32768)
"""Tokens. Few sizes, because a server loads a model anew for another size. The last one holds the longest narrative in
any script beside the answer."""

PROMPT = 1280
"""Tokens of the prompt without its story, and of the chat template."""

THINKING = 4096
"""Tokens for the thoughts of a model that may think, beside those of its answer."""

BYTES_PER_TOKEN = 3
"""Of UTF-8; on the safe side for most languages. A character of another script has two or three bytes."""

LEAST_STORY = 512
"""Tokens of a story, however little room a model leaves."""


class ContextSize(NamedTuple):
    """num_ctx: Ollama's option, in tokens. story_bytes: of UTF-8, that fit beside prompt, answer and a repair."""

    num_ctx: int
    story_bytes: int


def context_size(model: ModelFacts, narrative: str, answer: int, num_ctx: int | None = None) -> ContextSize:
    """Return the smallest step that holds the whole narrative, within the model's own context.

    answer: tokens of the longest answer. num_ctx: a person's own choice, which stays.
    """
    # A repair has the earlier answer in its prompt, and twice the room for the new one.
    room = PROMPT + 3 * answer + (THINKING if model.thinks else 0)
    needed = room + len(narrative.encode()) // BYTES_PER_TOKEN + 1
    chosen = num_ctx or min(next((step for step in STEPS if step >= needed), STEPS[-1]), model.context or STEPS[0])
    return ContextSize(chosen, BYTES_PER_TOKEN * max(LEAST_STORY, chosen // 4, chosen - room))
