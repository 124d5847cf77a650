"""Parsers for a model's answers: remove thinking, find JSON in prose, read an incomplete JSON object.

Owns the tolerance for malformed answers (not what the values must be: `structured.py`, `titles.py`). Pure functions.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

__all__ = ["find_object", "parse_partial", "plain_line", "without_thoughts"]

_THOUGHT = re.compile(r"<(think|thinking|thought)>.*?(?:</\1>|$)", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"<[^<>]*>|[*_#`~|<>{}\\]+")
_LIST_MARK = re.compile(r"^\s*(?:[-•–—]\s+|\d{1,2}[.)]\s+)")


def without_thoughts(text: str) -> str:
    """Remove `<think>` blocks, including one without an end or without a beginning."""
    answer = _THOUGHT.sub("", text).rpartition("</think>")[2]
    return answer if answer == text else answer.lstrip()


def find_object(text: str) -> dict[str, Any] | None:
    """Return the longest JSON object in a text of prose or Markdown; None if there is none."""
    found: list[tuple[int, dict[str, Any]]] = []
    place = text.find("{")
    while place >= 0:
        end = place + 1
        try:
            value, end = json.JSONDecoder().raw_decode(text, place)
            found.append((end - place, value))
        except (ValueError, RecursionError):
            pass
        place = text.find("{", end)
    return max(found, key=lambda item: item[0])[1] if found else None


def parse_partial(text: str) -> dict[str, Any]:
    """Return the part of a JSON object that has been written so far; its last string may be cut. Empty if none."""
    start = max(text.find("{"), 0)
    scan = _JsonScan()
    for place in range(start, len(text)):
        scan.take(text[place], place)
        if not scan.closers:
            break
    body = text[start : len(text) - scan.escaped] + '"' * scan.in_string
    for attempt, closers in ((body, scan.closers), (text[start : scan.safe], scan.safe_closers)):
        try:
            value = json.loads(attempt + "".join(reversed(closers)), strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


class _JsonScan:
    """The open brackets and string at a place of a JSON text; cut at `safe` and closed, the text is valid JSON."""

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


def plain_line(text: str) -> str:
    """Return the text as one line without markup, list marks, control characters and enclosing quotes."""
    text = "".join(
        " " if c.isspace() else c
        for c in unicodedata.normalize("NFC", text)
        if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Cn"}
    )
    text = _LIST_MARK.sub("", _MARKUP.sub("", text))
    return " ".join(text.split()).strip(' "“”')
