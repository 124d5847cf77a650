"""The form: which sections a song of so many seconds has, which lyric lines it sings, and in which bars.

Owns the layout in bars and each section's intensity. It knows nothing of pitch.

A song is an intro, a walk through the lyrics' sections (repeated with solos when the song is longer than the lyrics,
shortened when it is shorter), an outro, and a final chord that rings until the end. Of all walks that fit, the best
scored is taken: a chorus is in it and ends it, lines come in pairs, little is left out, intro and outro are short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, cycle, islice, product
from statistics import median
from typing import NamedTuple

from harmonia_lab.music.composing.prosody import Line, read_line
from harmonia_lab.protocol.models import LyricSection

__all__ = ["Form", "Phrase", "Section", "lay_out"]

_RING_SECONDS = 1.6
_SYLLABLES_PER_SECOND = 5.0
"""Faster than that nobody sings; a longer line gets more bars."""

_INTENSITY = {"intro": 0.3, "verse": 0.5, "chorus": 0.85, "bridge": 0.45, "solo": 0.7, "outro": 0.4}
_KINDS = {
    "chorus": "chorus", "refrain": "chorus", "hook": "chorus", "bridge": "bridge", "middle": "bridge", "intro": "intro",
    "outro": "outro", "coda": "outro", "ending": "outro", "tag": "outro",
}  # fmt: skip


class Phrase(NamedTuple):
    """One breath of melody. bar: its first bar in the song. line: what it sings; None for an instrumental phrase."""

    bar: int
    bars: int
    line: Line | None


class Section(NamedTuple):
    """kind: intro, verse, chorus, bridge, solo or outro. occurrence: how many of its kind came before.

    phrases cover bars from the section's first on, without gaps; an intro or outro may have none.
    lyric_section: index into the metadata's sections. bars of the last section run to the song's end.
    """

    kind: str
    bar: int
    bars: int
    intensity: float
    occurrence: int
    lyric_section: int | None
    phrases: tuple[Phrase, ...]

    @property
    def has_words(self) -> bool:
        return any(phrase.line for phrase in self.phrases)


class Form(NamedTuple):
    """final_bar: where the last chord falls. line_bars: usual length of a phrase. bars: in all, the last may be cut."""

    sections: tuple[Section, ...]
    line_bars: int
    final_bar: int
    bars: int


class _Block(NamedTuple):
    kind: str
    lyric_section: int | None
    lines: tuple[Line | None, ...]


def lay_out(lyrics: Sequence[LyricSection], bar_seconds: float, seconds: float) -> Form:
    """The form of a song of exactly `seconds`; the final chord rings for at least 1.6 s of it (less in tiny songs)."""
    bars = max(1, math.ceil(seconds / bar_seconds - 1e-9))
    final_bar = max(0, int((seconds - min(_RING_SECONDS, 0.4 * seconds)) / bar_seconds + 1e-9))
    blocks = _blocks(lyrics)
    line_bars = _line_bars([line for block in blocks for line in block.lines if line], bar_seconds, final_bar)
    capacity = max(1, int(line_bars * bar_seconds * _SYLLABLES_PER_SECOND))
    walk = _best_walk(blocks, line_bars, capacity, final_bar)
    return Form(_place(walk, line_bars, capacity, final_bar, bars), line_bars, final_bar, bars)


def _line_bars(lines: Sequence[Line], bar_seconds: float, final_bar: int) -> int:
    """1, 2 or 4: whichever gives a line of usual length some 0.36 s a syllable and a breath."""
    syllables = median(len(line.syllables) for line in lines) if lines else 8
    target = 1.1 + 0.36 * syllables
    fitting = [bars for bars in (1, 2, 4) if bars <= max(1, final_bar)]
    return min(fitting, key=lambda bars: abs(math.log(bars * bar_seconds / target)))


def _blocks(lyrics: Sequence[LyricSection]) -> list[_Block]:
    """The lyrics' sections; without lyrics a song form of instrumental phrases; without a chorus one is played."""
    blocks = []
    for index, section in enumerate(lyrics):
        lines = tuple(line for line in map(read_line, section.lines) if line.syllables)
        kind = next((kind for word, kind in _KINDS.items() if word in section.name.lower()), "verse")
        if lines:
            blocks.append(_Block("verse" if "pre" in section.name.lower() else kind, index, lines))
    wordless: tuple[None, ...] = (None,) * 4
    if not blocks:
        kinds = ("verse", "chorus", "verse", "chorus", "bridge", "chorus")
        return [_Block(kind, None, wordless) for kind in kinds]
    if not any(block.kind == "chorus" for block in blocks):
        blocks = [
            b for i, block in enumerate(blocks) for b in (block, _Block("chorus", None, wordless))[: 2 if i % 2 else 1]
        ]
    return blocks


