"""What a prompting strategy and the engine say to each other: questions, answers, and what is reported meanwhile.

Owns types only. Strategies know nothing of connections, and the engine nothing of songs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from harmonia_lab.engines.base import Step

__all__ = ["Answer", "Dialogue", "Message", "Question", "Token"]


class Message(NamedTuple):
    """role: system, user or assistant. A last message by the assistant is the beginning of its answer."""

    role: str
    content: str


@dataclass(frozen=True)
class Question:
    """One exchange. purpose: a short name, from which the seed is derived; each purpose is asked once a song.

    options: Ollama's, without the seed. schema: JSON schema of the answer. alternatives: how many other tokens to tell
    for each token; 0 for none. The server may tell fewer, or nothing. think_freely: a thinking model is told to answer
    at once unless this is set; some servers ignore the schema when they are told so.
    """

    purpose: str
    messages: Sequence[Message]
    options: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    alternatives: int = 0
    think_freely: bool = False


class Token(NamedTuple):
    """A token of an answer. others: what could have stood in its place, likely ones first, with log-probabilities."""

    text: str
    logprob: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """text: without thinking. complete: False when a limit cut it off. tokens: empty where the server tells none."""

    text: str
    complete: bool
    tokens: Sequence[Token] = field(default=())


class Dialogue(Protocol):
    """What the engine offers a strategy."""

    most_alternatives: int
    """How many alternatives a question may ask for on this server."""

    most_characters: int
    """How much of a story fits into the model's context beside prompt and answer."""

    context_length: int
    """Tokens that the model can read and write in one exchange."""

    async def ask(self, question: Question, on_text: Callable[[str], None] | None = None) -> Answer:
        """`on_text` gets the text so far, with each piece. Raises MetadataError."""
        ...

    def report(self, fraction: float, step: Step, status: str, **partial: Any) -> None:
        """fraction: 0…1 of the writing; partial: what is known already, remembered from report to report."""
        ...

    def note(self, **facts: Any) -> None:
        """An entry of the transcript that is no exchange: what was chosen, and from what."""
        ...
