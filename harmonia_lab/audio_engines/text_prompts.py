"""What the prompts of all engines that render from words have in common: the caption, their length, what is text.

Owns these. What a model's prompt holds besides is its engine's. Imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.text import one_line

if TYPE_CHECKING:
    from harmonia_lab.protocol.models import SongMetadata

__all__ = ["MAX_PROMPT", "caption", "checked_prompt"]

MAX_PROMPT = 1000
"""Characters. The captions in the models' training data have a few dozen words; more text dilutes the prompt."""


def caption(metadata: SongMetadata) -> str:
    """Return a sentence with moods, genre and instruments.

    >>> caption(metadata)
    'A nostalgic folk song with piano and flute'
    """
    style = f"{', '.join(metadata.mood)} {metadata.genre}"
    article = "An" if style[0].lower() in "aeiou" else "A"
    *others, last = (each.name for each in metadata.instruments)
    names = f"{', '.join(others)} and {last}" if others else last
    return f"{article} {style} song with {names}"


def checked_prompt(text: str, engine: str, field: str = "prompt") -> str:
    """Return `text` on one line. engine, field: for errors, as people know them.

    Raise InvalidRequest if it is longer than `MAX_PROMPT` characters, or no text as `protocol/text.py` knows it.
    """
    if len(text) > MAX_PROMPT:
        raise InvalidRequest(
            f"The prompt for {engine} has {len(text):,} characters; at most {MAX_PROMPT:,} are allowed.",
            hint="Describe the sound in a sentence or two: genre, mood, instruments.",
            details={"fields": [field]},
        )
    if not text.strip():
        return ""
    try:
        return " ".join(one_line(text).split())
    except ValueError as error:
        message = f"The prompt for {engine} {error}."
        raise InvalidRequest(message, hint="Write plain text.", details={"fields": [field]}) from error
