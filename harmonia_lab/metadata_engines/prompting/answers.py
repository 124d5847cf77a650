"""Reading what a model answered: thoughts taken out, JSON found in prose, half of a JSON object read as it comes.

Owns the tolerance. What the values must be is decided by who asked. Pure functions.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

__all__ = ["find_object", "parse_partial", "sung_text", "without_thoughts"]

_THOUGHT = re.compile(r"<(think|thinking|thought)>.*?(?:</\1>|$)", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"<[^<>]*>|[*_#`~|<>{}\\]+")
_LIST_MARK = re.compile(r"^\s*(?:[-•–—]\s+|\d{1,2}[.)]\s+)")


def without_thoughts(text: str) -> str:
    """The answer proper: `<think>` blocks out, also one that never ends, or whose beginning is not shown."""
    answer = _THOUGHT.sub("", text)
    _, end, rest = answer.rpartition("</think>")
    answer = rest if end else answer
    return answer if answer == text else answer.lstrip()


def find_object(text: str) -> dict[str, Any] | None:
    """The longest JSON object in a text, in prose or between Markdown fences; None where there is none."""
    decoder = json.JSONDecoder()
    found: list[tuple[int, dict[str, Any]]] = []
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
            continue
        if isinstance(value, dict):
            found.append((end - place, value))
        place = text.find("{", end)
    return max(found, key=lambda item: item[0])[1] if found else None


def parse_partial(text: str) -> dict[str, Any]:
    """What is known of a JSON object whose end is missing; strings may be cut. Empty where nothing is."""
    start = text.find("{")
    scan = _Scan()
    for place in range(max(start, 0), len(text)):
        scan.take(text[place], place)
        if not scan.closers:
            break
    body = text[start : len(text) - scan.escaped] if start >= 0 else ""
    whole = f'{body}"' if scan.in_string else body
    for attempt, closers in ((whole, scan.closers), (text[max(start, 0) : scan.safe], scan.safe_closers)):
        try:
            value = json.loads(attempt + "".join(reversed(closers)), strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


class _Scan:
    """What is open at a place of a JSON text; `safe` is the last place after which closing it gives JSON."""

    def __init__(self) -> None:
        self.closers: list[str] = []
        self.in_string = self.escaped = False
        self.safe = 0
        self.safe_closers: list[str] = []

    def take(self, character: str, place: int) -> None:
        if self.in_string:
            self.in_string = self.escaped or character != '"'
            self.escaped = character == "\\" and not self.escaped
        elif character == '"':
            self.in_string = True
        elif character in "{[":
            self.closers.append("}" if character == "{" else "]")
            self._mark(place + 1)
        elif character in "}]":
            del self.closers[-1:]
            self._mark(place + 1)
        elif character == ",":
            self._mark(place)

    def _mark(self, place: int) -> None:
        self.safe, self.safe_closers = place, list(self.closers)


def sung_text(text: str) -> str:
    """One line of words: no markup, no list marks, no control characters, no brackets around it."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(
        " " if c.isspace() else c
        for c in text
        if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Cn"}
    )
    text = _LIST_MARK.sub("", _MARKUP.sub("", text))
    return " ".join(text.split()).strip(' "“”')
