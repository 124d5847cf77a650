"""Sung syllables and words of lyrics: counted once for each text, and kept.

Owns the counts of the newest KEPT texts, by digest. Counting 20,000 characters takes 25 ms of Python, and an event with
lyrics is serialised for the journal, for the wire, and again at each replay. `models.py` counts.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["GIVEN", "KEPT", "SungCounts", "counted", "keep_given"]

KEPT = 20_000
"""Texts. More than the journal keeps generations, at about 200 bytes each."""

GIVEN: dict[str, Any] = {"counts": "given"}
"""Validation context of what Harmonia Lab wrote, in the journal or on the wire: its counts are taken over, and text
that is refused today is cleaned."""


class SungCounts(NamedTuple):
    syllables: int
    words: int


_kept: dict[tuple[bytes, str | None], SungCounts] = {}
_lock = threading.Lock()


def counted(lyrics: str, language: str | None, count: Callable[[], SungCounts]) -> SungCounts:
    """Return the counts of `lyrics`, from `count` if they aren't kept. language: the tag that the counts depend on."""
    key = _key(lyrics, language)
    found = _kept.get(key)
    if found is None:
        found = count()
        _keep(key, found)
    return found


def keep_given(lyrics: str, language: str | None, payload: dict[str, Any]) -> None:
    """Keep the counts of a metadata object that Harmonia Lab wrote, if it has any."""
    given = payload.get("syllableCount"), payload.get("wordCount")
    if all(type(number) is int and number >= 0 for number in given):
        _keep(_key(lyrics, language), SungCounts(*given))  # type: ignore[arg-type] # both are ints


def _key(lyrics: str, language: str | None) -> tuple[bytes, str | None]:
    return hashlib.blake2b(lyrics.encode("utf-8", "surrogatepass"), digest_size=16).digest(), language


def _keep(key: tuple[bytes, str | None], counts: SungCounts) -> None:
    with _lock:
        _kept[key] = counts
        if len(_kept) > KEPT:
            del _kept[next(iter(_kept))]
