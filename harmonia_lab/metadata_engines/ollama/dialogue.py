"""One song's chat requests to one model, through the official Ollama client.

Owns how an answer is streamed, timed, seeded and recorded, and how long a model may think (not what is asked:
`prompting/`, nor the client's errors: `failures.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from harmonia_lab.engines.base import MetadataProgress, Step
from harmonia_lab.errors import ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.metadata_engines.ollama.busy import when_free
from harmonia_lab.metadata_engines.ollama.client_library import ollama
from harmonia_lab.metadata_engines.ollama.context import THINKING
from harmonia_lab.metadata_engines.ollama.failures import HttpFailure, translated_errors
from harmonia_lab.metadata_engines.ollama.models import ModelFacts
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings, ThinkLevel
from harmonia_lab.metadata_engines.prompting.answers import without_thoughts
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, GeneratedToken, Question
from harmonia_lab.music.seeds import derive_seed

__all__ = ["KnownAnswers", "OllamaDialogue"]

LOADING = 0.08
"""The part of stage 1's progress for loading the model."""

ALIVE_S = 5.0
"""Seconds that a server which is slow to answer a chat has to answer a small question."""


KnownAnswers = dict[tuple[str, str, str], tuple[list[Answer], list[dict[str, Any]]]]
"""A question's purpose, last message and options → its answers, and their entries of the transcript."""

_SLOW_THERE = "Raise the limit (--ollama-timeout {limit}=900), shorten the story, or use a smaller model."
_SLOW_HERE = "That is the embedded model, on this machine: end what else runs here, or use a model of an Ollama server."


