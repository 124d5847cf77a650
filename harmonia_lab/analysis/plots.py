"""The overview plot of a song: waveform by section, sung lines and spectrogram on one time axis.

Owns `overview.png`. It is drawn with numpy and Pillow, because importing matplotlib takes more CPU than mixing a song,
and because matplotlib parses `$` in a title as mathematics. Only matplotlib's fonts are used (DejaVu, under a free
licence). Equal songs give equal bytes: the file has no date.
"""

from __future__ import annotations

import importlib.util
import io
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from harmonia_lab.music.plan import SungLine
from harmonia_lab.storage import write_bytes

__all__ = ["overview"]

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont
Spans = Sequence[tuple[str, float, float]]
"""Sections of the song: name, start and end in seconds."""


class _Box(NamedTuple):
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


_SIZE = (1600, 820)
_WAVE = _Box(96, 178, 1568, 394)
_SPECTRUM = _Box(96, 500, 1568, 764)
_SUNG_ROWS = (406, 434, 462)  # tops of three rows of text between waveform and spectrogram

_PAPER, _INK, _GREY, _FAINT = (255, 255, 255), (28, 32, 38), (96, 104, 114), (222, 226, 231)
_SECTION_COLOURS: dict[str, Colour] = {
    "intro": (120, 139, 158), "verse": (47, 118, 181), "chorus": (217, 83, 46), "bridge": (132, 90, 163),
    "solo": (34, 143, 112), "outro": (120, 139, 158),
}  # fmt: skip
_OTHER_SECTION: Colour = (176, 132, 38)

_HEAT = np.array(
    [(0, 0, 4), (20, 14, 54), (59, 15, 112), (100, 26, 128), (140, 41, 129), (183, 55, 121), (222, 73, 104),
     (247, 112, 92), (254, 159, 109), (254, 207, 146), (252, 253, 191)], np.float32,
)  # fmt: skip
"""Eleven points of the perceptually uniform colour map magma (N. Smith and S. van der Walt, CC0)."""

_LOWEST_HZ, _HIGHEST_HZ = 40.0, 16_000.0
_WINDOW = 4096
_RANGE_DB = 72.0
_TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)


def overview(
    path: Path,
    *,
    audio: NDArray[np.float32],
    sample_rate: int,
    title: str,
    subtitle: str,
    sections: Spans,
    sung: Sequence[SungLine] = (),
) -> None:
    """Write a PNG of 1600 × 820 pixels.

    audio: [channels, samples], full scale ±1. Text that doesn't fit is
    shortened, and symbols that the font lacks are left out. Raises StorageError.
    """
    seconds = audio.shape[1] / sample_rate
    pixels = np.full((_SIZE[1], _SIZE[0], 3), _PAPER, np.uint8)
    _paint_waveform(pixels, audio, sections, seconds)
    _paint_spectrogram(pixels, audio, sample_rate)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    _write_heading(draw, title, subtitle)
    _write_sections(draw, sections, seconds)
    _write_sung(draw, sung, seconds)
    _write_axes(draw, seconds)
    buffer = io.BytesIO()
    # 256 colours take a quarter of the bytes and half the time, without a visible difference.
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG", compress_level=4)
    write_bytes(path, buffer.getbuffer())


def _paint_waveform(pixels: NDArray[np.uint8], audio: NDArray[np.float32], sections: Spans, seconds: float) -> None:
    """Paint the extremes of each pixel column in a light, and its RMS in the full colour of its section."""
    area = pixels[_WAVE.top : _WAVE.bottom, _WAVE.left : _WAVE.right]
    edges = np.linspace(0, audio.shape[1], _WAVE.width, endpoint=False).astype(np.int64)
    highest = np.maximum.reduceat(audio, edges, axis=1).max(axis=0)
    lowest = np.minimum.reduceat(audio, edges, axis=1).min(axis=0)
    power = np.add.reduceat(np.square(audio).mean(axis=0), edges) / np.diff(edges, append=audio.shape[1]).clip(1)
    rms = np.sqrt(power)
    colours = np.full((_WAVE.width, 3), _OTHER_SECTION, np.float32)
    middles = (np.arange(_WAVE.width) + 0.5) / _WAVE.width * seconds
    for name, start, end in sections:
        colours[(middles >= start) & (middles < end)] = _colour(name)
    blended = area.astype(np.float32)
    for top, bottom, strength in ((highest, lowest, 0.42), (np.minimum(rms, highest), np.maximum(-rms, lowest), 1.0)):
        cover = strength * _coverage(top, bottom, _WAVE.height)[..., None]
        blended += cover * (colours - blended)
    area[:] = np.rint(blended)


