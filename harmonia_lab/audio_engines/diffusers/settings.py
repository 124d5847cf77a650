"""The settings of the diffusers engine. Owns their names, ranges and errors. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harmonia_lab.audio_engines.devices import check_device
from harmonia_lab.audio_engines.text_prompts import checked_prompt
from harmonia_lab.engines.song_options import song_option
from harmonia_lab.errors import InvalidRequest

__all__ = ["FOLLOWS", "DiffusersSettings", "Follow"]

Follow = Literal["nothing", "sketch"]
FOLLOWS: tuple[Follow, ...] = get_args(Follow)
DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class DiffusersSettings:
    """The engine's settings.

    prompt: your own words for the sound, in place of mood, genre and instruments. negative_prompt: what to steer away
    from, where the pipeline takes one and guidance is on. follow: "sketch" gives the pipeline the song's plan, as the
    sketch engine plays it, as a sound to go by. source: a recording for that instead. strength: 0…1, how closely that
    sound is followed. steps: of denoising; None for what the checkpoint was made for. guidance_scale: 0…30, 1 switches
    guidance off; None as for steps. device: auto, cpu, cuda, cuda:N. dtype: auto is
    float32 on a CPU, bfloat16 on a GPU. One song can have its own value of each `song_option`.
    """

    prompt: str | None = song_option(None, "your own words for the sound, in place of moods and genre", metavar="TEXT")
    negative_prompt: str | None = song_option(None, "what the sound is to be steered away from", metavar="TEXT")
    follow: Follow = song_option(
        "nothing", "diffusers': go by the plan as the sketch plays it, or by nothing (default)", choices=FOLLOWS
    )
    source: Path | None = song_option(None, "diffusers': a recording to go by", Path, metavar="FILE")
    strength: float = song_option(0.6, "diffusers': 0 to 1, how closely that sound is followed (default 0.6)", float)
    steps: int | None = song_option(None, "diffusers': of denoising (default: as the model was made for)", int)
    guidance_scale: float | None = song_option(
        None, "diffusers': 0 to 30, how closely the prompt is followed; 1 is off", float
    )
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Raises InvalidRequest."""
        for name, known in (("follow", FOLLOWS), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise _refused(name, getattr(self, name), f"Choose one of {', '.join(known)}.")
        check_device(self.device)
        _check_number("strength", self.strength, 0, 1)
        for name, low, high in (("steps", 1, 500), ("guidance_scale", 0, 30)):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), low, high, whole=name == "steps")
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not checked_prompt(text, "diffusers", name)):
                raise _refused(name, text, "Describe it in a few words, or leave it out.")
        if self.source is not None and self.follow == "sketch":
            raise InvalidRequest(
                "A song can follow its plan or a recording, not both.",
                hint="Leave out source, or follow=sketch.",
                details={"fields": ["source", "follow"]},
            )

    @property
    def goes_by_a_sound(self) -> bool:
        return self.source is not None or self.follow == "sketch"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> DiffusersSettings:
        """Make settings from a record's or a command line's values. Raises InvalidRequest for an unknown name."""
        known = cls.names()
        for name in options:
            if name not in known:
                raise InvalidRequest(
                    f"The diffusers engine has no setting {name!r}.",
                    hint=f"Known: {', '.join(known)}.",
                    details={"fields": [name]},
                )
        source = options.get("source")
        return cls(**{**options, **({} if source is None else {"source": Path(source)})})

    @classmethod
    def names(cls) -> list[str]:
        return [each.name for each in fields(cls)]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, which `of` reads."""
        return {
            name: str(value.absolute()) if isinstance(value, Path) else value for name, value in asdict(self).items()
        }


def _check_number(name: str, value: Any, low: int, high: int, *, whole: bool = False) -> None:
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # which no NaN is
        raise _refused(name, value, f"Choose {'a whole number, ' if whole else ''}{low} to {high}.")


def _refused(name: str, value: Any, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} {str(value)[:40]!r} can't be used with the diffusers engine.", hint=hint, details={"fields": [name]}
    )
