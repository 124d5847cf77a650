"""One song's chat requests to one model, through the official Ollama client.

Owns how an answer is streamed, timed, seeded and recorded, the timeouts, and the translation of the client's errors
(not what is asked: `prompting/`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import ollama

from harmonia_lab.engines.base import MetadataProgress, Step
from harmonia_lab.errors import ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.metadata_engines.prompting.answers import without_thoughts
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, GeneratedToken, Question
from harmonia_lab.music.seeds import derive_seed

__all__ = ["ModelFacts", "OllamaDialogue", "Timeouts", "translated_errors"]

LOADING = 0.08
"""The part of stage 1's progress for loading the model."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds. connect: to the server. load: of the model. stall: between two pieces of an answer."""

    connect: float = 5.0
    load: float = 300.0
    stall: float = 60.0


@dataclass(frozen=True)
class ModelFacts:
    """The server's description of a model. context: tokens. billions: of parameters. None: not in the description."""

    name: str
    digest: str | None
    quantization: str | None
    parameter_size: str | None
    billions: float | None
    context: int | None
    thinks: bool


@contextmanager
def translated_errors(url: str, during: str) -> Iterator[None]:
    """Raise every error of the client or the server as a MetadataError that names the server.

    during: the operation, for the message, such as "in the middle of its answer".
    """
    try:
        yield
    except HarmoniaError:
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
        raise MetadataError(
            f"No Ollama server answers at {url}.",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Start it with `ollama serve`, or set OLLAMA_HOST to its address.",
        ) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise MetadataError(
            f"The Ollama server at {url} stopped answering {during}.",
            code=ErrorCode.OLLAMA_TIMEOUT,
            hint="Try again. If it happens again, the model may be too large for that machine.",
        ) from error
    except httpx.HTTPError as error:
        raise MetadataError(
            f"The Ollama server at {url} closed the connection {during}.",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Look at the server's log; it may have run out of memory.",
        ) from error
    except ollama.ResponseError as error:
        raise _response_error(error, url, during) from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, httpx.InvalidURL) as error:
        # The answer is not JSON, JSON of another shape (pydantic's error is a ValueError), or no text.
        raise _not_ollama(url) from error


def _response_error(error: ollama.ResponseError, url: str, during: str) -> MetadataError:
    text, status = " ".join(str(error.error).split())[:300], error.status_code
    if text.startswith("<"):
        return _not_ollama(url)
    if status in {401, 403}:
        return MetadataError(
            f"The server at {url} requires an API key (HTTP {status}).",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint="Set OLLAMA_API_KEY, or use another server.",
        )
    if status == 404:
        return MetadataError(f"The Ollama server at {url} answers: {text}.", code=ErrorCode.OLLAMA_MODEL_MISSING)
    if 400 <= status < 500:
        message = f"The Ollama server at {url} refuses the request: {text}."
        return MetadataError(message, code=ErrorCode.METADATA_INVALID)
    return MetadataError(
        f"The Ollama server at {url} failed {during}: {text}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Look at the server's log.",
    )


def _not_ollama(url: str) -> MetadataError:
    return MetadataError(
        f"The server at {url} is not Ollama: its answer is not Ollama's JSON.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Check OLLAMA_HOST, and whether a proxy or a sign-in page answers instead.",
    )


