"""Recordings that a person gives: a melody to follow, music to go on from.

Owns reading them and what is wrong with them. Any format that libsndfile reads (WAV with 8 to 32 bits, FLAC, OGG, MP3,
AIFF), any sample rate, up to any number of channels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.errors import InvalidRequest

__all__ = ["convert_channels", "read_recording"]

SILENCE = 1e-4
"""Full scale is 1; −80 dBFS, below the noise of an 8-bit file's least step."""


def read_recording(
    path: Path, *, field: str, last_s: float | None = None, first_s: float = 600.0
) -> tuple[NDArray[np.float32], int]:
    """float32 [channels, samples] at full scale ±1, and Hz.

    last_s: only so much of its end; else at most `first_s` from its start. field: what the recording was given as,
    named in errors. Raises InvalidRequest for a file that is missing, no audio, damaged, empty or silent.
    """
    import soundfile  # noqa: PLC0415

    def refuse(what: str) -> InvalidRequest:
        return InvalidRequest(
            f"The recording {path} {what}.",
            hint="Give a WAV, FLAC, OGG or MP3 file with music in it.",
            details={"fields": [field], "path": str(path)},
        )

    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw) as file:
            rate = int(file.samplerate)
            if last_s is not None:
                file.seek(max(0, len(file) - round(last_s * rate)))
            samples = file.read(round((last_s or first_s) * rate), dtype="float32", always_2d=True)
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
        raise refuse("holds values that are no sound")
    if peak < SILENCE:
        raise refuse("is silent")
    return np.ascontiguousarray(samples.T), rate


def convert_channels(audio: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """[any, samples] → [channels, samples], 1 or 2 channels.

    Six channels are taken for 5.1 in the usual order and mixed down as ITU-R BS.775 has it (centre and surrounds at
    −3 dB, low-frequency effects left out), scaled so that nothing clips. Of other layouts, odd channels go left, even
    ones right.
    """
    if len(audio) == 6:
        left, right, centre, _, back_left, back_right = audio
        half = np.float32(0.5**0.5)
        pair = np.stack([left + half * (centre + back_left), right + half * (centre + back_right)]) / (1 + 2 * half)
    elif len(audio) == 1:
        pair = np.repeat(audio, 2, axis=0)
    else:
        pair = np.stack([audio[0::2].mean(axis=0), audio[1::2].mean(axis=0)])
    folded = pair.mean(axis=0, keepdims=True) if channels == 1 else pair
    return np.asarray(folded, np.float32)
