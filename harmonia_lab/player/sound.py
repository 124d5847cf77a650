"""What a page gets of a song's sound: an MP3 copy that is small enough to be embedded, and the peaks of its waveform.

Owns the formats that are embedded. The song itself stays on disk, or on its server.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

__all__ = ["AUDIO_TYPE", "COLUMNS", "Waveform", "listening_copy", "waveform"]

AUDIO_TYPE = "audio/mpeg"

COMPRESSION = 0.8
"""On libsndfile's scale, 0…1: about 80 kbit/s in stereo, 10 kB a second; a FLAC takes fifteen times as much."""

BLOCK = 1 << 16
"""Frames decoded at a time, so that 600 s of decoded stereo are never in memory at once."""

COLUMNS = 800
"""Peaks of a waveform: as many as a panel has pixels, and 1 kB."""

Waveform = tuple[float, str]
"""Seconds of sound, and its peaks as bytes in base64, 255 for the loudest."""


def listening_copy(flac: bytes) -> bytes:
    """Return the sound as MP3. Raises soundfile.LibsndfileError if `flac` is no audio."""
    buffer = io.BytesIO()
    with (
        soundfile.SoundFile(io.BytesIO(flac)) as source,
        soundfile.SoundFile(
            buffer, "w", source.samplerate, source.channels, "MPEG_LAYER_III",
            format="MP3", compression_level=COMPRESSION,
        ) as copy,
    ):  # fmt: skip
        for block in source.blocks(BLOCK, dtype="float32"):
            copy.write(block)
    return buffer.getvalue()


def waveform(flac: Path | BinaryIO, columns: int = COLUMNS) -> Waveform:
    """Return length and peaks of a sound, a peak at most for each frame.

    Raises soundfile.LibsndfileError if it is no audio.
    """
    with soundfile.SoundFile(flac) as source:
        total, rate = source.frames, source.samplerate
        columns = max(1, min(columns, total))
        starts = -(-np.arange(columns) * total // columns)  # each column's first frame
        peaks, done = np.zeros(columns), 0
        for block in source.blocks(BLOCK, dtype="float32", always_2d=True):
            first, last = np.searchsorted(starts, [done + 1, done + len(block)])
            begins = np.maximum(starts[first - 1 : last] - done, 0)
            loudest = np.max([np.maximum.reduceat(np.abs(channel), begins) for channel in block.T], axis=0)
            peaks[first - 1 : last] = np.maximum(peaks[first - 1 : last], loudest)
            done += len(block)
    scaled = peaks / (peaks.max() or 1) * 255
    return total / rate, base64.b64encode(scaled.round().astype(np.uint8).tobytes()).decode()
