"""The models of every engine: those that are here, and those that could be.

Owns their list, for `harmonia models` and `Lab.models`. What is known of a model is its engine's (`spec.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from harmonia_lab.engine_registry import audio_specs, metadata_specs
from harmonia_lab.engines.spec import EngineSpec, MetadataEngineSpec, ModelEntry
from harmonia_lab.errors import InvalidRequest

__all__ = ["USUAL_FOLDERS", "fetch_model", "model_inventory"]


USUAL_FOLDERS = (Path(), Path("models"))
"""Where a person's own models are looked for, in the working folder, if no folder is named."""


def model_inventory(folders: Sequence[Path] = ()) -> list[ModelEntry]:
    """Return the models that are here, and those that could be. Nothing is downloaded.

    folders: to look in beside the caches, themselves and one level below; by default `USUAL_FOLDERS`.
    """
    folders = folders or USUAL_FOLDERS
    entries: list[ModelEntry] = []
    for spec in _specs():
        if spec.inventory is None:
            continue
        stage: Literal[1, 2] = 1 if isinstance(spec, MetadataEngineSpec) else 2
        try:
            entries += spec.inventory(folders)
        except Exception as error:  # noqa: BLE001 - an engine of another package must not hide the other models
            reason = f"its list failed: {type(error).__name__}: {error}"
            entries.append(ModelEntry(spec.name, stage, "(any model)", missing=(reason,)))
    return entries


def fetch_model(name: str, report: Callable[[str], None]) -> str:
    """Download a model by its name, and return where it is. report: gets statuses. Raises HarmoniaError."""
    refusal = InvalidRequest("No engine here downloads models.", hint="run: harmonia setup musicgen")
    for spec in _specs():
        if spec.fetch is not None:
            try:
                return spec.fetch(name, report)
            except InvalidRequest as error:  # another engine may have a model of this name
                refusal = error
    raise refusal


def _specs() -> list[EngineSpec]:
    return [*metadata_specs().values(), *audio_specs().values()]
