"""What each pipeline takes of a song, and how it is called.

Owns the table of pipelines and the arguments of their calls, as diffusers 0.42 has them. `engine.py` loads and runs
them. Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_engines.diffusers.settings import DiffusersSettings
from harmonia_lab.audio_engines.text_prompts import caption, checked_prompt
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.languages.section_names import section_kind

if TYPE_CHECKING:
    from harmonia_lab.music.plan import Plan
    from harmonia_lab.protocol.models import SongMetadata
    from harmonia_lab.protocol.sound import Followed

__all__ = ["GuidingSound", "Pipeline", "pipeline_of"]


@dataclass(frozen=True)
class GuidingSound:
    """A sound to go by. audio: tensor [channels, samples] at the pipeline's rate, as long as the song."""

    audio: Any
    strength: float


@dataclass(frozen=True)
class Pipeline:
    """guided_class: the class that takes a sound to go by; it has the same parts. follows: what of a song's plan it is
    given, by the names of `engines.base.Followed`. steps: of a distilled checkpoint. guided_steps: of one that
    needs guidance. takes_negative: whether it takes a negative prompt.
    """

    name: str
    guided_class: str
    follows: frozenset[Followed]
    steps: int
    guided_steps: int
    takes_negative: bool

    def check(self, settings: DiffusersSettings) -> None:
        """Raise InvalidRequest for a setting that this pipeline doesn't take, whatever the checkpoint."""
        if settings.negative_prompt is None or (self.takes_negative and not settings.goes_by_a_sound):
            return
        beside = " beside a sound to go by" if self.takes_negative else ""
        raise InvalidRequest(
            f"{_TITLES[self.name]} takes no negative prompt{beside}.",
            hint="Leave it out.",
            details={"fields": ["negative_prompt"]},
        )

    def arguments(
        self, plan: Plan, settings: DiffusersSettings, *, distilled: bool, guide: GuidingSound | None
    ) -> dict[str, Any]:
        """Return the keyword arguments of one call. distilled: whether the checkpoint does without guidance.

        plan: must have its metadata. Raises InvalidRequest for a setting that this pipeline doesn't take.
        """
        self.check(settings)
        made = _ace_step if self.name == "AceStepPipeline" else _stable_audio
        return made(self, plan, settings, distilled, guide)


_TITLES = {"AceStepPipeline": "ACE-Step", "StableAudio3Pipeline": "Stable Audio 3"}

_KNOWN = {
    each.name: each
    for each in (
        Pipeline(
            "AceStepPipeline",
            "AceStepPipeline",
            frozenset({"prompt", "tempo", "key", "lyrics"}),
            steps=8,
            guided_steps=50,
            takes_negative=False,
        ),
        Pipeline(
            "StableAudio3Pipeline",
            "StableAudio3AudioToAudioPipeline",
            frozenset({"prompt"}),
            steps=8,
            guided_steps=100,
            takes_negative=True,
        ),
    )
}


def pipeline_of(name: str) -> Pipeline:
    """Return the pipeline of a checkpoint's class name, which `checkpoints.PIPELINES` lists."""
    return _KNOWN[name]


def _described(metadata: SongMetadata, own: str | None) -> str:
    """Return a person's own words for the sound, or else those of the metadata."""
    return checked_prompt(own, "diffusers") if own else caption(metadata)


def _ace_step(
    known: Pipeline, plan: Plan, settings: DiffusersSettings, distilled: bool, guide: GuidingSound | None
) -> dict[str, Any]:
    metadata = _words(plan)
    if distilled and settings.guidance_scale not in (None, 1.0):
        raise _without_guidance("guidance_scale", "ACE-Step's turbo checkpoints were distilled to do without guidance.")
    arguments: dict[str, Any] = {
        "prompt": _described(metadata, settings.prompt),
        "lyrics": _tagged(metadata),
        "audio_duration": plan.seconds,
        "vocal_language": (metadata.sung_language or "en").split("-")[0],
        "num_inference_steps": settings.steps or (known.steps if distilled else known.guided_steps),
        "guidance_scale": 1.0 if distilled else settings.guidance_scale or 7.0,
        "bpm": round(metadata.bpm),
        "keyscale": metadata.key,
        "timesignature": str(plan.beats_per_bar),
    }
    if guide is not None:
        arguments |= {"src_audio": guide.audio, "task_type": "cover", "audio_cover_strength": guide.strength}
    return arguments


def _stable_audio(
    known: Pipeline, plan: Plan, settings: DiffusersSettings, distilled: bool, guide: GuidingSound | None
) -> dict[str, Any]:
    metadata = _words(plan)
    guidance = settings.guidance_scale if settings.guidance_scale is not None else (1.0 if distilled else 7.0)
    arguments: dict[str, Any] = {
        # No fields for tempo and key: they go into the words, as its model card's prompts have them.
        "prompt": f"{_described(metadata, settings.prompt)}, {round(metadata.bpm)} BPM, {metadata.key}",
        "duration": plan.seconds,
        "num_inference_steps": settings.steps or (known.steps if distilled else known.guided_steps),
    }
    if guide is not None:
        if settings.guidance_scale not in (None, 1.0):
            raise _without_guidance("guidance_scale", "Stable Audio 3 has no guidance beside a sound to go by.")
        # 1 discards the sound; the pipeline refuses 0.
        return arguments | {"audio": guide.audio[None], "init_noise_level": max(0.01, 1 - guide.strength)}
    if settings.negative_prompt is not None and guidance <= 1:
        raise _without_guidance("negative_prompt", "A negative prompt works by guidance, which is off.")
    return arguments | {"guidance_scale": guidance, "negative_prompt": settings.negative_prompt}


def _words(plan: Plan) -> SongMetadata:
    assert plan.metadata is not None  # `DiffusersEngine.render` checks it
    return plan.metadata


def _tagged(metadata: SongMetadata) -> str:
    """Return the lyrics with one of ACE-Step's tags, such as [verse], before each section, whatever their language."""
    sections = [
        f"[{section_kind(section.name) or 'verse'}]\n" + "\n".join(section.lines) for section in metadata.sections
    ]
    return "\n\n".join(sections) or "[instrumental]"


def _without_guidance(field: str, message: str) -> InvalidRequest:
    hint = f"Leave out {field}, or use a checkpoint with guidance."
    return InvalidRequest(message, hint=hint, details={"fields": [field]})
