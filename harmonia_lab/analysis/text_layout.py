"""Where text goes in a picture: lines broken between words, and many blocks of text placed along a time axis.

Owns the breaks and the places, in pixels, for a given measure of width (not fonts, which are in `glyphs.py`). A word is
broken only where it is longer than the whole picture is wide. Kana and Han break between characters.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Block", "lanes", "rows_of_lanes", "wrapped"]

Measure = Callable[[str], float]
"""The width of a text in pixels."""

_NOT_FIRST = "、。，．・：；？！゛゜ー々ゝゞぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ）〕］｝〉》」』】’”…"
"""Characters that don't begin a line (from JIS X 4051's line-breaking rules)."""

_WITHOUT_SPACES = (("\u3040", "\u30ff"), ("\u31f0", "\u9fff"), ("\uf900", "\ufaff"), ("\uff00", "\uffef"))
"""Kana, Han and full-width forms."""


class Block(NamedTuple):
    """A text along the time axis. number: its index in the texts. left: where it stands. rows: its lines."""

    number: int
    left: float
    width: float
    rows: tuple[str, ...]

    @property
    def right(self) -> float:
        return self.left + self.width


def wrapped(text: str, width: float, measure: Measure, limit: float = math.inf) -> list[tuple[str, float]]:
    """Return the text in rows, each with its width, no wider than `width`, or than its longest word if that is wider.

    limit: a word wider than this is broken. The width of a row is taken to be that of its words and spaces, so that
    `measure` can keep those of words.
    """
    rows: list[tuple[str, float]] = []
    blank = measure(" ")
    for space, piece in _pieces(text):
        own = measure(piece)
        if rows and (longer := rows[-1][1] + blank * len(space) + own) <= width:
            rows[-1] = rows[-1][0] + space + piece, longer
        else:
            rows += _broken(piece, own, limit, measure)
    return rows


def lanes(
    texts: Sequence[tuple[float, str]], right: float, gap: float, measure: Measure, widths: Sequence[float]
) -> list[list[Block]]:
    """Return blocks in lanes, from top to bottom, so that no two of a lane meet: of all `widths`, the lowest stack.

    texts: where each begins, in order, and what it says. right: the edge that none crosses. gap: pixels between two
    blocks. widths: how wide a block may be, in the order of preference. Each text is put into the first lane with room,
    where it begins or, within the smallest width of the edge, before that.
    """
    best: list[list[Block]] = []
    for width in widths:
        stack: list[list[Block]] = []
        for number, (at, text) in enumerate(texts):
            room = min(width, right, max(right - at, min(widths)))
            rows = wrapped(text, room, measure, right)
            longest = max((own for _, own in rows), default=0.0)
            block = Block(number, max(0.0, min(at, right - longest)), longest, tuple(row for row, _ in rows))
            lane = next((lane for lane in stack if lane[-1].right + gap <= block.left), None)
            if lane is None:
                stack.append([block])
            else:
                lane.append(block)
        if not best or rows_of_lanes(stack) < rows_of_lanes(best):
            best = stack
    return best


def rows_of_lanes(stack: Sequence[Sequence[Block]]) -> int:
    """Return how many rows of text the lanes need, one under the other."""
    return sum(max(len(block.rows) for block in lane) for lane in stack)


def _broken(word: str, own: float, limit: float, measure: Measure) -> list[tuple[str, float]]:
    """Return a word that is `own` pixels wide in pieces that are no wider than `limit`, each with its width."""
    rows = [(word, own)]
    while rows[-1][1] > limit and len(rows[-1][0]) > 1:
        word, _ = rows.pop()
        fits = next((count for count in range(len(word) - 1, 1, -1) if measure(word[:count]) <= limit), 1)
        rows += [(part, measure(part)) for part in (word[:fits], word[fits:])]
    return rows


def _pieces(text: str) -> list[tuple[str, str]]:
    """Return what stays whole, each with the space before it: words, and single characters of Han and kana."""
    pieces: list[tuple[str, str]] = []
    for number, word in enumerate(text.split()):
        borders = [] if word.isascii() else [at for at in range(1, len(word)) if _may_break(word[at - 1], word[at])]
        for start, end in itertools.pairwise([0, *borders, len(word)]):
            pieces.append((" " if number and not start else "", word[start:end]))
    return pieces


def _may_break(before: str, after: str) -> bool:
    return (
        (_spaceless(before) or _spaceless(after))
        and after not in _NOT_FIRST
        and unicodedata.category(after)[0] != "M"
        and unicodedata.category(before) not in {"Ps", "Pi"}  # opening brackets and quotes
    )


def _spaceless(letter: str) -> bool:
    return any(first <= letter <= last for first, last in _WITHOUT_SPACES)
