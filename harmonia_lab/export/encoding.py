"""The sound of a file in another format, with tags.

Owns the formats and their settings. FLAC is copied, not encoded again; libsndfile encodes the others.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError
from harmonia_lab.export.id3 import id3_tag
from harmonia_lab.export.riff import tagged_wav
from harmonia_lab.export.tags import SongTags
from harmonia_lab.export.vorbis import tagged_flac, tagged_ogg

__all__ = ["FORMATS", "AudioFormat", "encoded", "encoded_file"]

AudioFormat = Literal["mp3", "ogg", "wav", "flac"]
FORMATS: tuple[AudioFormat, ...] = ("mp3", "ogg", "wav", "flac")

_SETTINGS: dict[AudioFormat, dict[str, Any]] = {
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.2},
    "ogg": {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.4},
    "wav": {"format": "WAV", "subtype": "PCM_24"},
    "flac": {"format": "FLAC", "subtype": "PCM_24", "compression_level": 0.5},
}
"""MP3: LAME's VBR quality 2 (about 190 kbit/s). Ogg: Vorbis quality 0.6 (about 190 kbit/s). libsndfile counts from 0,
best, to 1, smallest."""


def encoded_file(path: Path, audio_format: AudioFormat, tags: SongTags) -> bytes:
    """Return an audio file in `audio_format` with these tags. Raises AudioError."""
    if audio_format == "flac":
        return tagged_flac(path.read_bytes(), tags)
    try:
        with soundfile.SoundFile(path) as source:
            return _encoded(_seconds(source), source.samplerate, source.channels, audio_format, tags)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path} can't be written as {audio_format}: {error.error_string}", hint="Choose --format flac or wav."
        ) from error


def encoded(
    audio: NDArray[np.float32], sample_rate: int, audio_format: AudioFormat, tags: SongTags, cancel: CancelToken
) -> bytes:
    """Return audio [channels, samples] as a file in `audio_format`. Raises AudioError, Cancelled."""

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, audio.shape[1], sample_rate):
            cancel.raise_if_cancelled()
            yield audio[:, start : start + sample_rate].T

    try:
        return _encoded(blocks(), sample_rate, len(audio), audio_format, tags)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"A stem can't be written as {audio_format}: {error.error_string}", hint="Choose --format flac or wav."
        ) from error


def _seconds(source: Any) -> Iterator[NDArray[np.float32]]:
    while len(block := source.read(source.samplerate, dtype="float32", always_2d=True)):
        yield block


def _encoded(
    blocks: Iterator[NDArray[np.float32]], sample_rate: int, channels: int, audio_format: AudioFormat, tags: SongTags
) -> bytes:
    """blocks: [samples, channels], of a second: libsndfile's Vorbis encoder needs memory for a whole block."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate, channels, **_SETTINGS[audio_format]) as file:
        for block in blocks:
            file.write(block)
    sound = buffer.getvalue()
    if audio_format == "mp3":
        return id3_tag(tags) + sound
    if audio_format == "wav":
        return tagged_wav(sound, tags)
    if audio_format == "flac":
        return tagged_flac(sound, tags)
    serial = int(tags.origin.get("HARMONIA_SONG_SHA256", "0")[:8], 16)
    return tagged_ogg(sound, tags, serial)
