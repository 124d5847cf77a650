"""A conversation with a model through the official Ollama client: streamed, timed, seeded, written down.

Owns one song's exchanges: how an answer is read as it comes, when waiting ends, what every failure is called. Which
questions are asked is the strategies' business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import ollama

from harmonia_lab.engines.base import MetadataProgress, Step
from harmonia_lab.errors import ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.metadata_engines.prompting.answers import without_thoughts
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, Question, Token
from harmonia_lab.music.seeds import derive_seed

__all__ = ["Dialogue", "ModelFacts", "Waits", "failures"]

LOADING = 0.08
"""The part of stage 1's progress that loading the model stands for."""


@dataclass(frozen=True)
class Waits:
    """Seconds. connect: to reach the server. load: to load the model. stall: between two pieces of an answer."""

    connect: float = 5.0
    load: float = 300.0
    stall: float = 60.0


@dataclass(frozen=True)
class ModelFacts:
    """What the server says of the model. context: tokens, None where it doesn't say. billions: of parameters."""

    name: str
    digest: str | None
    quantization: str | None
    parameter_size: str | None
    billions: float | None
    context: int | None
    thinks: bool


@contextmanager
def failures(url: str, during: str) -> Iterator[None]:
    """Every way in which a server fails, as a MetadataError that names it.

    `during`: what was being done, as "in the middle of its answer".
    """
    try:
        yield
    except HarmoniaError:
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
        raise MetadataError(
            f"No Ollama server answers at {url}.",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Start it with `ollama serve`, or set OLLAMA_HOST to where it runs.",
        ) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise MetadataError(
            f"The Ollama server at {url} stopped answering {during}.",
            code=ErrorCode.OLLAMA_TIMEOUT,
            hint="Try again. If it happens again, the model may be too large for that machine.",
        ) from error
    except httpx.HTTPError as error:
        raise MetadataError(
            f"The Ollama server at {url} went away {during}.",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Look at the server's log; it may have run out of memory.",
        ) from error
    except ollama.ResponseError as error:
        raise _refused(error, url, during) from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, httpx.InvalidURL) as error:
        # Not JSON, JSON of another shape (pydantic's error is a ValueError), or bytes that are no text.
        raise _no_ollama(url) from error


def _refused(error: ollama.ResponseError, url: str, during: str) -> MetadataError:
    told = " ".join(str(error.error).split())
    if told.lstrip().startswith("<"):
        return _no_ollama(url)
    if error.status_code in {401, 403}:
        return MetadataError(
            f"The server at {url} lets nobody in without a key ({error.status_code}).",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Set OLLAMA_API_KEY, or use another server.",
        )
    if error.status_code == 404:
        return MetadataError(f"The Ollama server at {url} says: {told[:300]}.", code=ErrorCode.OLLAMA_MODEL_MISSING)
    if 400 <= error.status_code < 500:
        return MetadataError(
            f"The Ollama server at {url} refuses the request: {told[:300]}.", code=ErrorCode.METADATA_INVALID
        )
    return MetadataError(
        f"The Ollama server at {url} failed {during}: {told[:300]}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Look at the server's log.",
    )


def _no_ollama(url: str) -> MetadataError:
    return MetadataError(
        f"What answers at {url} is not Ollama: it sends something else than Ollama's JSON.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Check OLLAMA_HOST, and whether a proxy or a sign-in page stands in between.",
    )


