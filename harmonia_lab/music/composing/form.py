"""The form: which sections a song of a given length has, which lines of the lyrics it sings, and in which bars.

Owns the layout in bars and each section's intensity (not pitch).

A song is an intro, the lyrics' sections (repeated with solos when the song is longer than the lyrics, shortened when it
is shorter), an outro, and a final chord that lasts until the end. All sequences of sections that fit are scored, and
the best is taken: one that has a chorus and ends with it, has lines in pairs, leaves little out, and has a short intro
and outro. A song of more than 64 s has a bridge, also if the lyrics have none, as long as no line is lost to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, cycle, islice, product
from statistics import median
from typing import NamedTuple

from harmonia_lab.languages.section_names import section_kind
from harmonia_lab.music.composing.prosody import LyricLine, syllabify
from harmonia_lab.music.seeds import derive_rng
from harmonia_lab.protocol.models import LyricSection

__all__ = ["Form", "Phrase", "Section", "Shape", "choose_shape", "lay_out"]

_BRIDGE_FROM = 64.0
"""Seconds."""

_BRIDGE_WORTH = 12.0
"""In units of the score: sections with words are worth 1, dropped lines cost 0.5."""

_FINAL_CHORD_SECONDS = 1.6
_SYLLABLES_PER_SECOND = 5.0
"""The fastest that can be sung; a line of more syllables gets more bars."""

_INTENSITY = {"intro": 0.3, "verse": 0.5, "chorus": 0.85, "bridge": 0.45, "solo": 0.7, "outro": 0.4}
_INSTRUMENTAL: tuple[None, ...] = (None,) * 4


class Phrase(NamedTuple):
    """A phrase of the melody. bar: its first bar in the song. line: of the lyrics; None for an instrumental phrase."""

    bar: int
    bars: int
    line: LyricLine | None


class Section(NamedTuple):
    """kind: intro, verse, chorus, bridge, solo or outro. occurrence: number of earlier sections of the same kind.

    phrases: without gaps from the section's first bar on; an intro or outro may have none. lyric_section: index into
    the metadata's sections. The last section's bars reach the song's end.
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
    """line_bars: usual length of a phrase. final_bar: of the last chord. bars: total; the last may be incomplete."""

    sections: tuple[Section, ...]
    line_bars: int
    final_bar: int
    bars: int


class _Block(NamedTuple):
    """A section of the lyrics, or an instrumental one, before it has a place in the song."""

    kind: str
    lyric_section: int | None
    lines: tuple[LyricLine | None, ...]


class Shape(NamedTuple):
    """What a seed decides about a form. order: kinds of the sections of a song without lyrics. intro_share: of the bars
    that the sections leave to intro and outro."""

    order: tuple[str, ...]
    intro_share: float


_PLAIN_SHAPE = Shape(("verse", "chorus", "verse", "chorus", "bridge", "chorus"), 0.6)
_ORDERS = (
    _PLAIN_SHAPE.order,
    ("verse", "verse", "chorus", "verse", "bridge", "chorus"),
    ("chorus", "verse", "chorus", "verse", "bridge", "chorus"),
)
_INTRO_SHARES = (0.6, 0.6, 0.5, 0.35, 0.2)


def choose_shape(seed: int) -> Shape:
    """Return the shape that the seed chooses; it decides about no line of the lyrics."""
    return Shape(derive_rng(seed, "form", "order").choice(_ORDERS), derive_rng(seed, "form").choice(_INTRO_SHARES))