@dataclass
class OllamaDialogue:
    """The `Dialogue` of one song with one model. transcript, tokens, *_s (seconds): grow with each answer.

    at_once: answers to one question that the server writes at once; more than one only for our own server. known: the
    answers of an attempt that failed, by question, which aren't asked for again; grows with each answer.
    """

    client: ollama.AsyncClient
    where: str
    model: ModelFacts
    seed: int
    on_progress: Callable[[MetadataProgress], None]
    max_top_logprobs: int
    max_story_characters: int
    settings: OllamaSettings
    options: Mapping[str, Any]
    at_once: int = 1
    known: KnownAnswers = field(default_factory=dict)
    transcript: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    generating_s: float = 0.0
    load_s: float = 0.0
    first_token_s: float | None = None
    _started: float = field(default_factory=time.perf_counter)
    _pieces: int = 0
    _last: MetadataProgress = field(default_factory=lambda: MetadataProgress(0.0, "analysis", ""))
    _thinking_room: int = THINKING
    _takes_think: bool = True
    _has_thought: bool = False

    async def load(self) -> None:
        """Load the model before the first question. Raises MetadataError."""
        timeouts = self.settings.timeouts
        self._publish(MetadataProgress(0.0, "analysis", f"Loading {self.model.name}…"))

        async def ask() -> ollama.ChatResponse:
            async with asyncio.timeout(timeouts.load):
                return await self.client.chat(self.model.name, messages=[], options=dict(self.options))

        with translated_errors(self.where, f"while it loaded {self.model.name}"):
            try:
                loaded = await when_free(ask, timeouts.busy, self.where, self._say)
            except TimeoutError:
                await self._raise_if_alive(f"has not loaded {self.model.name} within {timeouts.load:g} s", "load")
                raise
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

    def report(self, fraction: float, step: Step, status: str, **partial: Any) -> None:
        known = {**self._last.partial, **partial}
        self._publish(MetadataProgress(LOADING + (1 - LOADING) * fraction, step, status, partial=known))

    def note(self, **facts: Any) -> None:
        self.transcript.append(facts)

    def repairing(self, failure: HarmoniaError) -> None:
        self._say("Asking for a corrected answer...", failure)

    async def _answers(
        self, question: Question, extra: Mapping[str, Any], on_text: Callable[[str], None] | None = None
    ) -> list[Answer]:
        """Return the answers to a request: one, or, of our own server with the option `n`, several in a row."""
        key = (question.purpose, question.messages[-1].content, repr(sorted(extra.items())))
        if key not in self.known:
            before = len(self.transcript)
            found = await self._asked(question, extra, on_text)
            self.known[key] = found, self.transcript[before:]
            return found
        found, entries = self.known[key]
        self.transcript += entries
        return found

    async def _asked(
        self, question: Question, extra: Mapping[str, Any], on_text: Callable[[str], None] | None
    ) -> list[Answer]:
        options = {**self.options, **question.options, "seed": derive_seed(self.seed, question.purpose), **extra}
        if self.at_once == 1:
            options.pop("logit_bias", None)  # of our own server, like `static` and `n`
        elif question.static:
            options["static"] = question.static
        with translated_errors(self.where, "in the middle of its answer"):
            return await when_free(
                lambda: self._ask(question, options, on_text), self.settings.timeouts.busy, self.where, self._say
            )

    async def _ask(
        self, question: Question, options: Mapping[str, Any], on_text: Callable[[str], None] | None
    ) -> list[Answer]:
        """Ask once; a second time where the server refuses the question's `think`."""
        think = self._think(question)
        try:
            return await self._stream(question, options, think, on_text)
        except HttpFailure as failure:
            if think is None or failure.status != HTTPStatus.BAD_REQUEST or "think" not in failure.text.lower():
                raise
        self._takes_think = False
        self.note(note=f"The server refused think={think!r}, and was asked without it.")
        return await self._stream(question, options, None, on_text)

    async def _stream(
        self,
        question: Question,
        options: Mapping[str, Any],
        think: bool | ThinkLevel | None,
        on_text: Callable[[str], None] | None,
    ) -> list[Answer]:
        if "num_predict" in options and self._may_meet_thoughts(question):
            options = {**options, "num_predict": options["num_predict"] + self._thinking_room}
        answers: list[Answer] = []
        text, thoughts, tokens, complete = "", "", list[GeneratedToken](), False

        def add(part: ollama.ChatResponse) -> None:
            nonlocal text, thoughts, tokens, complete
            text += part.message.content or ""
            thoughts += part.message.thinking or ""
            tokens += _tokens(part)
            complete = bool(part.done)
            if part.done:
                self._count(part)
                self.transcript.append(_entry(question, options, think, text, thoughts, part))
                answers.append(self._answer(text, thoughts, tokens, complete=part.done_reason != "length"))
                text, thoughts, tokens = "", "", []
            elif part.message.content or part.message.thinking:
                self._add_piece(without_thoughts(text), on_text)

        await self._receive(question, options, think, add)
        if not complete:
            raise MetadataError(
                f"The Ollama server at {self.where} ended its answer in the middle.",
                code=ErrorCode.OLLAMA_UNAVAILABLE,
                hint="Look at the server's log; it may have been stopped.",
            )
        return answers

    def _answer(self, text: str, thoughts: str, tokens: Sequence[GeneratedToken], *, complete: bool) -> Answer:
        """Return the answer without its thoughts, and remember whether the model has any."""
        answer = without_thoughts(text)
        if thoughts or answer != text:
            self._has_thought = True
        if not complete and not answer.strip():
            self._thinking_room *= 2  # all its tokens were thoughts
        return Answer(answer, complete, tokens if answer == text else ())

    async def _receive(
        self,
        question: Question,
        options: Mapping[str, Any],
        think: bool | ThinkLevel | None,
        add: Callable[[ollama.ChatResponse], None],
    ) -> None:
        """Call `add` with the pieces of an answer. Raises TimeoutError, or OLLAMA_SLOW while the server works."""
        timeouts, begun = self.settings.timeouts, False
        try:
            async with asyncio.timeout(timeouts.first) as limit:
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
                    begun = True
                    limit.reschedule(asyncio.get_running_loop().time() + timeouts.between)
                    add(part)
        except TimeoutError:
            if not begun:
                await self._raise_if_alive(f"has not begun its answer within {timeouts.first:g} s", "first")
            raise

    def _may_meet_thoughts(self, question: Question) -> bool:
        """Return whether an answer needs room for thoughts, which servers count among its tokens.

        A model that is told not to think may think all the same. With a schema, more room than needed does no harm: the
        answer ends with its object.
        """
        if not self.model.thinks:
            return self._has_thought  # the server doesn't know it
        return self.model.has_levels or self._has_thought or question.may_think or question.schema is not None

    async def _raise_if_alive(self, what: str, limit: str) -> None:
        """Raise MetadataError (OLLAMA_SLOW), after which nobody asks again, if the server answers a small question."""
        try:
            async with asyncio.timeout(ALIVE_S):
                await self.client._request_raw("GET", "/api/version")  # type: ignore[no-untyped-call]  # noqa: SLF001
        except Exception:  # noqa: BLE001 - whatever it is, the server does not work
            return
        raise MetadataError(
            f"The Ollama server at {self.where} {what}, though it works.",
            code=ErrorCode.OLLAMA_SLOW,
            hint=_SLOW_HERE if self.at_once > 1 else _SLOW_THERE.format(limit=limit),
        )

    def _think(self, question: Question) -> bool | ThinkLevel | None:
        """Return the request's `think`: a level for a model that has levels, which thinks in any case."""
        wanted = self.settings.think
        if not self.model.thinks or not self._takes_think:
            return None
        if self.model.has_levels:
            default: ThinkLevel = "medium" if question.may_think else "low"
            return default if wanted is None or isinstance(wanted, bool) else wanted
        if wanted is not None:
            return bool(wanted)
        return None if question.may_think else False

    def _say(self, status: str, failure: HarmoniaError | None = None) -> None:
        self._publish(replace(self._last, status=status), failure)

    def _add_piece(self, text: str, on_text: Callable[[str], None] | None) -> None:
        if self.first_token_s is None:
            self.first_token_s = time.perf_counter() - self._started
        self._pieces += 1
        self._publish(self._last)
        if on_text:
            on_text(text)

    def _publish(self, progress: MetadataProgress, failure: HarmoniaError | None = None) -> None:
        """Pass the progress on, with the tokens so far and a fraction that never decreases. failure: for this once."""
        fraction = max(self._last.fraction, min(1.0, progress.fraction))
        self._last = replace(progress, fraction=fraction, tokens=self.tokens + self._pieces)
        self.on_progress(replace(self._last, failure=failure) if failure else self._last)

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
    think: bool | ThinkLevel | None,
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
