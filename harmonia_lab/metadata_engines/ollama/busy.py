"""The wait for a server that has too much to do. Owns how long is waited, and how often is asked again."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from harmonia_lab.metadata_engines.ollama.failures import HttpFailure

__all__ = ["retry_delay", "when_free"]

FIRST_S, LONGEST_S = 1.0, 30.0
"""Seconds before the second try, if the server doesn't say; each later wait is twice as long, up to the longest."""

T = TypeVar("T")


async def when_free(ask: Callable[[], Awaitable[T]], limit_s: float, say: Callable[[str], None]) -> T:
    """Return what `ask` returns, asking again after an answer 429 or 503, as long as all waits together fit `limit_s`.

    say: gets a status for people before each wait. A cancel of the task ends the wait. Raises the last HttpFailure.
    """
    waited_s, tries = 0.0, 0
    while True:
        try:
            return await ask()
        except HttpFailure as failure:
            delay_s = retry_delay(failure.retry_after, tries)
            if not failure.is_busy or waited_s + delay_s > limit_s:
                raise
        tries += 1
        waited_s += delay_s
        say(f"The language model's server is busy; asking again in {delay_s:.0f} s…")
        await asyncio.sleep(delay_s)


def retry_delay(retry_after: str | None, tries: int) -> float:
    """Return the seconds to wait after `tries` earlier waits. retry_after: the header, in seconds or as a date."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):  # none, or none of the two forms
        return float(min(LONGEST_S, FIRST_S * 2.0**tries))
