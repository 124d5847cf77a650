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
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest, StorageError
from harmonia_lab.protocol.text import printable
from harmonia_lab.storage import cached_digest, write_bytes

__all__ = [
    "SILENCE_PEAK",
    "SOUND_S",
    "SoundFacts",
    "Tag",
    "check_sound",
    "digest_seconds",
    "read_audio",
    "recording_digests",
    "recording_fault",
    "wav",
    "write_flac",
]

Tag = Literal["title", "artist", "album", "genre", "software", "license", "comment"]

_FULL_SCALE = 2**23
_UPLOADED = {"WAV": "wav", "WAVEX": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3", "MPEG": "mp3", "AIFF": "aiff"}
"""Formats of libsndfile's in which people have music. Others, such as those of old samplers, are refused."""

SOUND_S = 600.0
"""Seconds of a recording that are read: no song is longer."""

_RATES, _MOST_CHANNELS = range(4000, 192_001), 8
_BLOCK = 2**17
"""Frames that are decoded at once."""

SILENCE_PEAK = 1e-4
"""The peak below which a recording is silent, −80 dBFS. Below one step of an 8-bit file."""

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


@dataclass(frozen=True)
class SoundFacts:
    """format: wav, flac, ogg, mp3 or aiff, by the file's content. sample_rate: Hz."""

    format: str
    seconds: float
    sample_rate: int
    channels: int


def check_sound(path: Path) -> SoundFacts:
    """Decode a file of a stranger's to its end, and return what it is. In memory is one block of it at a time.

    Raises InvalidRequest, which names neither file nor folder, for one that is no music in a format of `_UPLOADED`, is
    damaged, empty, silent, or longer than `SOUND_S` seconds. Its time is limited by that length.
    """
    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            kind, rate, channels = _UPLOADED.get(file.format), int(file.samplerate), int(file.channels)
            if kind is None:
                raise _unusable(f"is of the format {file.format}")
            if rate not in _RATES or channels > _MOST_CHANNELS:
                raise _unusable(f"has {channels} channels at {rate} Hz: at most 8, at 4,000 to 192,000 Hz, are read")
            frames, peak = 0, 0.0
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                frames += len(block)
                peak = max(peak, float(np.abs(block).max()))
                if not np.isfinite(block).all():
                    raise _unusable("holds samples that are infinite or not a number")
                if frames > SOUND_S * rate:
                    raise _unusable(f"is longer than {SOUND_S:g} s")
    except soundfile.LibsndfileError as error:
        raise _unusable(f"is no audio file, or is damaged ({error.error_string.rstrip('.')})") from None
    except OSError as error:
        raise _unusable(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not frames:
        raise _unusable("is empty")
    if peak < SILENCE_PEAK:
        raise _unusable("is silent")
    return SoundFacts(kind, frames / rate, rate, channels)


def _unusable(what: str) -> InvalidRequest:
    hint = "Send a WAV, FLAC, OGG, MP3 or AIFF file with music in it."
    return InvalidRequest(f"The sound {what}.", hint=hint, details={"fields": ["sound"]})


def recording_fault(path: Path, field: str, what: str) -> InvalidRequest:
    """Return the error for a recording of a person's that can't be used. field: the setting that names it."""
    return InvalidRequest(
        f"The recording {path} {what}.",
        hint="Give a WAV, FLAC, OGG or MP3 file with music in it.",
        details={"fields": [field], "path": str(path)},
    )


def recording_digests(recordings: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256, hex, of each recording, by the name of the setting that has it.

    Of each, the head alone is decoded: a file that ends early is found when it is rendered. Raises InvalidRequest for
    one that is missing, can't be read, or is no audio.
    """
    digests = {}
    for field, path in recordings.items():
        try:
            with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
                if not len(file):
                    raise recording_fault(path, field, "is empty")
            digests[field] = cached_digest(path)
        except FileNotFoundError:
            raise recording_fault(path, field, "does not exist") from None
        except OSError as error:
            raise recording_fault(path, field, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
        except (soundfile.LibsndfileError, ValueError) as error:
            said = str(error).rstrip(".")
            raise recording_fault(path, field, f"is no audio file, or is damaged ({said})") from None
    return digests


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
    return " ".join(printable(text).split())
