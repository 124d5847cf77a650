"""One song's exchanges with a language model: asked, streamed, timed, written down.

Owns the streaming, the stall timeout, the counts and the transcript. It knows neither what is asked (`prompting/`) nor
what a failed connection means (`ollama.py`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import ollama
from ollama._types import Logprob

from harmonia_lab.engines.base import CancelToken, MetadataProgress, Step, derive_seed
from harmonia_lab.engines.prompting.exchange import Answer, Question, Token

__all__ = ["Conversation"]

KEEP_ALIVE_S = 300
REPORT_EVERY_S = 0.1

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL)


class Conversation:
    """A `prompting.exchange.Dialogue` over one client.

    transcript: an entry for each exchange and each note, in order. tokens: generated so far, thinking included.
    """

    def __init__(
        self,
        client: ollama.AsyncClient,
        model: str,
        seed: int,
        report: Callable[[MetadataProgress], None],
        cancel: CancelToken,
        stall_s: float,
    ) -> None:
        self.transcript: list[dict[str, Any]] = []
        self.tokens = 0
        self.time_to_first_token_s: float | None = None
        self.most_alternatives = 20
        self.context_length = 4096
        self._client, self._model, self._seed = client, model, seed
        self._report, self._cancel, self._stall_s = report, cancel, stall_s
        self._thinks = False
        self._generating_s = 0.0
        self._started = time.perf_counter()
        self._reported = 0.0
        self._standing: tuple[float, Step, str] = (0.0, "analysis", "")
        self._partial: dict[str, Any] = {}

    def describe(self, *, most_alternatives: int, context_length: int, thinks: bool) -> None:
        """What the server says of the model. context_length: tokens. thinks: whether it can be told not to think."""
        self.most_alternatives, self.context_length, self._thinks = most_alternatives, context_length, thinks

    @property
    def tokens_per_second(self) -> float | None:
        """Over the model's own generation time; None where nothing was generated."""
        return round(self.tokens / self._generating_s, 3) if self._generating_s else None

    def report(self, fraction: float, step: Step, status: str, **partial: Any) -> None:
        self._partial |= partial
        self._standing = (max(fraction, self._standing[0]), step, status)
        self._tell(self.tokens)

    def note(self, **facts: Any) -> None:
        self.transcript.append(facts)

    async def ask(self, question: Question, on_text: Callable[[str], None] | None = None) -> Answer:
        """Raises TimeoutError after `stall_s` seconds without a token, and what the client raises."""
        options = {**question.options, "seed": derive_seed(self._seed, question.purpose)}
        messages = [{"role": message.role, "content": message.content} for message in question.messages]
        entry: dict[str, Any] = {"purpose": question.purpose, "messages": messages, "options": options}
        if question.schema is not None:
            entry["format"] = question.schema
        self.transcript.append(entry)  # before the answer: a cancelled or broken exchange is written down as well
        text, thinking = "", ""
        tokens: list[Token] = []
        pieces = 0
        last: ollama.ChatResponse | None = None
        async with asyncio.timeout(self._stall_s) as stall:
            stream = await self._client.chat(
                self._model,
                messages=messages,
                stream=True,
                options=options,
                format=dict(question.schema) if question.schema is not None else None,
                logprobs=True if question.alternatives else None,
                top_logprobs=question.alternatives or None,
                think=False if self._thinks else None,
                keep_alive=KEEP_ALIVE_S,
            )
            async for chunk in stream:
                self._cancel.raise_if_cancelled()
                stall.reschedule(asyncio.get_running_loop().time() + self._stall_s)
                text += chunk.message.content or ""
                thinking += chunk.message.thinking or ""
                tokens += map(_token, chunk.logprobs or ())
                if (chunk.message.content or chunk.message.thinking) and not chunk.done:
                    pieces += 1
                    self._first_token()
                    self._tell_now_and_then(self.tokens + pieces)
                    if on_text is not None and chunk.message.content:
                        on_text(_spoken(text))
                last = chunk
        if last is None or not last.done:
            raise ConnectionError("the answer ended before its end")
        self.tokens += max(pieces, last.eval_count or 0)  # chunks are not tokens; the count comes at the end
        self._generating_s += (last.eval_duration or 0) / 1e9
        entry |= {
            "answer": text,
            **({"thinking": thinking} if thinking else {}),
            "done_reason": last.done_reason,
            "prompt_tokens": last.prompt_eval_count,
            "tokens": last.eval_count,
            "seconds": {
                "total": (last.total_duration or 0) / 1e9,
                "load": (last.load_duration or 0) / 1e9,
                "prefill": (last.prompt_eval_duration or 0) / 1e9,
                "decode": (last.eval_duration or 0) / 1e9,
            },
        }
        return Answer(_spoken(text), last.done_reason != "length", tuple(tokens))

    def _first_token(self) -> None:
        if self.time_to_first_token_s is None:
            self.time_to_first_token_s = round(time.perf_counter() - self._started, 6)

    def _tell_now_and_then(self, tokens: int) -> None:
        if time.perf_counter() - self._reported >= REPORT_EVERY_S:
            self._tell(tokens)

    def _tell(self, tokens: int) -> None:
        self._cancel.raise_if_cancelled()
        self._reported = time.perf_counter()
        fraction, step, status = self._standing
        self._report(MetadataProgress(fraction, step, status, tokens, dict(self._partial)))


def _spoken(text: str) -> str:
    """Without what a model thinks aloud."""
    return _THOUGHT.sub("", text).lstrip() if "<think" in text else text


def _token(entry: Logprob) -> Token:
    others = tuple((other.token, other.logprob) for other in entry.top_logprobs or ())
    return Token(entry.token, entry.logprob, others)
