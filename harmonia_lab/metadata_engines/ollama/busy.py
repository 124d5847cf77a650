"""The wait for a server that has too much to do. Owns how long is waited, and how often is asked again."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.metadata_engines.ollama.failures import HttpFailure, status_error

__all__ = ["Say", "retry_delay", "when_free"]

FIRST_S, LONGEST_S = 1.0, 30.0
"""Seconds before the second try, if the server doesn't say; each later wait is twice as long, up to the longest."""

PATIENT_TRIES = 5
"""So often a server is asked again as soon as it says; then our own waits are the least, whatever it says."""

T = TypeVar("T")


class Say(Protocol):
    """Takes a status for people, and the failure that is being recovered from, if it is about one."""

    def __call__(self, status: str, failure: HarmoniaError | None = None, /) -> None: ...


async def when_free(ask: Callable[[], Awaitable[T]], limit_s: float, where: str, say: Say) -> T:
    """Return what `ask` returns, asking again after an answer 429 or 503, as long as all waits together fit `limit_s`.

    where: the server for messages. say: told before each wait, with the plan "wait". A cancel of the task ends the
    wait. Raises the last HttpFailure.
    """
    waited_s, tries = 0.0, 0
    while True:
        try:
            return await ask()
        except HttpFailure as failure:
            delay_s = retry_delay(failure.retry_after, tries)
            if not failure.is_busy or waited_s + delay_s > limit_s:
                raise
            busy = status_error(failure, where, "")
        tries += 1
        waited_s += delay_s
        busy.details |= {"plan": "wait", "waitSeconds": round(delay_s, 3)}
        say(f"The language model's server is busy; asking again in {delay_s:.0f} s…", busy)
        await asyncio.sleep(delay_s)


def retry_delay(retry_after: str | None, tries: int) -> float:
    """Return the seconds to wait after `tries` earlier waits. retry_after: the header, in seconds or as a date."""
    text = (retry_after or "").strip()
    told_s: float | None = None
    if text.isdecimal():
        told_s = float(text)
    else:
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # none, or none of the two forms
            told_s = max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    if told_s is None:
        return _own_delay(tries)
    return told_s if tries < PATIENT_TRIES else max(told_s, _own_delay(tries - PATIENT_TRIES))


def _own_delay(tries: int) -> float:
    return float(min(LONGEST_S, FIRST_S * 2.0 ** min(tries, 10)))
