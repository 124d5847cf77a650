"""Reads the user's recordings: a melody to follow, music to continue.

Owns the reading, the errors about a recording, and the conversion of channels. Takes any format that libsndfile reads
(WAV with 8 to 32 bits, FLAC, OGG, MP3, AIFF), any sample rate, and any number of channels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.audiofile import SILENCE_PEAK, SOUND_S, recording_fault
from harmonia_lab.errors import InvalidRequest

__all__ = ["convert_channels", "read_recording"]


def read_recording(path: Path, *, field: str, last_s: float | None = None) -> tuple[NDArray[np.float32], int]:
    """Return the samples, float32 [channels, samples] with full scale ±1, and the sample rate in Hz.

    last_s: read that many seconds of its end; if None, at most `SOUND_S` seconds from its start. field: the setting
    that names the recording, for errors. Raise InvalidRequest if the file is missing, no audio, damaged, empty or
    silent.
    """
    import soundfile  # noqa: PLC0415

    def refuse(what: str) -> InvalidRequest:
        return recording_fault(path, field, what)

    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            rate = int(file.samplerate)
            if last_s is not None:
                file.seek(max(0, len(file) - round(last_s * rate)))
            samples = file.read(round((last_s or SOUND_S) * rate), dtype="float32", always_2d=True)
    except FileNotFoundError:
        raise refuse("does not exist") from None
    except OSError as error:
        raise refuse(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (soundfile.LibsndfileError, ValueError) as error:
        raise refuse(f"is no audio file, or is damaged ({str(error).rstrip('.')})") from None
    if not len(samples):
        raise refuse("is empty")
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise refuse("holds samples that are infinite or not a number")
    if peak < SILENCE_PEAK:
        raise refuse("is silent")
    return np.ascontiguousarray(samples.T), rate


def convert_channels(audio: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Convert audio [any, samples] to [channels, samples] with 1 or 2 channels.

    Six channels are 5.1 in the usual order. They are mixed down by ITU-R BS.775 (centre and surrounds at −3 dB, without
    the low-frequency effects) and scaled so that nothing clips. Of other layouts, the first, third, … channel goes
    left, the second, fourth, … right.
    """
    if len(audio) == 6:
        left, right, centre, _, back_left, back_right = audio
        half = np.float32(0.5**0.5)
        pair = np.stack([left + half * (centre + back_left), right + half * (centre + back_right)]) / (1 + 2 * half)
    elif len(audio) == 1:
        pair = np.repeat(audio, 2, axis=0)
    else:
        pair = np.stack([audio[0::2].mean(axis=0), audio[1::2].mean(axis=0)])
    converted = pair.mean(axis=0, keepdims=True) if channels == 1 else pair
    return np.asarray(converted, np.float32)