@dataclass
class Dialogue:
    """One song's exchanges with one model. `transcript` and the counts grow with each of them."""

    client: ollama.AsyncClient
    url: str
    model: ModelFacts
    seed: int
    tell: Callable[[MetadataProgress], None]
    most_alternatives: int
    most_characters: int
    waits: Waits
    options: Mapping[str, Any] = field(default_factory=dict)
    transcript: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    generating_s: float = 0.0
    load_s: float = 0.0
    first_token_s: float | None = None
    _started: float = field(default_factory=time.perf_counter)
    _streaming: int = 0
    _last: MetadataProgress = field(default_factory=lambda: MetadataProgress(0.0, "analysis", ""))

    async def load(self) -> None:
        """The model into memory, before anything is asked of it. Raises MetadataError."""
        self._tell(MetadataProgress(0.0, "analysis", f"Loading {self.model.name}…"))
        with failures(self.url, f"while it loaded {self.model.name}"):
            async with asyncio.timeout(self.waits.load):
                loaded = await self.client.chat(self.model.name, messages=[], options=dict(self.options))
        self.load_s += (loaded.load_duration or 0) / 1e9

    async def ask(self, question: Question, on_text: Callable[[str], None] | None = None) -> Answer:
        """The model's answer. `on_text` gets it as far as it is written, with each piece. Raises MetadataError."""
        options = {**self.options, **question.options, "seed": derive_seed(self.seed, question.purpose)}
        think = False if self.model.thinks and not question.think_freely else None
        top = question.alternatives or None
        text, thoughts, tokens = "", "", []
        last = None
        with failures(self.url, "in the middle of its answer"):
            async with asyncio.timeout(self.waits.stall) as limit:
                parts = await self.client.chat(
                    self.model.name,
                    [message._asdict() for message in question.messages],
                    stream=True,
                    think=think,
                    format=dict(question.schema) if question.schema else None,
                    options=options,
                    logprobs=bool(top) or None,
                    top_logprobs=top,
                )
                async for part in parts:
                    limit.reschedule(asyncio.get_running_loop().time() + self.waits.stall)
                    text += part.message.content or ""
                    thoughts += part.message.thinking or ""
                    tokens += _tokens(part)
                    if part.done:
                        last = part
                    elif part.message.content or part.message.thinking:
                        self._heard(without_thoughts(text), on_text)
        if last is None:
            raise MetadataError(
                f"The Ollama server at {self.url} ended its answer in the middle.",
                code=ErrorCode.OLLAMA_UNAVAILABLE,
                hint="Look at the server's log; it may have been stopped.",
            )
        self._count(last)
        self.transcript.append(_entry(question, options, think, text, thoughts, last))
        spoken = without_thoughts(text)
        return Answer(spoken, last.done_reason != "length", tokens if spoken == text else ())

    def _heard(self, text: str, on_text: Callable[[str], None] | None) -> None:
        if self.first_token_s is None:
            self.first_token_s = time.perf_counter() - self._started
        self._streaming += 1
        self._tell(self._last)
        if on_text:
            on_text(text)

    def report(self, fraction: float, step: Step, status: str, **partial: Any) -> None:
        known = {**self._last.partial, **partial}
        self._tell(MetadataProgress(LOADING + (1 - LOADING) * fraction, step, status, partial=known))

    def note(self, **facts: Any) -> None:
        self.transcript.append(facts)

    def _tell(self, progress: MetadataProgress) -> None:
        """On with it, with the tokens so far and a fraction that never goes back."""
        self._last = MetadataProgress(
            max(self._last.fraction, min(1.0, progress.fraction)),
            progress.step,
            progress.status,
            self.tokens + self._streaming,
            progress.partial,
        )
        self.tell(self._last)

    def _count(self, last: ollama.ChatResponse) -> None:
        """Pieces are not tokens: the server's own count replaces ours."""
        self.tokens += last.eval_count or self._streaming
        self._streaming = 0
        self.generating_s += (last.eval_duration or 0) / 1e9
        self.load_s += (last.load_duration or 0) / 1e9


def _tokens(part: ollama.ChatResponse) -> list[Token]:
    return [
        Token(entry.token, entry.logprob, tuple((other.token, other.logprob) for other in entry.top_logprobs or ()))
        for entry in part.logprobs or ()
    ]


def _entry(
    question: Question,
    options: Mapping[str, Any],
    think: bool | None,
    text: str,
    thoughts: str,
    last: ollama.ChatResponse,
) -> dict[str, Any]:
    """One line of the transcript. Counts in tokens, durations in seconds."""
    return {
        "purpose": question.purpose,
        "messages": [message._asdict() for message in question.messages],
        "options": dict(options),
        "format": question.schema and dict(question.schema),
        "think": think,
        "topLogprobs": question.alternatives or None,
        "answer": text,
        "thinking": thoughts or None,
        "doneReason": last.done_reason,
        "promptTokens": last.prompt_eval_count,
        "tokens": last.eval_count,
        "loadS": (last.load_duration or 0) / 1e9,
        "promptS": (last.prompt_eval_duration or 0) / 1e9,
        "generatingS": (last.eval_duration or 0) / 1e9,
        "totalS": (last.total_duration or 0) / 1e9,
    }
