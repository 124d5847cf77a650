"""The settings of MusicGen. Owns their names, ranges and errors. Imports nothing heavy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harmonia_lab.audio_engines.musicgen.prompts import ARRANGEMENTS, Arrangement, check_prompt
from harmonia_lab.errors import InvalidRequest

__all__ = ["DECODERS", "DTYPES", "GUIDANCES", "Dtype", "Guidance", "Settings", "check_device"]

Guidance = Literal["auto", "plan", "none"]
GUIDANCES: tuple[Guidance, ...] = get_args(Guidance)
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
DECODERS = ("auto", "reference", "fast", "int8")


@dataclass(frozen=True)
class Settings:
    """The engine's settings. The second group has audiocraft's names, meanings and defaults
    (`MusicGen.set_generation_params`).

    arrangement: "full" renders one prompt for the whole mix, "stems" one prompt per instrument, mixed afterwards.
    guidance: "plan" gives the plan's melody and chords to a melody model, so that stems share harmony and bars; "auto"
    does so wherever the model can; "none" never. prompt: your own words for the sound, in place of moods and genre.
    melody: a recording to follow instead of the plan. continue_from: a recording whose last 12 s begin the song.
    device: auto, cpu, cuda, cuda:N. dtype: auto is float32 on a CPU and float16 on a GPU. decoder: "int8" is faster on
    a CPU and not exact; "reference" is audiocraft's own loop, which has one stream of random numbers for all stems.

    top_k: 0 for all tokens. top_p: 0…1; 0 leaves it to top_k. temperature: 0 (the likeliest token) … 10.
    cfg_coef: 0…30, how closely the prompt is followed. extend_stride: seconds by which each window beyond the first
    advances; the rest of the window repeats the end of the one before.
    """

    arrangement: Arrangement = "full"
    guidance: Guidance = "auto"
    prompt: str | None = None
    melody: Path | None = None
    continue_from: Path | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    decoder: str = "auto"

    use_sampling: bool = True
    top_k: int = 250
    top_p: float = 0.0
    temperature: float = 1.0
    cfg_coef: float = 3.0
    two_step_cfg: bool = False
    extend_stride: float = 18.0

    def __post_init__(self) -> None:
        """Raises InvalidRequest."""
        for name, known in (
            ("arrangement", ARRANGEMENTS), ("guidance", GUIDANCES), ("dtype", DTYPES), ("decoder", DECODERS),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise _refused(name, getattr(self, name), f"Choose one of {', '.join(known)}.")
        check_device(self.device)
        for name, low, high in (
            ("top_k", 0, math.inf), ("top_p", 0, 1), ("temperature", 0, 10), ("cfg_coef", 0, 30),
            ("extend_stride", 0.5, 29.5),
        ):  # fmt: skip
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high or (name == "top_k" and not isinstance(value, int)):
                raise _refused(
                    name, value, f"Choose {low} to {high}." if high < math.inf else "Choose a whole number from 0 on."
                )
        if self.prompt is not None:
            check_prompt(self.prompt)
        if self.melody is not None and self.guidance == "plan":
            raise InvalidRequest(
                "A song can follow its plan or a recording, not both.",
                hint="Leave out melody, or guidance=plan.",
                details={"fields": ["melody", "guidance"]},
            )
        if self.continue_from is not None and self.arrangement == "stems":
            raise InvalidRequest(
                "A recording of a whole mix can't be continued instrument by instrument.",
                hint="Choose arrangement=full.",
                details={"fields": ["continue_from", "arrangement"]},
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Make settings from a record's or a command line's values. Raises InvalidRequest for an unknown name."""
        for name in options:
            if name not in cls.names():
                raise InvalidRequest(
                    f"MusicGen has no setting {name!r}.",
                    hint=f"Known: {', '.join(cls.names())}.",
                    details={"fields": [name]},
                )
        paths = {name: Path(options[name]) for name in ("melody", "continue_from") if options.get(name) is not None}
        return cls(**{**options, **paths})

    @classmethod
    def names(cls) -> list[str]:
        return [each.name for each in fields(cls)]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, which `of` reads."""
        return {
            name: str(value.absolute()) if isinstance(value, Path) else value for name, value in asdict(self).items()
        }


def check_device(name: str) -> None:
    """Raise InvalidRequest for a text that is no device's name. Whether there is such a device, only torch knows."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d\d?)?", str(name)):
        raise InvalidRequest(
            f"There is no device {str(name)[:40]!r}.",
            hint="Choose auto, cpu, cuda or cuda:N.",
            details={"fields": ["device"]},
        )


def _refused(name: str, value: Any, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} {str(value)[:40]!r} can't be used with MusicGen.", hint=hint, details={"fields": [name]}
    )
