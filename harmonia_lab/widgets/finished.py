"""A finished song as a notebook embeds it: pictures, and a copy of the sound that is small enough.

Owns the formats that are embedded. The song itself stays on disk, or on its server.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field

import soundfile
from PIL import Image

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.widgets.event_sources import Files

__all__ = ["AUDIO_TYPE", "FinishedSong", "listening_copy", "load", "output_copy"]

AUDIO_TYPE = "audio/mpeg"

COMPRESSION = 0.8
"""On libsndfile's scale, 0…1: about 80 kbit/s in stereo, 10 kB a second; a FLAC takes fifteen times as much."""

OUTPUT_WIDTH, OUTPUT_COLOURS = 1000, 32
"""Pixels and colours of the picture in a notebook's file: a third of the bytes, and its words stay readable."""

BLOCK = 1 << 16
"""Frames encoded at a time, so that 600 s of decoded stereo are never in memory at once."""


@dataclass(frozen=True)
class FinishedSong:
    """files: those that can be downloaded. picture: PNG. small_picture: the same, smaller, for a notebook's file.
    audio: MP3. Each is empty where it isn't available."""

    files: Files = field(default_factory=dict)
    picture: bytes = b""
    small_picture: bytes = b""
    audio: bytes = b""


def load(files: Files) -> FinishedSong:
    """Read picture and sound. A picture that can't be read is left out.

    Raises HarmoniaError, OSError or soundfile.LibsndfileError if the sound can't be read.
    """
    picture = small_picture = b""
    if "overview.png" in files:
        with contextlib.suppress(HarmoniaError, OSError):
            picture = files["overview.png"]()
            small_picture = output_copy(picture)
    audio = listening_copy(files["song.flac"]()) if "song.flac" in files else b""
    return FinishedSong(files, picture, small_picture, audio)


def output_copy(png: bytes) -> bytes:
    """Return the picture with fewer pixels and colours. Raises OSError if `png` is no picture."""
    with Image.open(io.BytesIO(png)) as picture:
        width = min(OUTPUT_WIDTH, picture.width)
        size = (width, round(picture.height * width / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(OUTPUT_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


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
