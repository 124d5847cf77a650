"""A finished song as a notebook can hold it: a picture, and a copy of the sound that is small enough to embed.

Owns that copy's format. The song itself stays on disk, or with its server.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import soundfile

from harmonia_lab.widgets.rooms import Files

__all__ = ["AUDIO_TYPE", "FinishedSong", "listening_copy", "load"]

AUDIO_TYPE = "audio/mpeg"

COMPRESSION = 0.5
"""Of libsndfile's 0…1: about 120 kbit/s in stereo, 15 kB a second; a FLAC takes ten times as much."""

BLOCK = 1 << 16
"""Frames encoded at a time: 600 s of stereo never lie in memory at once."""


@dataclass(frozen=True)
class FinishedSong:
    """picture: PNG. audio: MP3. Either may be empty where it can't be had. files: what can be downloaded."""

    files: Files = field(default_factory=dict)
    picture: bytes = b""
    audio: bytes = b""


def load(files: Files) -> FinishedSong:
    """Reads picture and sound. Raises what reading them raises."""
    return FinishedSong(
        files,
        picture=files["overview.png"]() if "overview.png" in files else b"",
        audio=listening_copy(files["song.flac"]()) if "song.flac" in files else b"",
    )


def listening_copy(flac: bytes) -> bytes:
    """The same sound as MP3. Raises soundfile.LibsndfileError for what is no audio."""
    buffer = io.BytesIO()
    with (
        soundfile.SoundFile(io.BytesIO(flac)) as source,
        soundfile.SoundFile(
            buffer,
            "w",
            source.samplerate,
            source.channels,
            "MPEG_LAYER_III",
            format="MP3",
            compression_level=COMPRESSION,
        ) as copy,
    ):
        for block in source.blocks(BLOCK, dtype="float32"):
            copy.write(block)
    return buffer.getvalue()
