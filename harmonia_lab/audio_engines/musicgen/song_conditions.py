"""What each window of a song is given: prompts, guiding chroma, and the codes of a recording that the song continues.

Owns which stem follows what, and the conditions of a window in audiocraft's form. Where a chroma comes from is in
`guides.py`, how it reaches the model in `melody_guidance.py`, the text in `prompts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_engines.musicgen.guides import Guide, plan_guide, recording_guide
from harmonia_lab.audio_engines.musicgen.models import LoadedModel
from harmonia_lab.audio_engines.musicgen.plan_sections import PromptedSection, prompted_sections
from harmonia_lab.audio_engines.musicgen.recordings import convert_channels, read_recording
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.audio_engines.musicgen.takes import Take
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.music.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SongGuidance", "continued_codes", "guidance_of", "sections_of", "window_conditions"]

CONTINUED_S = 12.0
"""Seconds of a recording's end that a song continues: as much as two windows overlap (30 s − extend_stride)."""


@dataclass(frozen=True)
class SongGuidance:
    """guides: what each stem follows, by its name; drums have no pitch to follow.

    source: of the chroma, for the record. of_the_plan: whose notes a stem's chroma has, for the record; "" without the
    plan's chroma.
    """

    guides: dict[str, Guide]
    source: str
    of_the_plan: str = ""


def sections_of(plan: Plan, settings: Settings, window_s: float) -> list[PromptedSection]:
    """Return the sections that a song is made by; none where it is made from one prompt, as the settings say.

    window_s: seconds of the model's window.
    """
    automatic = settings.windows == "auto" and plan.seconds > window_s and settings.prompt is None
    if settings.arrangement == "stems" or not (automatic or settings.windows == "plan"):
        return []
    return prompted_sections(plan, settings.prompt)


def guidance_of(
    model: LoadedModel,
    takes: Sequence[Take],
    plan: Plan,
    settings: Settings,
    *,
    frames: int,
    window: int,
    by_section: bool,
) -> SongGuidance:
    """Return what guides the song. frames, window: of the song and of the model's window.

    Raise InvalidRequest for a guide that the model can't follow, and for a recording that can't be used.
    """
    conditioner = model.melody_conditioner
    pitched = [take for take in takes if take.role != "drums"]
    if conditioner is None:
        if settings.guidance == "plan" or settings.melody is not None:
            raise InvalidRequest(
                "This MusicGen model has no melody conditioner: it can't follow a plan or a recording.",
                hint="Choose a melody model (melody, melody-large, stereo-melody), or guidance=none.",
                details={"fields": ["guidance" if settings.melody is None else "melody"]},
            )
        return SongGuidance({}, "none: this model has no melody conditioner")
    if settings.melody is not None:
        guide = recording_guide(
            settings.melody, conditioner, model.frame_rate, frames=frames, window=window, by_section=by_section
        )
        return SongGuidance({take.name: guide for take in pitched}, f"the recording {settings.melody.name}")
    if settings.guidance == "none":
        return SongGuidance({}, "none")
    guides = {take.name: plan_guide(plan, conditioner, model.frame_rate, take.part) for take in pitched}
    whose = "each stem's own part" if settings.arrangement == "stems" else "all parts, the lead before the chords"
    return SongGuidance(guides, "the plan", whose)


@contextmanager
def window_conditions(
    model: LoadedModel, rows: Sequence[Take], guidance: SongGuidance, negative_prompt: str | None = None
) -> Iterator[Callable[[int, PromptedSection | None], Sequence[Any]]]:
    """Yield a function that returns audiocraft's conditions of a window, from the frame at which it starts.

    They are the prompts of the rows, or of the section, what they are steered away from, and the guiding chroma from
    that frame on. The chroma's patch of the model is undone when the next window's conditions are made, and at the end.
    """
    from harmonia_lab.audio_engines.musicgen.conditions import steer_away  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.melody_guidance import guided_by_chroma  # noqa: PLC0415

    lm = model.musicgen.lm
    with ExitStack() as patches:

        def at(start: int, section: PromptedSection | None = None) -> Sequence[Any]:
            patches.close()
            prompts = [row.prompt if section is None else section.prompt for row in rows]
            attributes, _ = model.musicgen._prepare_tokens_and_attributes(prompts, None)  # noqa: SLF001
            if negative_prompt:
                steer_away(attributes, negative_prompt)
            if guidance.guides:
                ahead = {name: guide(start) for name, guide in guidance.guides.items()}
                patches.enter_context(guided_by_chroma(lm, attributes, [ahead.get(row.name) for row in rows]))
            return list(attributes)

        yield at


def continued_codes(model: LoadedModel, plan: Plan, settings: Settings, *, frames: int, window: int) -> Tensor | None:
    """Return the codes [1, K, frames] of the recording that the song continues; None without a recording.

    Raise InvalidRequest if it can't be used, or the song is not longer.
    """
    path = settings.continue_from
    if path is None:
        return None
    import torch  # noqa: PLC0415
    from audiocraft.data.audio_utils import convert_audio  # noqa: PLC0415

    seconds = min(CONTINUED_S, window / model.frame_rate / 2)
    audio, rate = read_recording(path, field="continue_from", last_s=seconds)
    channels = int(model.musicgen.audio_channels)
    wav = torch.from_numpy(convert_channels(audio, channels))[None].to(model.codec_device)
    with torch.inference_mode():
        encoded, _ = model.musicgen.compression_model.encode(convert_audio(wav, rate, model.sample_rate, channels))
    codes: Tensor = encoded[..., : round(seconds * model.frame_rate)].clone().to(model.device)
    if codes.shape[-1] >= frames:
        raise InvalidRequest(
            f"The song ({plan.seconds:g} s) is not longer than the recording {path.name} that it continues.",
            hint="Ask for a longer song.",
            details={"fields": ["continue_from", "seconds"]},
        )
    return codes
