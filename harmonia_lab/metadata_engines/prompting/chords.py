"""Chord marks in lyrics: `[Am]`, `[G/B]`, `(F#m7)`, and lines of nothing but chords.

Owns what is a chord's name. They are for players, and are neither sung nor names of sections.
"""

from __future__ import annotations

import re

__all__ = ["is_chord_line", "without_chords"]

_ROOT = r"[A-H](?:#|b|♯|♭|is|es)?"
_QUALITY = r"(?:maj|min|mi|ma|m|M|dim|aug|sus|add|no|omit|alt|Δ|°|ø|\+|-)"
_EXTENSION = r"(?:[#b♯♭]?\d{1,2}|\([#b♯♭\d,]+\))"
_CHORD = rf"{_ROOT}(?:{_QUALITY}|{_EXTENSION})*(?:/{_ROOT})?"
_SPACED = rf"{_CHORD}(?:[\s,|–-]+{_CHORD})*"
_BRACKETED = re.compile(rf"\[\s*(?:{_SPACED}|N\.?C\.?)\s*\]")
# In round brackets, a letter alone may be a word or a note to the singer.
_PARENTHESISED = re.compile(rf"\(\s*(?=[^)]*[#♯♭\d]|[^)]*[A-H](?:m|b|maj|min|dim|sus|aug)){_SPACED}\s*\)")
_ALONE = re.compile(rf"[|:\s]*{_CHORD}(?:[\s|:,–-]+{_CHORD})+[|:\s]*(?:x\d+)?\s*")


def without_chords(line: str) -> str:
    """Return the line without chord marks; a word that one divides ("Hal[G]lelujah") is whole again."""
    text = _PARENTHESISED.sub("", _BRACKETED.sub("", line))
    return line if text == line else " ".join(text.split())


def is_chord_line(line: str) -> bool:
    """Return whether the line holds two or more chords and nothing else, as above the words of a chord sheet."""
    return _ALONE.fullmatch(line) is not None
