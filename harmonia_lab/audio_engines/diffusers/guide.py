"""The sound that a pipeline goes by: the song's plan as the sketch engine plays it, or a recording.

Owns where it comes from, its length, rate and channels.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from harmonia_lab.audio_engines.audiofile import read_audio
from harmonia_lab.audio_engines.diffusers.settings import DiffusersSettings
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.music.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["guiding_sound"]


def guiding_sound(
    plan: Plan, settings: DiffusersSettings, sample_rate: int, cancel: CancelToken
) -> NDArray[np.float32] | None:
    """Return float32 [2, samples] at `sample_rate` Hz, as long as the song; None where nothing is to be followed.

    A recording that is shorter is followed by silence. Raises InvalidRequest for one that can't be read or is silent,
    AudioError where the sketch engine can't render, or Cancelled.
    """
    if settings.source is not None:
        try:
            sound, rate = read_audio(settings.source)
        except StorageError as error:
            raise InvalidRequest(error.message, hint=error.hint, details={"fields": ["source"]}) from error
        if not sound.size or not np.abs(sound).max() > 0:
            message = f"The recording {settings.source} is empty or silent."
            raise InvalidRequest(message, hint="Give one with music in it.", details={"fields": ["source"]})
    elif settings.follow == "sketch":
        sound, rate = _sketch(plan, cancel)
    else:
        return None
    samples = round(plan.seconds * sample_rate)
    fitted = np.zeros((2, samples), np.float32)
    resampled = _resample(sound[:2] if sound.shape[0] > 1 else np.repeat(sound, 2, axis=0), rate, sample_rate)
    length = min(samples, resampled.shape[1])
    fitted[:, :length] = resampled[:, :length]
    return fitted


def _sketch(plan: Plan, cancel: CancelToken) -> tuple[NDArray[np.float32], int]:
    from harmonia_lab.audio_engines.mixing import mix, mix_preset  # noqa: PLC0415
    from harmonia_lab.audio_engines.sketch.engine import SketchEngine  # noqa: PLC0415 - the one engine that plays notes

    engine = SketchEngine()
    try:
        stems = engine.render(plan.parts, plan, {}, lambda _: None, cancel, {})
    finally:
        engine.close()
    made = mix(stems, seconds=plan.seconds, cancel=cancel, progress=lambda _: None, preset=mix_preset(plan.genre))
    return made.audio, made.sample_rate


def _resample(sound: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    if rate == wanted:
        return sound
    from scipy.signal import resample_poly  # noqa: PLC0415 - 0.2 s

    common = gcd(rate, wanted)
    return np.asarray(resample_poly(sound, wanted // common, rate // common, axis=1), np.float32)
