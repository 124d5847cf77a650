"""Parsers for a model's answers: remove thinking, find JSON in prose, read an incomplete JSON object.

Owns the tolerance for malformed answers (not what the values must be: `structured.py`, `titles.py`). Pure functions.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pydantic_core

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
    try:
        value = pydantic_core.from_json(text[max(text.find("{"), 0) :], allow_partial="trailing-strings")
    except ValueError:  # no JSON, or text behind the object
        value = find_object(text)
    return value if isinstance(value, dict) else {}


def plain_line(text: str) -> str:
    """Return the text as one line without markup, list marks, control characters and enclosing quotes."""
    text = "".join(
        " " if c.isspace() else c
        for c in unicodedata.normalize("NFC", text)
        if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Cn"}
    )
    text = _LIST_MARK.sub("", _MARKUP.sub("", text))
    return " ".join(text.split()).strip(' "“”')
