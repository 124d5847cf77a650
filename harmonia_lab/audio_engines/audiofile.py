"""Audio files: 24-bit FLAC, WAV, and digests that show in which seconds two files differ.

Owns formats, tags and digests (not the files' places and records, which are in `generation/`).

Equal samples and tags give equal bytes with the same libsndfile: the file has no date and no dither. Rounding to 24
bits leaves noise at −146 dBFS, far below the noise of any sound bank or model, and dither would need a seed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, ErrorCode, StorageError
from harmonia_lab.storage import write_bytes

__all__ = ["Tag", "digest_seconds", "read_audio", "wav", "write_flac"]

Tag = Literal["title", "artist", "album", "genre", "software", "license", "comment"]

_FULL_SCALE = 2**23
_COMPRESSION = 0.5
"""FLAC's level 4 of libsndfile's 0…1. Level 5 takes 20 % more CPU for 8 % less space, level 8 twice the CPU."""


def write_flac(
    path: Path, audio: NDArray[np.float32], sample_rate: int, tags: Mapping[Tag, str], cancel: CancelToken
) -> list[str]:
    """Write audio [channels, samples], 1…8 channels, clipped to full scale ±1. Return its `digest_seconds`.

    The file is encoded in memory (at most a third of the audio's size) and written at once, because libsndfile doesn't
    report why a write failed. Raises AudioError for NaN and infinity, StorageError, Cancelled.
    """
    buffer = io.BytesIO()
    digests: list[str] = []
    channels, samples = audio.shape
    with soundfile.SoundFile(
        buffer, "w", sample_rate, channels, "PCM_24", format="FLAC", compression_level=_COMPRESSION
    ) as file:
        for name, text in tags.items():
            setattr(file, name, _comment(text))
        for start in range(0, samples, sample_rate):
            cancel.raise_if_cancelled()
            second = audio[:, start : start + sample_rate].T.copy()  # interleaved, and changed by `_quantise`
            if not np.isfinite(second).all():
                where = f"second {start // sample_rate}"
                raise AudioError(f"The audio for {path.name} has invalid values (NaN or infinity) in {where}.")
            pcm = _quantise(second)
            digests.append(_digest(pcm))
            file.write(pcm)
    write_bytes(path, buffer.getbuffer())
    return digests


def wav(audio: NDArray[np.float32], sample_rate: int, subtype: Literal["PCM_16", "FLOAT"]) -> bytes:
    """Return a WAV file of audio [channels, samples]; for PCM_16 soundfile clips it to full scale ±1."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.T, sample_rate, subtype, format="WAV")
    return buffer.getvalue()


def read_audio(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return audio [channels, samples], full scale ±1, and its sample rate in Hz, from any format of libsndfile.

    Raises StorageError (INVALID_PAYLOAD) for a file that is missing, isn't audio or is damaged.
    """
    try:
        audio, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise StorageError(
            f"{path} is missing, is not an audio file, or is damaged: {error.error_string}",
            code=ErrorCode.INVALID_PAYLOAD,
            details={"path": str(path)},
        ) from error
    return np.ascontiguousarray(audio.T), sample_rate


def digest_seconds(path: Path, cancel: CancelToken) -> list[str]:
    """Return the SHA-256 (hex) of each second's samples: 32-bit little-endian, left-justified, channels interleaved.

    The list ends where the file can't be decoded, so that the first difference between two lists is the first second
    that differs, for any kind of damage; a file that can't be opened has none. Raises Cancelled.
    """
    digests: list[str] = []
    with suppress(soundfile.LibsndfileError), soundfile.SoundFile(path) as file:
        while len(pcm := file.read(file.samplerate, dtype="int32", always_2d=True)):
            cancel.raise_if_cancelled()
            digests.append(_digest(pcm))
    return digests


def _quantise(second: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return 24-bit samples in the upper bits of 32, rounded to nearest, halves to even. Overwrites its argument."""
    second *= _FULL_SCALE
    np.rint(second, out=second)
    np.clip(second, -_FULL_SCALE, _FULL_SCALE - 1, out=second)
    return second.astype(np.int32) << np.int32(8)


def _digest(pcm: NDArray[np.int32]) -> str:
    return hashlib.sha256(pcm.astype("<i4", copy=False).data).hexdigest()


def _comment(text: str) -> str:
    """Return the text as a Vorbis comment: valid UTF-8 on one line, without control characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.encode("utf-8", "replace").decode().split())
