"""The overview plot of a song: chords, waveform by section, melody, sung lines and spectrogram on one time axis.

Owns `overview.png`: its panels and what is painted in them (not its words, notes and lines, which are in
`overview_marks.py`). It is drawn with numpy and Pillow, because importing matplotlib takes more CPU than mixing a song,
and because matplotlib parses `$` in a title as mathematics. Equal songs give equal bytes on a machine with the same
fonts: the file has no date.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonia_lab.analysis.overview_marks import HIGHEST_HZ, LOWEST_HZ, PAPER, WIDTH, Box, Marks, Spans, section_colour
from harmonia_lab.music.plan import SungLine
from harmonia_lab.storage import write_bytes

__all__ = ["overview"]

_HEAT = np.array(
    [(0, 0, 4), (20, 14, 54), (59, 15, 112), (100, 26, 128), (140, 41, 129), (183, 55, 121), (222, 73, 104),
     (247, 112, 92), (254, 159, 109), (254, 207, 146), (252, 253, 191)], np.float32,
)  # fmt: skip
"""Eleven points of the perceptually uniform colour map magma (N. Smith and S. van der Walt, CC0)."""

_WINDOW = 4096
_RANGE_DB = 72.0


def overview(
    path: Path,
    *,
    audio: NDArray[np.float32],
    sample_rate: int,
    title: str,
    subtitle: str,
    sections: Spans,
    sung: Sequence[SungLine] = (),
    chords: Sequence[tuple[float, str]] = (),
    melody: Sequence[tuple[float, float, int]] = (),
) -> str:
    """Write a PNG, 1600 pixels wide, and as high as its text needs. Return what can't be shown, as a sentence, or "".

    audio: [channels, samples], full scale ±1. chords: starts in seconds, and symbols. melody: start and end of each
    note in seconds, and its MIDI pitch. Text that doesn't fit goes on in another row. Pictograms that no font has are
    left out; letters that none has are left out too, and the picture and the returned sentence say so. Raises
    StorageError.
    """
    seconds = audio.shape[1] / sample_rate
    marks = Marks(seconds, title, subtitle, sections, sung, chords, melody)
    pixels = np.full((marks.height, WIDTH, 3), PAPER, np.uint8)
    _paint_waveform(pixels, marks.wave, audio, sections, seconds)
    _paint_spectrogram(pixels, marks.spectrum, audio, sample_rate)
    image = Image.fromarray(pixels)
    marks.draw(image)
    buffer = io.BytesIO()
    # 256 colours take a quarter of the bytes and half the time, without a visible difference.
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG", compress_level=4)
    write_bytes(path, buffer.getbuffer())
    return marks.note


def _paint_waveform(
    pixels: NDArray[np.uint8], box: Box, audio: NDArray[np.float32], sections: Spans, seconds: float
) -> None:
    """Paint the extremes of each pixel column in a light, and its RMS in the full colour of its section."""
    area = pixels[box.top : box.bottom, box.left : box.right]
    edges = np.linspace(0, audio.shape[1], box.width, endpoint=False).astype(np.int64)
    highest = np.maximum.reduceat(audio, edges, axis=1).max(axis=0)
    lowest = np.minimum.reduceat(audio, edges, axis=1).min(axis=0)
    power = np.add.reduceat(np.square(audio).mean(axis=0), edges) / np.diff(edges, append=audio.shape[1]).clip(1)
    rms = np.sqrt(power)
    colours = np.full((box.width, 3), section_colour(""), np.float32)
    middles = (np.arange(box.width) + 0.5) / box.width * seconds
    for name, start, end in sections:
        colours[(middles >= start) & (middles < end)] = section_colour(name)
    blended = area.astype(np.float32)
    for top, bottom, strength in ((highest, lowest, 0.42), (np.minimum(rms, highest), np.maximum(-rms, lowest), 1.0)):
        cover = strength * _coverage(top, bottom, box.height)[..., None]
        blended += cover * (colours - blended)
    area[:] = np.rint(blended)


def _coverage(top: NDArray[np.float32], bottom: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    """Return [height, columns]: how much of each pixel lies between two curves of −1…1, at least one pixel in sum."""
    upper = (1 - top.clip(-1, 1)) / 2 * height
    lower = np.maximum((1 - bottom.clip(-1, 1)) / 2 * height, upper + 1)
    rows = np.arange(height, dtype=np.float32)[:, None]
    return (np.minimum(lower, rows + 1) - np.maximum(upper, rows)).clip(0, 1)


def _paint_spectrogram(pixels: NDArray[np.uint8], box: Box, audio: NDArray[np.float32], sample_rate: int) -> None:
    """Paint power by time and log frequency in dB below its maximum; a pixel is the mean of the bins that it spans."""
    area = pixels[box.top : box.bottom, box.left : box.right]
    columns = box.width
    per_column = min(4, -(-audio.shape[1] // (columns * _WINDOW)))
    window = np.hanning(_WINDOW).astype(np.float32)
    centres = ((np.arange(columns * per_column) + 0.5) * audio.shape[1] / (columns * per_column)).astype(np.int64)
    # The borders of the rows in bins. Part of a bin has the same part of its power.
    hertz = np.geomspace(HIGHEST_HZ, LOWEST_HZ, box.height + 1)
    borders = (hertz * _WINDOW / sample_rate + 0.5).clip(0, _WINDOW // 2 + 1 - 1e-6)
    whole = borders.astype(np.int64)
    part = (borders - whole).astype(np.float32)
    widths = np.maximum(borders[:-1] - borders[1:], 1e-3).astype(np.float32)
    power = np.empty((columns, box.height), np.float32)
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