def _walks(blocks: Sequence[_Block], final_bar: int) -> list[_Block]:
    """The blocks, then solo, last chorus and the blocks again, until nothing more can fit."""
    chorus = next((block for block in reversed(blocks) if block.kind == "chorus"), None)
    again = [_Block("solo", None, (None,) * 4), *([chorus] if chorus else []), *blocks]
    return [*blocks, *islice(cycle(again), max(0, final_bar + 1 - len(blocks)))]


def _best_walk(blocks: Sequence[_Block], line_bars: int, capacity: int, final_bar: int) -> list[_Block]:
    sequence = _walks(blocks, final_bar)
    ideal = min(4, round(final_bar / 8)) + min(4, round(final_bar / 12))
    best: tuple[float, list[_Block]] = (-math.inf, [])
    for verse_lines, chorus_lines in product((1, 2, 3, 4, 6, 8, 99), repeat=2):
        cut = [block._replace(lines=block.lines[: _cap(block, verse_lines, chorus_lines)]) for block in sequence]
        dropped = list(accumulate(len(full.lines) - len(b.lines) for full, b in zip(sequence, cut, strict=True)))
        odd = sum(len(b.lines) % 2 and len(full.lines) > len(b.lines) for full, b in zip(sequence, cut, strict=True))
        lengths = [sum(_bars_of(line, line_bars, capacity) for line in block.lines) for block in cut]
        choruses = [i for i, block in enumerate(cut) if block.kind == "chorus"]
        before = 0
        for last, length in enumerate(lengths):
            # A long song may close with its chorus twice.
            for final in (last, choruses[-1]) if choruses and last >= len(blocks) else (last,):
                spare = final_bar - before - lengths[final]
                score = min(last + 1, len(blocks)) - 0.5 * dropped[last] - min(odd, 2)
                score -= 0.4 * abs(spare - ideal) + 0.4 * max(0, spare - ideal)
                score -= 4.0 * max(0, spare - ideal - line_bars) / line_bars
                if choruses:
                    score += 8.0 * (choruses[0] <= last) + 3.0 * (cut[final].kind == "chorus")
                if spare >= 0 and score > best[0]:
                    best = (score, [*cut[:last], cut[final]])
            before += length
    return best[1]


def _cap(block: _Block, verse_lines: int, chorus_lines: int) -> int:
    return chorus_lines if block.kind == "chorus" else verse_lines


def _bars_of(line: Line | None, line_bars: int, capacity: int) -> int:
    return line_bars * (math.ceil(len(line.syllables) / capacity) if line else 1)


def _place(walk: Sequence[_Block], line_bars: int, capacity: int, final_bar: int, bars: int) -> tuple[Section, ...]:
    body = sum(_bars_of(line, line_bars, capacity) for block in walk for line in block.lines)
    spare = final_bar - body
    outro = min(spare, round(0.4 * spare)) if walk else 0
    sections: list[Section] = []
    seen: dict[str, int] = {}

    def add(kind: str, bar: int, length: int, phrases: tuple[Phrase, ...], lyric_section: int | None) -> None:
        occurrence = seen.get(kind, 0)
        seen[kind] = occurrence + 1
        intensity = min(1.0, _INTENSITY[kind] + 0.05 * min(occurrence, 3))
        sections.append(Section(kind, bar, length, intensity, occurrence, lyric_section, phrases))

    bar = spare - outro
    if bar:
        add("intro", 0, bar, _wordless(0, bar, line_bars), None)
    for block in walk:
        phrases = []
        start = bar
        for line in block.lines:
            length = _bars_of(line, line_bars, capacity)
            phrases.append(Phrase(bar, length, line))
            bar += length
        add(block.kind, start, bar - start, tuple(phrases), block.lyric_section)
    add("outro", bar, bars - bar, _wordless(bar, final_bar - bar, line_bars), None)
    return tuple(sections)


def _wordless(bar: int, bars: int, line_bars: int) -> tuple[Phrase, ...]:
    return tuple(Phrase(bar + at, min(line_bars, bars - at), None) for at in range(0, bars, line_bars))
