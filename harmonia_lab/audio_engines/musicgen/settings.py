"""The settings of MusicGen. Owns their names, ranges and errors. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harmonia_lab.audio_engines.devices import check_device
from harmonia_lab.audio_engines.musicgen.prompts import ARRANGEMENTS, Arrangement, check_prompt
from harmonia_lab.audio_engines.text_prompts import checked_prompt
from harmonia_lab.engines.song_options import song_option
from harmonia_lab.errors import InvalidRequest

__all__ = ["DECODERS", "DTYPES", "GUIDANCES", "WINDOWS", "Dtype", "Guidance", "Settings", "Windows"]

Guidance = Literal["auto", "plan", "none"]
GUIDANCES: tuple[Guidance, ...] = get_args(Guidance)
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
DECODERS = ("auto", "reference", "fast", "int8")
Windows = Literal["auto", "plan", "even"]
WINDOWS: tuple[Windows, ...] = get_args(Windows)

MOST_CANDIDATES = 16

_NEW = ("smaller_model", "windows", "best_of", "negative_prompt")
"""Settings that a record leaves out where they are the defaults, as records did before there were these settings."""


@dataclass(frozen=True)
class Settings:
    """The engine's settings. The second group has audiocraft's names, meanings and defaults
    (`MusicGen.set_generation_params`). One song can have its own value of each `song_option`.

    arrangement: "full" renders one prompt for the whole mix, "stems" one prompt per instrument, mixed afterwards.
    guidance: "plan" gives the plan's melody and chords to a melody model, so that stems share harmony and bars; "auto"
    does so wherever the model can; "none" never. prompt: your own words for the sound, in place of moods and genre.
    negative_prompt: what the sound is steered away from (`conditions.null_conditions`).
    melody: a recording to follow instead of the plan. continue_from: a recording whose last 12 s begin the song.
    device: auto, cpu, cuda, cuda:N. dtype: auto is float32 on a CPU and float16 on a GPU. decoder: "int8" is faster on
    a CPU and not exact; "reference" is audiocraft's own loop, which makes one stem after the other.
    smaller_model: whether the next smaller released model may make a song for which this one's memory isn't there.
    windows: "plan" makes a mix section by section, each from its own prompt, joined on measured beats; "even" makes
    audiocraft's windows, all from one prompt; "auto" is "plan" for a song that is longer than the model's window,
    unless `prompt` has your own words. best_of: 1…16, how many candidates of each stem are made, of which the best is
    kept.

    top_k: 0 for all tokens. top_p: 0…1; 0 leaves it to top_k. temperature: 0 (the likeliest token) … 10.
    cfg_coef: 0…30, how closely the prompt is followed. extend_stride: seconds by which each window beyond the first
    advances; the rest of the window repeats the end of the one before.
    """

    arrangement: Arrangement = "full"
    guidance: Guidance = "auto"
    prompt: str | None = song_option(None, "your own words for the sound, in place of moods and genre", metavar="TEXT")
    negative_prompt: str | None = song_option(None, "what the sound is to be steered away from", metavar="TEXT")
    melody: Path | None = song_option(None, "MusicGen's: a recording to follow, not the plan", Path, metavar="FILE")
    continue_from: Path | None = song_option(
        None, "MusicGen's: a recording whose last 12 s begin the song", Path, metavar="FILE"
    )
    device: str = "auto"
    dtype: Dtype = "auto"
    decoder: str = "auto"
    smaller_model: bool = False
    windows: Windows = song_option(
        "auto", "MusicGen's: of a long mix, a prompt for each section (plan), or one for all (even)", choices=WINDOWS
    )
    best_of: int = song_option(1, "MusicGen's: 1 to 16 candidates of each stem, of which the best is kept", int)

    use_sampling: bool = True
    top_k: int = song_option(250, "MusicGen's: of so many likeliest tokens one is drawn; 0: of all (default 250)", int)
    top_p: float = song_option(0.0, "MusicGen's: of tokens of so much probability together; 0: off (default)", float)
    temperature: float = song_option(1.0, "MusicGen's: 0 (the likeliest token) to 10 (default 1)", float)
    cfg_coef: float = song_option(3.0, "MusicGen's: 0 to 30, how closely the prompt is followed (default 3)", float)
    two_step_cfg: bool = song_option(False, "MusicGen's: the two prompts of guidance in two passes, not in one", bool)
    extend_stride: float = 18.0

    def __post_init__(self) -> None:
        """Raises InvalidRequest."""
        for name, known in (
            ("arrangement", ARRANGEMENTS), ("guidance", GUIDANCES), ("dtype", DTYPES), ("decoder", DECODERS),
            ("windows", WINDOWS),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise _refused(name, getattr(self, name), f"Choose one of {', '.join(known)}.")
        check_device(self.device, metal=True)
        for name in ("smaller_model", "two_step_cfg"):
            if not isinstance(getattr(self, name), bool):
                raise _refused(name, getattr(self, name), "Choose true or false.")
        for name, low, high in (
            ("top_k", 0, math.inf), ("top_p", 0, 1), ("temperature", 0, 10), ("cfg_coef", 0, 30),
            ("extend_stride", 0.5, 29.5), ("best_of", 1, MOST_CANDIDATES),
        ):  # fmt: skip
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high or (name in ("top_k", "best_of") and not isinstance(value, int)):
                raise _refused(
                    name, value, f"Choose {low} to {high}." if high < math.inf else "Choose a whole number from 0 on."
                )
        self._check_prompts()
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

        if self.windows == "plan" and self.arrangement == "stems":
            raise InvalidRequest(
                "Stems are made from one prompt each, not section by section.",
                hint="Choose arrangement=full, or leave out windows.",
                details={"fields": ["windows", "arrangement"]},
            )

    def _check_prompts(self) -> None:
        if self.prompt is not None:
            check_prompt(self.prompt)
        negative = checked_prompt(self.negative_prompt or "", "MusicGen", "negative_prompt")
        if negative and self.cfg_coef <= 1:
            raise InvalidRequest(
                f"A negative prompt works by guidance, which is off (cfg_coef {self.cfg_coef:g}).",
                hint="Choose a cfg_coef above 1 (3 is usual), or leave out negative_prompt.",
                details={"fields": ["negative_prompt", "cfg_coef"]},
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
        """Return plain JSON values, which `of` reads, without defaults of the newer settings."""
        defaults = {each.name: each.default for each in fields(self) if each.name in _NEW}
        return {
            name: str(value.absolute()) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
            if name not in defaults or value != defaults[name]
        }


def _refused(name: str, value: Any, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} {str(value)[:40]!r} can't be used with MusicGen.", hint=hint, details={"fields": [name]}
    )
