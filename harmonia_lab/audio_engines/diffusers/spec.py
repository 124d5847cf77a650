"""The diffusers engine's description for the registry: options, installation, `harmonia doctor`'s check.

Owns that description. What the settings mean is in `settings.py`. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_engines.diffusers.checkpoints import is_checkpoint
from harmonia_lab.audio_engines.diffusers.install import missing, pip_arguments
from harmonia_lab.audio_engines.diffusers.settings import DiffusersSettings
from harmonia_lab.engines.song_options import song_options
from harmonia_lab.engines.spec import AudioEngineSpec, Check, EngineOption, Installation
from harmonia_lab.errors import ErrorCode

if TYPE_CHECKING:
    from harmonia_lab.audio_engines.diffusers.engine import DiffusersEngine

__all__ = ["ENGINE"]


def _make(model: str | None, settings: Mapping[str, Any]) -> DiffusersEngine:
    from harmonia_lab.audio_engines.diffusers.engine import DiffusersEngine  # noqa: PLC0415 - numpy loads with it

    return DiffusersEngine(model or "acestep", DiffusersSettings.of(settings))


def _settings_to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are given, and no defaults. Raises InvalidRequest."""
    plain = DiffusersSettings.of(settings).to_json()
    return {name: plain[name] for name in settings}


def _note(record: Mapping[str, Any]) -> str:
    weights = ", with random weights: this is noise, not music" if record["weights"] == "random" else ""
    return f"{record['pipeline']} {record['model']}{weights}. Licence of the weights: {record['licence']}"


def _random_model(size: str, folder: str) -> Path:
    from harmonia_lab.audio_engines.diffusers.random_checkpoint import make_checkpoint  # noqa: PLC0415 - brings torch

    return make_checkpoint(Path(folder), size)


def _check() -> Check:
    """Only what is installed: importing the pipelines takes many seconds."""
    absent = missing()
    if absent:
        return Check("diffusers", "optional", f"not installed: {', '.join(absent)}", "harmonia setup diffusers")
    import importlib.metadata  # noqa: PLC0415

    return Check("diffusers", "ok", f"diffusers {importlib.metadata.version('diffusers')}")


def _check_asked(model: str | None, settings: Mapping[str, Any]) -> str:
    """Raises InvalidRequest for an unknown model or setting, AudioError where diffusers or its weights aren't here."""
    checkpoint = _make(model, settings).checkpoint
    return f"{checkpoint.pipeline} with the weights in {checkpoint.here()}"


ENGINE = AudioEngineSpec(
    name="diffusers",
    help="ACE-Step or Stable Audio 3, through diffusers",
    make=_make,
    models="diffusers': acestep, acestep-base, a hub id, or a folder",
    options=(
        EngineOption("device", "MusicGen's and diffusers': auto (default), cpu, cuda or cuda:N"),
        *song_options(DiffusersSettings),
    ),
    claims_auto=lambda model, _settings: model is not None and is_checkpoint(model),
    settings_to_json=_settings_to_json,
    note=_note,
    check=_check,
    check_asked=_check_asked,
    installation=Installation(
        title="diffusers",
        help="diffusers and its needs",
        code=ErrorCode.AUDIO_UNAVAILABLE,
        is_installed=lambda: not missing(),
        pip_arguments=pip_arguments,
        random_model=_random_model,
    ),
)