def _coverage(top: NDArray[np.float32], bottom: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    """Return [height, columns]: how much of each pixel lies between two curves of −1…1, at least one pixel in sum."""
    upper = (1 - top.clip(-1, 1)) / 2 * height
    lower = np.maximum((1 - bottom.clip(-1, 1)) / 2 * height, upper + 1)
    rows = np.arange(height, dtype=np.float32)[:, None]
    return (np.minimum(lower, rows + 1) - np.maximum(upper, rows)).clip(0, 1)


def _paint_spectrogram(pixels: NDArray[np.uint8], audio: NDArray[np.float32], sample_rate: int) -> None:
    """Paint power by time and log frequency in dB below its maximum; a pixel is the mean of the bins that it spans."""
    area = pixels[_SPECTRUM.top : _SPECTRUM.bottom, _SPECTRUM.left : _SPECTRUM.right]
    columns = _SPECTRUM.width
    per_column = min(4, -(-audio.shape[1] // (columns * _WINDOW)))
    window = np.hanning(_WINDOW).astype(np.float32)
    centres = ((np.arange(columns * per_column) + 0.5) * audio.shape[1] / (columns * per_column)).astype(np.int64)
    # The borders of the rows in bins. Part of a bin has the same part of its power.
    hertz = np.geomspace(_HIGHEST_HZ, _LOWEST_HZ, _SPECTRUM.height + 1)
    borders = (hertz * _WINDOW / sample_rate + 0.5).clip(0, _WINDOW // 2 + 1 - 1e-6)
    whole = borders.astype(np.int64)
    part = (borders - whole).astype(np.float32)
    widths = np.maximum(borders[:-1] - borders[1:], 1e-3).astype(np.float32)
    power = np.empty((columns, _SPECTRUM.height), np.float32)
    step = 64
    for first in range(0, columns, step):
        chosen = centres[first * per_column : (first + step) * per_column]
        start, stop = int(chosen[0]) - _WINDOW // 2, int(chosen[-1]) + _WINDOW // 2
        inside = audio[:, max(0, start) : stop].mean(axis=0)
        mono = np.pad(inside, (max(0, -start), max(0, stop - max(0, start) - len(inside))))
        frames = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[chosen - chosen[0]]
        spectra = np.fft.rfft(frames * window)
        bins = spectra.real**2 + spectra.imag**2
        bins = bins.reshape(-1, per_column, bins.shape[1]).mean(axis=1)
        sums = np.concatenate([np.zeros((len(bins), 1), np.float32), np.cumsum(bins, axis=1, dtype=np.float64)], axis=1)
        reached = sums[:, whole] + part * bins[:, whole]
        power[first : first + step] = (reached[:, :-1] - reached[:, 1:]) / widths
    # A slope of 4.5 dB an octave, as in analysers: music falls about as much, and its overtones should be visible.
    tilt = ((hertz[:-1] + hertz[1:]) / 2000) ** 1.5
    decibels = 10 * np.log10(power.T * tilt[:, None] + 1e-12)
    level = (1 + (decibels - max(float(decibels.max()), -40.0)) / _RANGE_DB).clip(0, 1)
    points = np.linspace(0, 255, len(_HEAT))
    table = np.stack([np.interp(np.arange(256), points, channel) for channel in _HEAT.T], axis=1)
    area[:] = table.round().astype(np.uint8)[(level * 255).astype(np.uint8)]


def _write_heading(draw: ImageDraw.ImageDraw, title: str, subtitle: str) -> None:
    fonts = [_font(size, bold=True) for size in range(50, 31, -2)]
    text = _drawable(title, fonts[0]) or "Untitled"
    font = next((font for font in fonts if font.getlength(text) <= _WAVE.width), fonts[-1])
    draw.text((_WAVE.left - 2, 70), _shortened(text, font, _WAVE.width), _INK, font, "ls")
    font = _font(25)
    draw.text((_WAVE.left, 112), _shortened(_drawable(subtitle, font), font, _WAVE.width), _GREY, font, "ls")


def _write_sections(draw: ImageDraw.ImageDraw, sections: Spans, seconds: float) -> None:
    """Draw for each section a coloured bar with its name above, and a thin line through both panels at its start."""
    font = _font(22)
    for name, start, end in sections:
        left, right = _column(start, seconds), _column(end, seconds)
        draw.rectangle((left + (start > 0), 160, max(left + 1, right - 2), 165), _colour(name))
        label = _shortened(_drawable(name, font).capitalize(), font, right - left - 8, min_characters=5)
        draw.text((left + 2, 152), label, _darker(_colour(name)), font, "ls")
        if start > 0:
            draw.line((left, _WAVE.top, left, _WAVE.bottom), _FAINT)
            for y in range(_SPECTRUM.top, _SPECTRUM.bottom, 8):
                draw.line((left, y, left, y + 3), (190, 190, 200))


def _write_sung(draw: ImageDraw.ImageDraw, sung: Sequence[SungLine], seconds: float) -> None:
    """Write the sung lines at their times, cycling through three rows; each is cut where the next of its row begins."""
    font = _font(19)
    for number, line in enumerate(sung):
        left = _column(line.start, seconds)
        after = sung[number + len(_SUNG_ROWS)].start if number + len(_SUNG_ROWS) < len(sung) else seconds
        width = min(_column(after, seconds), _WAVE.right) - left - 16
        text = _shortened(_drawable(line.text, font), font, width, min_characters=8)
        top = _SUNG_ROWS[number % len(_SUNG_ROWS)]
        draw.line((left, top + 2, left, top + 22), _darker(_colour(line.section)), 2)
        draw.text((left + 7, top + 19), text, _GREY, font, "ls")


def _write_axes(draw: ImageDraw.ImageDraw, seconds: float) -> None:
    font = _font(20)
    step = next((step for step in _TICK_STEPS_S if seconds / step <= 12), _TICK_STEPS_S[-1])
    count = int(seconds / step + 1e-6)
    for number in range(count + 1):
        x = min(_column(number * step, seconds), _SPECTRUM.right - 1)
        draw.line((x, _SPECTRUM.bottom, x, _SPECTRUM.bottom + 6), _GREY)
        second = number * step
        clock = f"{second // 60:.0f}:{second % 60:02.0f}" if seconds > 120 else f"{second:g}" + " s" * (number == count)
        draw.text((x, _SPECTRUM.bottom + 30), clock, _GREY, font, "rs" if x > _SPECTRUM.right - 30 else "ms")
    for hertz, label in ((100, "100 Hz"), (1000, "1 kHz"), (10_000, "10 kHz")):
        share = np.log(hertz / _LOWEST_HZ) / np.log(_HIGHEST_HZ / _LOWEST_HZ)
        y = round(_SPECTRUM.bottom - share * _SPECTRUM.height)
        draw.line((_SPECTRUM.left - 6, y, _SPECTRUM.left, y), _GREY)
        draw.text((_SPECTRUM.left - 12, y), label, _GREY, font, "rm")


def _column(second: float, seconds: float) -> int:
    return round(_WAVE.left + min(max(second / seconds, 0.0), 1.0) * _WAVE.width)


def _colour(section: str) -> Colour:
    """Return the colour of the kind of section that the name contains ("Verse 2", "Pre-chorus")."""
    name = section.lower()
    return next((colour for kind, colour in _SECTION_COLOURS.items() if kind in name), _OTHER_SECTION)


def _darker(colour: Colour) -> Colour:
    red, green, blue = (round(0.8 * value) for value in colour)
    return red, green, blue


def _shortened(text: str, font: Font, width: float, min_characters: int = 1) -> str:
    """Return as much of the text as fits, with an ellipsis if it was cut; "" if fewer than `min_characters` fit."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…" if len(text) >= min_characters else ""


def _drawable(text: str, font: Font) -> str:
    """Return the text on one line without symbols that the font lacks; letters that it lacks are drawn as boxes."""
    text = " ".join(text[:300].split())  # longer text never fits
    lacking = bytes(font.getmask("\U0010ffff"))
    return "".join(
        c for c in text
        if c == " " or unicodedata.category(c)[0] in "LN" or (c.isprintable() and bytes(font.getmask(c)) != lacking)
    ).strip()  # fmt: skip


@lru_cache(maxsize=16)
def _font(size: int, *, bold: bool = False) -> Font:
    """Return DejaVu Sans from the files of the installed matplotlib, without importing it."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