@dataclass
class OllamaDialogue:
    """The `Dialogue` of one song with one model. transcript, tokens, *_s (seconds): grow with each answer.

    at_once: answers to one question that the server writes at once; more than one only for our own server.
    """

    client: ollama.AsyncClient
    url: str
    model: ModelFacts
    seed: int
    on_progress: Callable[[MetadataProgress], None]
    max_top_logprobs: int
    max_story_characters: int
    timeouts: Timeouts
    options: Mapping[str, Any]
    at_once: int = 1
    transcript: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    generating_s: float = 0.0
    load_s: float = 0.0
    first_token_s: float | None = None
    _started: float = field(default_factory=time.perf_counter)
    _pieces: int = 0
    _last: MetadataProgress = field(default_factory=lambda: MetadataProgress(0.0, "analysis", ""))

    async def load(self) -> None:
        """Load the model before the first question. Raises MetadataError."""
        self._publish(MetadataProgress(0.0, "analysis", f"Loading {self.model.name}…"))
        with translated_errors(self.url, f"while it loaded {self.model.name}"):
            async with asyncio.timeout(self.timeouts.load):
                loaded = await self.client.chat(self.model.name, messages=[], options=dict(self.options))
        self.load_s += _seconds(loaded.load_duration)

    @property
    def model_digest(self) -> str | None:
        return self.model.digest

    async def ask(self, question: Question, on_text: Callable[[str], None] | None = None) -> Answer:
        return (await self._answers(question, {}, on_text))[0]

    async def ask_several(self, question: Question, count: int) -> Sequence[Answer]:
        if self.at_once >= count:
            return await self._answers(question, {"n": count})
        return [await self.ask(replace(question, purpose=f"{question.purpose}-{number}")) for number in range(count)]

    async def _answers(
        self, question: Question, extra: Mapping[str, Any], on_text: Callable[[str], None] | None = None
    ) -> list[Answer]:
        """Return the answers to a request: one, or, of our own server with the option `n`, several in a row."""
        options = {**self.options, **question.options, "seed": derive_seed(self.seed, question.purpose), **extra}
        if self.at_once == 1:
            options.pop("logit_bias", None)  # of our own server, like `static` and `n`
        elif question.static:
            options["static"] = question.static
        think = False if self.model.thinks and not question.may_think else None
        answers: list[Answer] = []
        text, thoughts, tokens = "", "", []
        complete = False
        with translated_errors(self.url, "in the middle of its answer"):
            async with asyncio.timeout(self.timeouts.stall) as limit:
                parts = await self.client.chat(
                    self.model.name,
                    [message._asdict() for message in question.messages],
                    stream=True,
                    think=think,
                    format=dict(question.schema) if question.schema else None,
                    options=options,
                    logprobs=bool(question.top_logprobs) or None,
                    top_logprobs=question.top_logprobs or None,
                )
                async for part in parts:
                    limit.reschedule(asyncio.get_running_loop().time() + self.timeouts.stall)
                    complete = False
                    text += part.message.content or ""
                    thoughts += part.message.thinking or ""
                    tokens += _tokens(part)
                    if part.done:
                        self._count(part)
                        self.transcript.append(_entry(question, options, think, text, thoughts, part))
                        answer = without_thoughts(text)
                        answers.append(Answer(answer, part.done_reason != "length", tokens if answer == text else ()))
                        text, thoughts, tokens = "", "", []
                        complete = True
                    elif part.message.content or part.message.thinking:
                        self._add_piece(without_thoughts(text), on_text)
        if not complete:
            raise MetadataError(
                f"The Ollama server at {self.url} ended its answer in the middle.",
                code=ErrorCode.OLLAMA_UNAVAILABLE,
                hint="Look at the server's log; it may have been stopped.",
            )
        return answers

    def report(self, fraction: float, step: Step, status: str, **partial: Any) -> None:
        known = {**self._last.partial, **partial}
        self._publish(MetadataProgress(LOADING + (1 - LOADING) * fraction, step, status, partial=known))

    def note(self, **facts: Any) -> None:
        self.transcript.append(facts)

    def _add_piece(self, text: str, on_text: Callable[[str], None] | None) -> None:
        if self.first_token_s is None:
            self.first_token_s = time.perf_counter() - self._started
        self._pieces += 1
        self._publish(self._last)
        if on_text:
            on_text(text)

    def _publish(self, progress: MetadataProgress) -> None:
        """Pass the progress on, with the tokens so far and a fraction that never decreases."""
        fraction = max(self._last.fraction, min(1.0, progress.fraction))
        self._last = replace(progress, fraction=fraction, tokens=self.tokens + self._pieces)
        self.on_progress(self._last)

    def _count(self, last: ollama.ChatResponse) -> None:
        """Replace the number of pieces by the server's count: a piece may hold several tokens."""
        self.tokens += last.eval_count or self._pieces
        self._pieces = 0
        self.generating_s += _seconds(last.eval_duration)
        self.load_s += _seconds(last.load_duration)


def _tokens(part: ollama.ChatResponse) -> list[GeneratedToken]:
    return [
        GeneratedToken(token.token, token.logprob, tuple((top.token, top.logprob) for top in token.top_logprobs or ()))
        for token in part.logprobs or ()
    ]


def _seconds(nanoseconds: int | None) -> float:
    return (nanoseconds or 0) / 1e9


def _entry(
    question: Question,
    options: Mapping[str, Any],
    think: bool | None,
    text: str,
    thoughts: str,
    last: ollama.ChatResponse,
) -> dict[str, Any]:
    """Return the transcript's entry for a request. Counts in tokens, durations in seconds."""
    return {
        "purpose": question.purpose,
        "messages": [message._asdict() for message in question.messages],
        "options": dict(options),
        "format": question.schema and dict(question.schema),
        "think": think,
        "topLogprobs": question.top_logprobs or None,
        "answer": text,
        "thinking": thoughts or None,
        "doneReason": last.done_reason,
        "promptTokens": last.prompt_eval_count,
        "tokens": last.eval_count,
        "loadS": _seconds(last.load_duration),
        "promptS": _seconds(last.prompt_eval_duration),
        "generatingS": _seconds(last.eval_duration),
        "totalS": _seconds(last.total_duration),
    }
