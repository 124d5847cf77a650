"""The sketch engine's description for `engine_registry.py`. Owns nothing else. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.spec import AudioEngineSpec, Check
from harmonia_lab.errors import HarmoniaError

if TYPE_CHECKING:
    from harmonia_lab.engines.base import AudioEngine

__all__ = ["ENGINE"]


def _make(_model: str | None, _settings: Mapping[str, Any]) -> AudioEngine:
    from harmonia_lab.audio_engines.sketch.engine import SketchEngine  # noqa: PLC0415 - numpy loads with the engine

    return SketchEngine()


def _check() -> Check:
    try:
        bank = _make(None, {}).identity()["model"]
    except HarmoniaError as error:
        return Check("sketch engine", "missing", error.message, error.hint)
    return Check("sketch engine", "ok", f"sound bank {bank}")


ENGINE = AudioEngineSpec(
    name="sketch",
    help="the offline sketch engine (General MIDI)",
    make=_make,
    fallback=True,
    check=_check,
)
