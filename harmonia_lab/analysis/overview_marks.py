"""The words, notes and lines of a song's picture, and where its panels lie.

Owns the picture's layout: how high the rows of chords and of lyrics are decides where the panels begin (what is painted
in the panels from the audio is in `plots.py`, fonts are in `glyphs.py`, line breaks in `text_layout.py`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from PIL import Image, ImageDraw

from harmonia_lab.analysis.glyphs import Colour, Glyphs
from harmonia_lab.analysis.text_layout import lanes, wrapped
from harmonia_lab.music.plan import SungLine

__all__ = ["HIGHEST_HZ", "LOWEST_HZ", "PAPER", "WIDTH", "Box", "Marks", "Spans", "section_colour"]

Spans = Sequence[tuple[str, float, float]]
"""Sections of the song: name, start and end in seconds."""


class Box(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


WIDTH = 1600  # pixels
LOWEST_HZ, HIGHEST_HZ = 40.0, 16_000.0
"""Of the spectrogram."""

_LEFT, _RIGHT = 96, 1568
_WAVE_HEIGHT, _MELODY_HEIGHT, _SPECTRUM_HEIGHT = 190, 112, 264
_GAP = 12  # between panels

PAPER: Colour = (255, 255, 255)
_INK, _GREY, _FAINT = (28, 32, 38), (96, 104, 114), (222, 226, 231)
_SECTION_COLOURS: dict[str, Colour] = {
    "intro": (120, 139, 158), "verse": (47, 118, 181), "chorus": (217, 83, 46), "bridge": (132, 90, 163),
    "solo": (34, 143, 112), "outro": (120, 139, 158),
}  # fmt: skip
_OTHER_SECTION: Colour = (176, 132, 38)

_TITLE_SIZES, _SUBTITLE_SIZE, _SECTION_SIZES, _LYRICS_SIZE, _NOTE_SIZE = (
    range(50, 31, -2),
    25,
    range(22, 11, -1),
    18,
    17,
)
_TITLE_ROW, _SUBTITLE_ROW, _LYRICS_ROW, _NOTE_ROW = 44, 32, 22, 22  # heights of a row
_CHORD_SETTINGS = ((18, 1), (16, 1), (16, 2), (14, 2), (14, 3), (12, 3))
"""Sizes of the letters and numbers of rows for chords, in the order of preference."""

_BLOCK_WIDTHS = (_RIGHT - _LEFT, 480, 360, 280, 220, 170, 130)
"""How wide a line of lyrics may be before it goes on in another row."""

_LONGEST_TEXT = 4000  # characters; a text beyond that isn't a title or a line of lyrics
_TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)


class Marks:
    """What is written and drawn over a song's picture; made before its panels are painted, because it places them.

    For the arguments see `plots.overview`. height: of the picture, pixels. note: what can't be shown, a sentence or "".
    """

    def __init__(
        self,
        seconds: float,
        title: str,
        subtitle: str,
        sections: Spans,
        sung: Sequence[SungLine],
        chords: Sequence[tuple[float, str]],
        melody: Sequence[tuple[float, float, int]],
    ) -> None:
        texts = [title, subtitle, *(name for name, *_ in sections), *(line.text for line in sung)]
        self._glyphs = glyphs = Glyphs(text[:_LONGEST_TEXT] for text in texts)
        self._seconds, self._sections, self._melody = seconds, sections, melody
        self.note = glyphs.note
        self._title, self._title_size = self._heading(self._text(title) or "Untitled")
        self._subtitle = self._wrapped(self._text(subtitle), _SUBTITLE_SIZE)
        self._chords, chord_size, chord_rows = self._placed_chords(chords)
        self._chord_size, self._chord_row = chord_size, chord_size + 4
        self._lines = [(line, text) for line in sung if (text := self._text(line.text))]
        self._note = self._wrapped(self.note, _NOTE_SIZE)

        self._bar = 38 + _TITLE_ROW * len(self._title) + _SUBTITLE_ROW * len(self._subtitle) + 44
        top = self._bar + 12 + chord_rows * self._chord_row
        self.wave = Box(_LEFT, top, _RIGHT, top + _WAVE_HEIGHT)
        top = self.wave.bottom + _GAP
        self._notes = Box(_LEFT, top, _RIGHT, top + (_MELODY_HEIGHT if melody else 0))
        self._lyrics = self._notes.bottom + (_GAP if melody else 0)
        measure = functools.cache(lambda text: glyphs.width(text, _LYRICS_SIZE))
        places = [(float(self._column(line.start) - _LEFT), text) for line, text in self._lines]
        self._lanes = lanes(places, _RIGHT - _LEFT - 8, 16, measure, _BLOCK_WIDTHS)
        rows = sum(max(len(block.rows) for block in lane) for lane in self._lanes)
        top = self._lyrics + rows * _LYRICS_ROW + 6 * len(self._lanes) + (_GAP if rows else 0)
        self.spectrum = Box(_LEFT, top, _RIGHT, top + _SPECTRUM_HEIGHT)
        self.height = self.spectrum.bottom + 56 + _NOTE_ROW * len(self._note)

    def draw(self, image: Image.Image) -> None:
        """Draw everything on the picture, over the painted panels."""
        draw = ImageDraw.Draw(image)
        self._write_heading(draw)
        self._write_sections(draw)
        self._write_chords(draw)
        self._draw_melody(draw)
        self._write_lyrics(draw)
        self._write_axes(draw)

    def _text(self, text: str) -> str:
        return self._glyphs.drawable(text[:_LONGEST_TEXT])

    def _wrapped(self, text: str, size: int, *, bold: bool = False) -> list[str]:
        measure = functools.cache(lambda piece: self._glyphs.width(piece, size, bold=bold))
        return [row for row, _ in wrapped(text, _RIGHT - _LEFT, measure, _RIGHT - _LEFT)]

    def _heading(self, title: str) -> tuple[list[str], int]:
        """Return the title's rows and their size: one row, if a size is small enough for that."""
        fitting = (size for size in _TITLE_SIZES if self._glyphs.width(title, size, bold=True) <= _RIGHT - _LEFT)
        size = next(fitting, _TITLE_SIZES[-1])
        return self._wrapped(title, size, bold=True), size

    def _placed_chords(self, chords: Sequence[tuple[float, str]]) -> tuple[list[tuple[int, int, str]], int, int]:
        """Return (x, row, symbol) of each chord that fits, row −1 for others; the size of the letters; the rows."""
        changes = [next(group) for _, group in groupby(chords, lambda chord: chord[1])]
        for size, rows in _CHORD_SETTINGS:
            placed: list[tuple[int, int, str]] = []
            ends = [0.0] * rows
            for start, symbol in changes:
                x = self._column(start)
                right = x + 4 + self._glyphs.width(symbol, size)
                row = next((row for row in range(rows) if ends[row] + 6 <= x and right <= WIDTH), -1)
                if row >= 0:
                    ends[row] = right
                placed.append((x, row, symbol))
            if all(row >= 0 for _, row, _ in placed):
                break
        return placed, size, (1 + max(row for _, row, _ in placed) if placed else 0)

    def _write_heading(self, draw: ImageDraw.ImageDraw) -> None:
        y = 26
        for row in self._title:
            y += _TITLE_ROW
            self._glyphs.write(draw, (_LEFT - 2, y), row, self._title_size, _INK, bold=True)
        y += 10
        for row in self._subtitle:
            y += _SUBTITLE_ROW
            self._glyphs.write(draw, (_LEFT, y), row, _SUBTITLE_SIZE, _GREY)

    def _write_sections(self, draw: ImageDraw.ImageDraw) -> None:
        """Draw for each section a coloured bar with its name above, and a thin line through the panels at its start."""
        glyphs = self._glyphs
        for name, start, end in self._sections:
            left, right = self._column(start), self._column(end)
            colour = section_colour(name)
            draw.rectangle((left + (start > 0), self._bar, max(left + 1, right - 2), self._bar + 5), colour)
            label = self._text(name).capitalize()
            size = next((size for size in _SECTION_SIZES if glyphs.width(label, size) <= right - left - 8), None)
            if size is not None:
                glyphs.write(draw, (left + 2, self._bar - 8), label, size, _darker(colour))
            if start > 0:
                for panel in (self.wave, self._notes):
                    draw.line((left, panel.top, left, panel.bottom), _FAINT)
                for y in range(self.spectrum.top, self.spectrum.bottom, 8):
                    draw.line((left, y, left, y + 3), (190, 190, 200))

    def _write_chords(self, draw: ImageDraw.ImageDraw) -> None:
        """Write the symbols over the waveform where the chords begin; where there is no room for one, draw a tick."""
        first = self._bar + 10
        for x, row, symbol in self._chords:
            top = first + max(row, 0) * self._chord_row
            if row < 0:
                draw.line((x, self.wave.top - 5, x, self.wave.top), _GREY)
            else:
                draw.line((x, top + 3, x, top + self._chord_size + 1), _GREY)
                self._glyphs.write(draw, (x + 4, top + self._chord_size), symbol, self._chord_size, _INK)

    def _draw_melody(self, draw: ImageDraw.ImageDraw) -> None:
        """Draw the lead's notes as a piano roll, with a line at each C."""
        if not self._melody:
            return
        box, pitches = self._notes, [pitch for _, _, pitch in self._melody]
        spare = max(0, 13 - (max(pitches) - min(pitches)))
        lowest, highest = min(pitches) - 1 - spare // 2, max(pitches) + 1 + (spare + 1) // 2
        step = box.height / (highest - lowest + 1)
        thick = min(max(round(step) - 1, 3), 9)
        for octave_c in range(math.ceil(lowest / 12) * 12, highest + 1, 12):
            y = round(box.bottom - (octave_c - lowest + 0.5) * step)
            draw.line((box.left, y, box.right, y), _FAINT)
            self._glyphs.write(draw, (box.left - 12, y), f"C{octave_c // 12 - 1}", 18, _GREY, "rm")
        for start, end, pitch in self._melody:
            left, right = self._column(start), self._column(end)
            y = round(box.bottom - (pitch - lowest + 0.5) * step - thick / 2)
            colour = next(
                (section_colour(name) for name, begin, stop in self._sections if begin <= start < stop), _GREY
            )
            draw.rectangle((left, y, max(left + 1, right - 2), y + thick - 1), _darker(colour))

    def _write_lyrics(self, draw: ImageDraw.ImageDraw) -> None:
        """Write the sung lines at their times, in as many lanes and rows as they need, with their section's colour."""
        top = self._lyrics
        for lane in self._lanes:
            for block in lane:
                left = round(_LEFT + block.left)
                colour = _darker(self._colour_at(self._lines[block.number][0].start))
                draw.line((left, top + 3, left, top + len(block.rows) * _LYRICS_ROW - 1), colour, 2)
                for number, row in enumerate(block.rows):
                    y = top + number * _LYRICS_ROW + 17
                    self._glyphs.write(draw, (left + 7, y), row, _LYRICS_SIZE, _GREY)
            top += max(len(block.rows) for block in lane) * _LYRICS_ROW + 6

    def _write_axes(self, draw: ImageDraw.ImageDraw) -> None:
        box, seconds, write = self.spectrum, self._seconds, self._glyphs.write
        step = next((step for step in _TICK_STEPS_S if seconds / step <= 12), _TICK_STEPS_S[-1])
        count = int(seconds / step + 1e-6)
        for number in range(count + 1):
            x = min(self._column(number * step), box.right - 1)
            draw.line((x, box.bottom, x, box.bottom + 6), _GREY)
            second = number * step
            clock = f"{second // 60:.0f}:{second % 60:02.0f}" if seconds > 120 else f"{second:g}"
            clock += " s" * (seconds <= 120 and number == count)
            write(draw, (x, box.bottom + 30), clock, 20, _GREY, "rs" if x > box.right - 30 else "ms")
        for hertz, label in ((100, "100 Hz"), (1000, "1 kHz"), (10_000, "10 kHz")):
            share = math.log(hertz / LOWEST_HZ) / math.log(HIGHEST_HZ / LOWEST_HZ)
            y = round(box.bottom - share * box.height)
            draw.line((box.left - 6, y, box.left, y), _GREY)
            write(draw, (box.left - 12, y), label, 20, _GREY, "rm")
        for number, row in enumerate(self._note):
            write(draw, (box.left, box.bottom + 60 + number * _NOTE_ROW), row, _NOTE_SIZE, _GREY)

    def _colour_at(self, second: float) -> Colour:
        return next((section_colour(name) for name, start, end in self._sections if start <= second < end), _GREY)

    def _column(self, second: float) -> int:
        return round(_LEFT + min(max(second / self._seconds, 0.0), 1.0) * (_RIGHT - _LEFT))


def section_colour(section: str) -> Colour:
    """Return the colour of the kind of section that the name contains ("Verse 2", "Pre-chorus")."""
    name = section.lower()
    return next((colour for kind, colour in _SECTION_COLOURS.items() if kind in name), _OTHER_SECTION)


def _darker(colour: Colour) -> Colour:
    red, green, blue = (round(0.8 * value) for value in colour)
    return red, green, blue