def lay_out(
    lyrics: Sequence[LyricSection],
    bar_seconds: float,
    seconds: float,
    shape: Shape = _PLAIN_SHAPE,
    language: str | None = None,
) -> Form:
    """Return the form of a song of `seconds`, whose final chord lasts at least 1.6 s or, if less, 40 % of the song.

    language: the lyrics', as a BCP 47 tag; None for English.
    """
    bars = max(1, math.ceil(seconds / bar_seconds - 1e-9))
    final_bar = max(0, int((seconds - min(_FINAL_CHORD_SECONDS, 0.4 * seconds)) / bar_seconds + 1e-9))
    blocks = _blocks(lyrics, shape.order, language)
    line_bars = _line_bars([line for block in blocks for line in block.lines if line], bar_seconds, final_bar)
    capacity = max(1, int(line_bars * bar_seconds * _SYLLABLES_PER_SECOND))  # syllables
    sequence = _best_sequence(blocks, line_bars, capacity, final_bar, wants_bridge=seconds > _BRIDGE_FROM)
    if seconds > _BRIDGE_FROM and not any(block.kind == "bridge" for block in blocks):
        sequence = _with_bridge(sequence, blocks, line_bars, capacity, final_bar)
    return Form(_place(sequence, line_bars, capacity, final_bar, bars, shape), line_bars, final_bar, bars)


def _with_bridge(
    sequence: list[_Block], blocks: Sequence[_Block], line_bars: int, capacity: int, final_bar: int
) -> list[_Block]:
    """Return the best sequence with a played bridge before the last chorus, if it sings all that `sequence` sings."""
    at = len(blocks) - (blocks[-1].kind == "chorus")
    for lines in (4, 2) if at > 1 else ():
        longer = [*blocks[:at], _Block("bridge", None, _INSTRUMENTAL[:lines]), *blocks[at:]]
        found = _best_sequence(longer, line_bars, capacity, final_bar, wants_bridge=True)
        bridged = any(block.kind == "bridge" for block in found)
        if bridged and _sung_lines(found) >= _sung_lines(sequence):
            return found
    return sequence


def _sung_lines(sequence: Sequence[_Block]) -> set[tuple[int | None, int]]:
    return {(block.lyric_section, i) for block in sequence for i, line in enumerate(block.lines) if line}


def _line_bars(lines: Sequence[LyricLine], bar_seconds: float, final_bar: int) -> int:
    """Return 1, 2 or 4: the nearest to 0.36 s a syllable and a breath of 1.1 s, for a line of median length."""
    syllables = median(len(line.syllables) for line in lines) if lines else 8
    target = 1.1 + 0.36 * syllables
    fitting = [bars for bars in (1, 2, 4) if bars <= max(1, final_bar)]
    return min(fitting, key=lambda bars: abs(math.log(bars * bar_seconds / target)))


def _kind_of(section: LyricSection, lyrics: Sequence[LyricSection]) -> str:
    """Return the section's kind by its name; of an unknown name, chorus if its lines come twice, else verse."""
    comes_back = sum(each.lines == section.lines for each in lyrics) > 1
    return section_kind(section.name) or ("chorus" if comes_back else "verse")


