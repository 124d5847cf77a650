"""What a melody model follows in each window of a song: the chroma of the plan, or of a recording.

Owns where a window's chroma comes from. The plan's is computed by `plan_chroma.py`, a recording is read by
`recordings.py`; `melody_guidance.py` gives the chroma to the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.musicgen.plan_chroma import plan_chroma
from harmonia_lab.audio_engines.musicgen.recordings import convert_channels, read_recording
from harmonia_lab.music.plan import Part, Plan

__all__ = ["Guide", "plan_guide", "recording_guide"]

Guide = Callable[[int], NDArray[np.float32]]
"""From the frame at which a window starts to the chroma from there on, [chroma frames, 12]."""


def plan_guide(plan: Plan, conditioner: Any, frame_rate: float, part: Part | None = None) -> Guide:
    """Return the guide of a plan's notes, or of one part's. conditioner: audiocraft's ChromaStemConditioner.

    frame_rate: of the codes.
    """
    extractor = conditioner.chroma
    hop_s, window_s = (samples / extractor.sample_rate for samples in (extractor.winhop, extractor.winlen))
    frames = math.ceil(plan.seconds / hop_s) + conditioner.chroma_len
    chroma = plan_chroma(plan, frames, hop_s=hop_s, window_s=window_s, argmax=extractor.argmax, part=part)
    return lambda start: np.roll(chroma, -round(start / frame_rate / hop_s), axis=0)


def recording_guide(
    path: Path, conditioner: Any, frame_rate: float, *, frames: int, window: int, by_section: bool = False
) -> Guide:
    """Return the guide of a recording, as audiocraft's `MusicGen._generate_tokens` takes it.

    A song that fits the model's window follows the recording's chroma, which is repeated if it ends before the window
    does. In a longer song each window follows the chroma of its own stretch of the *sound*, which is repeated; a chroma
    frame may then span the recording's end and its beginning. frames, window: of the song and of the model's window.
    by_section: whether the song has several windows, even if it would fit one.

    Raise InvalidRequest if the recording can't be used.
    """
    import torch  # noqa: PLC0415
    from audiocraft.data.audio_utils import convert_audio  # noqa: PLC0415

    audio, rate = read_recording(path, field="melody")
    device, sample_rate = conditioner.chroma.fbanks.device, conditioner.sample_rate
    wav = convert_audio(torch.from_numpy(convert_channels(audio, 1))[None], rate, sample_rate, 1).to(
        device
    )  # [1, 1, S]

    def chroma(sound: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            computed = conditioner._compute_wav_embedding(sound, sample_rate)[0]  # noqa: SLF001
        values: NDArray[np.float32] = computed.float().cpu().numpy()
        return values

    if frames <= window and not by_section:
        whole = chroma(wav)
        return lambda _: whole
    length = int(window / frame_rate * sample_rate)

    def from_frame(start: int) -> NDArray[np.float32]:
        first = int(start / frame_rate * sample_rate)
        return chroma(wav[..., torch.arange(first, first + length, device=device) % wav.shape[-1]])

    return from_frame
