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
    text = _THOUGHT.sub("", text)
    _, end, rest = text.rpartition("</think>")
    return (rest if end else text).lstrip()


def find_object(text: str) -> dict[str, Any] | None:
    """The longest JSON object in the text, whatever stands around it: prose, Markdown fences. None where there is none."""
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
    if start < 0:
        return {}
    closers: list[str] = []
    in_string = escaped = False
    safe = start  # up to here, closing what is open gives JSON
    safe_closers: list[str] = []
    for place in range(start, len(text)):
        character = text[place]
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
            safe, safe_closers = place + 1, list(closers)
        elif character in "}]":
            if not closers:
                break
            closers.pop()
            safe, safe_closers = place + 1, list(closers)
        elif character == ",":
            safe, safe_closers = place, list(closers)
    attempts = [(text[start:], closers)] if not in_string else [(text[start : len(text) - escaped] + '"', closers)]
    for body, open_ones in (*attempts, (text[start:safe], safe_closers)):
        try:
            value = json.loads(body + "".join(reversed(open_ones)), strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def sung_text(text: str) -> str:
    """One line of words: no markup, no list marks, no control characters, no brackets around it."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Cn"})
    text = _LIST_MARK.sub("", _MARKUP.sub("", text))
    return " ".join(text.split()).strip(" \"“”")
