"""The sketch engine's description for `engine_registry.py`. Owns nothing else. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.spec import AudioEngineSpec, Check
from harmonia_lab.errors import HarmoniaError

if TYPE_CHECKING:
    from harmonia_lab.engines.base import AudioEngine

__all__ = ["ENGINE"]


_SETTING = "HARMONIA_SOUNDFONT"
_FLUID_R3 = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")


def _make(_model: str | None, _settings: Mapping[str, Any]) -> AudioEngine:
    from harmonia_lab.audio_engines.sketch.engine import SketchEngine  # noqa: PLC0415 - numpy loads with the engine

    return SketchEngine()


def _check() -> Check:
    try:
        found = _make(None, {}).identity()
    except HarmoniaError as error:
        return Check("sketch engine", "missing", error.message, error.hint)
    what = f"sound bank {found['model']}, rendered by {found['renderer']}"
    return Check("sketch engine", "ok", what, "" if os.environ.get(_SETTING) else _better_bank())


def _better_bank() -> str:
    """Return how to use FluidR3, which Debian and Ubuntu have: 10 dB more at 4 to 8 kHz, and a wider stereo image."""
    install = "" if _FLUID_R3.is_file() else "apt-get install fluid-soundfont-gm (120 MB), then "
    return f"brighter and wider, 1.7 times as slow: {install}{_SETTING}={_FLUID_R3}"


ENGINE = AudioEngineSpec(
    name="sketch",
    help="the offline sketch engine (General MIDI)",
    make=_make,
    fallback=True,
    check=_check,
)
