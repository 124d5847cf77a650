"""Parsers for a model's answers: remove thinking, find JSON in prose, read an incomplete JSON object.

Owns the tolerance for malformed answers (not what the values must be: `structured.py`, `titles.py`). Pure functions.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pydantic_core

__all__ = ["find_object", "find_record", "parse_partial", "plain_line", "without_thoughts"]

MOST_BRACKETS = 1000
"""An answer with more is no song, and takes the tolerant reader seconds."""

DEEPEST = 4
"""Levels of nesting at which a song's object is looked for."""

_THOUGHT = re.compile(r"<(think|thinking|thought)>.*?(?:</\1>|$)", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"<[^<>]*>|[*_#`~|<>{}\\]+")
_BEGIN = re.compile(r"\{\s*(?:[\"'“/]|\w+\s*:)")
"""An object's beginning: a brace before a name, in quotes or not, or a comment; other braces are prose."""
_LIST_MARK = re.compile(r"^\s*(?:[-•–—]\s+|\d{1,2}[.)]\s+)")


def without_thoughts(text: str) -> str:
    """Remove `<think>` blocks, including one without an end or without a beginning."""
    answer = _THOUGHT.sub("", text).rpartition("</think>")[2]
    return answer if answer == text else answer.lstrip()


def find_object(text: str) -> dict[str, Any] | None:
    """Return the longest JSON object in a text of prose or Markdown; None if there is none. Line ends may be raw."""
    found: list[tuple[int, dict[str, Any]]] = []
    place = text.find("{")
    while place >= 0:
        end = place + 1
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(text, place)
            found.append((end - place, value))
        except (ValueError, RecursionError):
            pass
        place = text.find("{", end)
    return max(found, key=lambda item: item[0])[1] if found else None


def find_record(text: str, keys: Collection[str]) -> dict[str, Any] | None:
    """Return the object in a model's answer that has most of `keys` (lower case); None if none has any.

    Beyond `find_object`: an object inside another one, trailing commas, comments, single quotes, quotes inside a text,
    names without quotes, and a missing end are read, too.
    """

    def known(candidate: Mapping[str, Any]) -> int:
        return len({str(key).strip().lower() for key in candidate}.intersection(keys))

    strict = find_object(text)
    candidates = list(_objects(strict)) if strict else []
    if max(map(known, candidates), default=0) < len(keys):
        candidates += _objects(_read_tolerantly(text))
    best = max(candidates, key=known, default=None)
    return best if best is not None and known(best) else None


def _read_tolerantly(text: str) -> Any:
    """Return the value from the first object on, as far as it can be guessed; None for a text that nests too deeply."""
    begin = _BEGIN.search(text)
    if begin is None or sum(map(text.count, "{[")) > MOST_BRACKETS:
        return None
    import json_repair  # noqa: PLC0415 - few answers need it, and it loads in 0.1 s

    try:
        return json_repair.loads(text[begin.start() :])
    except (ValueError, RecursionError):
        return None


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects in a JSON value, outer ones first."""
    if isinstance(value, dict):
        yield value
    if depth < DEEPEST and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _objects(inner, depth + 1)


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