def _blocks(lyrics: Sequence[LyricSection], order: Sequence[str], language: str | None) -> list[_Block]:
    """Return the lyrics' sections, with instrumental choruses if they have none; without lyrics, all instrumental."""
    blocks = []
    for index, section in enumerate(lyrics):
        lines = tuple(line for line in (syllabify(text, language) for text in section.lines) if line.syllables)
        if lines:
            blocks.append(_Block(_kind_of(section, lyrics), index, lines))
    if not blocks:
        return [_Block(kind, None, _INSTRUMENTAL) for kind in order]
    if not any(block.kind == "chorus" for block in blocks):
        for position in range(len(blocks) // 2 * 2, 0, -2):  # after every second block, from the last
            blocks.insert(position, _Block("chorus", None, _INSTRUMENTAL))
    return blocks


def _longest_sequence(blocks: Sequence[_Block], lines: int) -> list[_Block]:
    """Return the blocks, then solo, last chorus and the blocks again, until there is one for each line of the song."""
    chorus = next((block for block in reversed(blocks) if block.kind == "chorus"), None)
    again = [_Block("solo", None, _INSTRUMENTAL), *([chorus] if chorus else []), *blocks]
    return [*blocks, *islice(cycle(again), max(0, lines + 1 - len(blocks)))]


def _best_sequence(
    blocks: Sequence[_Block], line_bars: int, capacity: int, final_bar: int, *, wants_bridge: bool
) -> list[_Block]:
    """Return the best of all beginnings of the longest sequence, with verses and choruses of all lengths.

    wants_bridge: a bridge that is played rather than sung is worth more than lines that are played, too.
    """
    sequence = _longest_sequence(blocks, final_bar // line_bars)
    ideal = min(4, round(final_bar / 8)) + min(4, round(final_bar / 12))  # bars of intro and outro
    best: tuple[float, list[_Block]] = (-math.inf, [])
    for verse_lines, chorus_lines in product((1, 2, 3, 4, 6, 8, 99), repeat=2):
        most = {"chorus": chorus_lines}
        cut = [block._replace(lines=block.lines[: most.get(block.kind, verse_lines)]) for block in sequence]
        dropped = list(accumulate(len(full.lines) - len(b.lines) for full, b in zip(sequence, cut, strict=True)))
        odd = sum(len(b.lines) % 2 and len(full.lines) > len(b.lines) for full, b in zip(sequence, cut, strict=True))
        lengths = [sum(_bars_of(line, line_bars, capacity) for line in block.lines) for block in cut]
        choruses = [i for i, block in enumerate(cut) if block.kind == "chorus"]
        bridge = next((i for i, b in enumerate(cut) if b.kind == "bridge" and b.lyric_section is None), len(cut))
        before = 0
        for last, length in enumerate(lengths):
            if before > final_bar:
                break
            # A long song may close with its chorus twice.
            for final in (last, choruses[-1]) if choruses and last >= len(blocks) else (last,):
                spare = final_bar - before - lengths[final]
                score = min(last + 1, len(blocks)) - 0.5 * dropped[last] - min(odd, 2)
                score -= 0.4 * abs(spare - ideal) + 0.4 * max(0, spare - ideal)
                score -= 4.0 * max(0, spare - ideal - line_bars) / line_bars
                if choruses:
                    score += 8.0 * (choruses[0] <= last) + 3.0 * (cut[final].kind == "chorus")
                score += _BRIDGE_WORTH * (wants_bridge and bridge < last)
                if spare >= 0 and score > best[0]:
                    best = (score, [*cut[:last], cut[final]])
            before += length
    return best[1]


def _bars_of(line: LyricLine | None, line_bars: int, capacity: int) -> int:
    return line_bars * (math.ceil(len(line.syllables) / capacity) if line else 1)


def _place(
    blocks: Sequence[_Block], line_bars: int, capacity: int, final_bar: int, bars: int, shape: Shape
) -> tuple[Section, ...]:
    """Return the blocks as sections, between an intro and an outro that share the spare bars."""
    spare = final_bar - sum(_bars_of(line, line_bars, capacity) for block in blocks for line in block.lines)
    outro = spare - round(shape.intro_share * spare) if blocks else 0
    sections: list[Section] = []
    seen = Counter[str]()

    def add(kind: str, bar: int, length: int, phrases: Sequence[Phrase], lyric_section: int | None = None) -> None:
        intensity = min(1.0, _INTENSITY[kind] + 0.05 * min(seen[kind], 3))
        sections.append(Section(kind, bar, length, intensity, seen[kind], lyric_section, tuple(phrases)))
        seen[kind] += 1

    bar = spare - outro
    if bar:
        add("intro", 0, bar, _wordless(0, bar, line_bars))
    for block in blocks:
        phrases = []
        start = bar
        for line in block.lines:
            length = _bars_of(line, line_bars, capacity)
            phrases.append(Phrase(bar, length, line))
            bar += length
        add(block.kind, start, bar - start, phrases, block.lyric_section)
    add("outro", bar, bars - bar, _wordless(bar, final_bar - bar, line_bars))
    return tuple(sections)


def _wordless(bar: int, bars: int, line_bars: int) -> list[Phrase]:
    return [Phrase(bar + at, min(line_bars, bars - at), None) for at in range(0, bars, line_bars)]
