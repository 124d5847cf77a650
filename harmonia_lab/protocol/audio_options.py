"""Settings of the audio engine that one song has: what a request's `audio_options` may hold.

Owns the form: names and plain values. Which names an engine knows, of which type and in which range, is the engine's
own (`engines/song_options.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.text import Told, lines

__all__ = ["MAX_OPTIONS", "AudioOptions"]

MAX_OPTIONS = 32
MAX_CHARACTERS = 4096
"""Of a value: the longest path that Linux takes."""


def _value(value: Any, info: ValidationInfo) -> Any:
    """Return a text, a number, true or false. Raise ValueError, which repeats no text, for anything else."""
    if isinstance(value, PurePath):
        value = str(value)
    elif hasattr(value, "item") and getattr(value, "size", 0) == 1:
        value = value.item()  # a number of numpy
    if not isinstance(value, bool | int | float | str):
        raise ValueError("should be a text, a number, true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    if isinstance(value, str) and info.context is not GIVEN:
        if len(value) > MAX_CHARACTERS:
            raise ValueError(f"has {len(value):,} characters; at most {MAX_CHARACTERS:,} are read. Shorten it")
        return lines(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("should be a finite number")
    return value


def _given(value: Any) -> Any:
    """Return the options without those that are None; None if none is left."""
    if not isinstance(value, Mapping):
        return value
    if len(value) > MAX_OPTIONS:
        raise ValueError(f"has {len(value):,} options; at most {MAX_OPTIONS} are read")
    return {name: option for name, option in value.items() if option is not None} or None


OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
OptionValue = Annotated[bool | int | float | Told, BeforeValidator(_value)]
AudioOptions = Annotated[dict[OptionName, OptionValue] | None, BeforeValidator(_given)]
"""By name, as the engine calls them: {"cfg_coef": 5.0, "negative_prompt": "drums"}."""
