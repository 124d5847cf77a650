"""A finished song as a notebook embeds it: what the player needs, pictures, and a copy of the sound that is small.

Owns what is loaded, and the picture's format; `player/sound.py` owns the sound's. The song itself stays on disk, or on
its server.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field

from PIL import Image

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.song import PlayerSong
from harmonia_lab.player.sound import AUDIO_TYPE, listening_copy
from harmonia_lab.widgets.event_sources import Files

__all__ = ["AUDIO_TYPE", "FinishedSong", "listening_copy", "load", "output_copy"]

OUTPUT_WIDTH, OUTPUT_COLOURS = 1000, 32
"""Pixels and colours of the picture in a notebook's file: a third of the bytes, and its words stay readable."""


@dataclass(frozen=True)
class FinishedSong:
    """files: those that can be downloaded. picture: PNG. small_picture: the same, smaller, for a notebook's file.
    audio: MP3. player: what the player needs to know. Each is empty where it isn't available."""

    files: Files = field(default_factory=dict)
    picture: bytes = b""
    small_picture: bytes = b""
    audio: bytes = b""
    player: PlayerSong = field(default_factory=dict)


def load(files: Files, player: PlayerSong | None = None) -> FinishedSong:
    """Read picture and sound. A picture that can't be read is left out. player: what is known of the song already.

    Raises HarmoniaError, OSError or soundfile.LibsndfileError if the sound can't be read.
    """
    picture = small_picture = b""
    if "overview.png" in files:
        with contextlib.suppress(HarmoniaError, OSError):
            picture = files["overview.png"]()
            small_picture = output_copy(picture)
    audio = listening_copy(files["song.flac"]()) if "song.flac" in files else b""
    return FinishedSong(files, picture, small_picture, audio, player or {})


def output_copy(png: bytes) -> bytes:
    """Return the picture with fewer pixels and colours. Raises OSError if `png` is no picture."""
    with Image.open(io.BytesIO(png)) as picture:
        width = min(OUTPUT_WIDTH, picture.width)
        size = (width, round(picture.height * width / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(OUTPUT_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
