"""The types between a prompting strategy and the engine: questions, answers and the dialogue itself.

Owns these types, and no behaviour. `metadata_engines/ollama/dialogue.py` implements `Dialogue`;
the strategies (`stepwise.py`, `structured.py`) use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from harmonia_lab.engines.base import Step
from harmonia_lab.errors import MetadataError

__all__ = ["Answer", "ChatMessage", "Dialogue", "GeneratedToken", "Question"]


class ChatMessage(NamedTuple):
    """role: system, user or assistant. The model continues a last message of role assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Question:
    """One chat request. purpose: a name, unique within a song, from which the request's seed is derived.

    options: Ollama's sampling options; the dialogue adds the seed. schema: JSON schema of the answer. top_logprobs:
    alternatives to return for each token, with log-probabilities; 0 for none. A server may return fewer than asked for.
    may_think: whether a thinking model may think first. If it may not, some servers ignore `schema`. static: with how
    many characters of the last message the prompt begins in every song; our own server keeps what it read of them.
    """

    purpose: str
    messages: Sequence[ChatMessage]
    options: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    may_think: bool = False
    static: int = 0


class GeneratedToken(NamedTuple):
    """A token of an answer. logprob: natural logarithm. alternatives: the tokens that the model considered at
    this position, with their log-probabilities, most likely first."""

    text: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """text: without thinking. complete: False if a token limit cut it off. tokens: empty without log-probabilities."""

    text: str
    complete: bool
    tokens: Sequence[GeneratedToken] = ()


class Dialogue(Protocol):
    """One song's requests to one model.

    model_digest: SHA-256 of the model's file, if the server says it. max_top_logprobs: the server's limit for
    `Question.top_logprobs`. max_story_characters: length of a story that fits into the model's context beside the
    prompt and the answer.
    """

    model_digest: str | None
    max_top_logprobs: int
    max_story_characters: int

    async def ask(self, question: Question, on_text: Callable[[str], None] | None = None) -> Answer:
        """Return the model's answer. `on_text` gets the text so far with each piece. Raises MetadataError."""
        ...

    async def ask_several(self, question: Question, count: int) -> Sequence[Answer]:
        """Return `count` answers to one question, each with a seed of its own. Raises MetadataError.

        Our own server writes them at once; another is asked one by one.
        """
        ...

    def report(self, fraction: float, step: Step, status: str, **partial: Any) -> None:
        """Report progress. fraction: 0…1 of the writing. partial: known metadata, kept for the later reports."""
        ...

    def note(self, **facts: Any) -> None:
        """Add an entry to the transcript that is not a request, such as a choice and its candidates."""
        ...

    def repairing(self, failure: MetadataError) -> None:
        """Tell that an answer can't be used, as `failure` says, and that the model is asked for another."""
        ...
