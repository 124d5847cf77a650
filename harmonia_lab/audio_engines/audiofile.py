"""Audio on disk: FLAC with 24 bits, and digests that say from which second on two files differ.

Owns the file format, its tags and the digests. Where files go, and what is kept about them, is the pipeline's business.

The same samples and tags give the same bytes (with the same libsndfile): there is no date in the file, and no dither:
rounding to 24 bits leaves noise at −146 dBFS, far below the noise of any sound bank or model, and dither would add
another seed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, ErrorCode, StorageError
from harmonia_lab.storage import write_bytes

__all__ = ["Tag", "WrittenAudio", "digest_seconds", "read_audio", "wav", "write_flac"]

Tag = Literal["title", "artist", "album", "genre", "software", "license", "comment"]

_FULL_SCALE = 2**23
_COMPRESSION = (
    0.5  # of libsndfile's 0…1: level 4; level 5 costs 20 % more CPU for 8 % less space, level 8 twice the CPU
)


@dataclass(frozen=True)
class WrittenAudio:
    """size: bytes. sha256: of the file, hex. second_sha256: as `digest_seconds`. clipped: samples beyond full scale."""

    size: int
    sha256: str
    second_sha256: tuple[str, ...]
    clipped: int


def write_flac(
    path: Path, audio: NDArray[np.float32], sample_rate: int, tags: Mapping[Tag, str], cancel: CancelToken
) -> WrittenAudio:
    """Write audio [channels, samples], full scale ±1, 1…8 channels. What is beyond full scale is clipped, and counted.

    It is encoded in memory (at most a third of the audio's own size) and then written at once, since libsndfile does
    not say why it could not write. Raises AudioError for values that are no sound, StorageError, Cancelled.
    """
    buffer = io.BytesIO()
    digests: list[str] = []
    clipped = 0
    channels, samples = audio.shape
    with soundfile.SoundFile(
        buffer, "w", sample_rate, channels, "PCM_24", format="FLAC", compression_level=_COMPRESSION
    ) as file:
        for name, text in tags.items():
            setattr(file, name, _clean(text))
        for start in range(0, samples, sample_rate):
            cancel.raise_if_cancelled()
            second = audio[:, start : start + sample_rate].T.copy()  # interleaved, and ours to change
            peak = float(np.abs(second).max())
            if not np.isfinite(peak):
                where = f"in second {start // sample_rate}"
                raise AudioError(f"The audio for {path.name} holds values that are no sound (NaN or infinity) {where}.")
            if peak > 1:
                clipped += int(np.count_nonzero(np.abs(second) > 1))
            pcm = _quantised(second)
            digests.append(_digest(pcm))
            file.write(pcm)
    data = buffer.getbuffer()
    write_bytes(path, data)
    return WrittenAudio(len(data), hashlib.sha256(data).hexdigest(), tuple(digests), clipped)


def wav(audio: NDArray[np.float32], sample_rate: int, subtype: Literal["PCM_16", "FLOAT"]) -> bytes:
    """A WAV file of audio [channels, samples]; with PCM_16, what is beyond full scale ±1 is clipped."""
    buffer = io.BytesIO()
    samples = np.clip(audio, -1, 1) if subtype == "PCM_16" else audio
    soundfile.write(buffer, samples.T, sample_rate, subtype, format="WAV")
    return buffer.getvalue()


def read_audio(path: Path) -> tuple[NDArray[np.float32], int]:
    """Audio [channels, samples] with full scale ±1, and its sample rate in Hz. Any format that libsndfile reads.

    Raises StorageError: NOT_FOUND, or INVALID_PAYLOAD for a file that is no audio or is damaged.
    """
    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            audio = file.read(dtype="float32", always_2d=True)
            return np.ascontiguousarray(audio.T), int(file.samplerate)
    except OSError as error:
        raise _unreadable(error, path) from error
    except soundfile.LibsndfileError as error:
        raise StorageError(
            f"{path} is no audio file, or is damaged: {error.error_string}",
            code=ErrorCode.INVALID_PAYLOAD,
            details={"path": str(path)},
        ) from error


def digest_seconds(path: Path, cancel: CancelToken) -> list[str]:
    """SHA-256 (hex) of each second of the decoded samples: 32-bit little-endian, left-justified, channels interleaved.

    The list ends early where the file can no longer be decoded, so that comparing two lists names the first second that
    differs, whatever is wrong with it. Raises StorageError (NOT_FOUND), Cancelled.
    """
    digests: list[str] = []
    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            while True:
                cancel.raise_if_cancelled()
                pcm = file.read(file.samplerate, dtype="int32", always_2d=True)
                if not len(pcm):
                    return digests
                digests.append(_digest(pcm))
    except soundfile.LibsndfileError:
        return digests
    except OSError as error:
        raise _unreadable(error, path) from error


def _quantised(second: NDArray[np.float32]) -> NDArray[np.int32]:
    """24-bit samples in the upper bits of 32; rounded to the nearest, halves to even. Works in place."""
    second *= _FULL_SCALE
    np.rint(second, out=second)
    np.clip(second, -_FULL_SCALE, _FULL_SCALE - 1, out=second)
    return second.astype(np.int32) << np.int32(8)


def _digest(pcm: NDArray[np.int32]) -> str:
    return hashlib.sha256(pcm.astype("<i4", copy=False).data).hexdigest()


def _clean(text: str) -> str:
    """What a Vorbis comment can hold: UTF-8 without control characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.encode("utf-8", "replace").decode().split())


def _unreadable(error: OSError, path: Path) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return StorageError(f"There is no file {path}.", code=ErrorCode.NOT_FOUND, details={"path": str(path)})
    return StorageError(
        f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", details={"path": str(path)}
    )
