"""Checkpoints in diffusers' layout: names, folders, cached snapshots, licences.

Owns where a checkpoint is, and the errors about one that can be found before it is loaded. Nothing is downloaded: a
song doesn't begin with ten gigabytes. Imports nothing heavy.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest
from harmonia_lab.storage import expanded

__all__ = ["INDEX", "NAMES", "PIPELINES", "DiffusersCheckpoint", "find_checkpoint", "is_checkpoint", "unavailable"]

INDEX = "model_index.json"
"""The file of a checkpoint that names its pipeline and its parts."""

PIPELINES = ("AceStepPipeline", "StableAudio3Pipeline")

NAMES = {
    "acestep": "ACE-Step/acestep-v15-xl-turbo-diffusers",
    "acestep-base": "ACE-Step/acestep-v15-xl-base-diffusers",
}
"""Short name → model hub id, of those that are published in this layout. Stable Audio 3 is not: diffusers'
documentation of the pipeline has the script that converts it."""

_LICENCES = {
    "AceStepPipeline": "MIT (ACE-Step 1.5's weights, as ACE-Step/Ace-Step1.5 states it)",
    "StableAudio3Pipeline": "Stability AI Community License; its text encoder: Gemma Terms of Use",
}
MARKER = "harmonia-random.json"
"""Says of a folder that its weights are random."""
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class DiffusersCheckpoint:
    """name: as a person chose it. folder: where it lies; None where its snapshot isn't in the model hub's cache.

    source: hub id, or the folder. pipeline: the class in diffusers; "" where it can't be known yet. random: of its
    weights, else None.
    """

    name: str
    source: str
    folder: Path | None
    pipeline: str
    random: dict[str, Any] | None = None

    @property
    def licence(self) -> str:
        if self.random is not None:
            return "none: the weights are random"
        if self.source in NAMES.values() or self.source.startswith(("ACE-Step/", "stabilityai/")):
            return _LICENCES.get(self.pipeline, f"see the model card of {self.source}")
        return f"not known; of the released weights: {_LICENCES.get(self.pipeline, '?')}"

    def here(self) -> Path:
        """Return the folder. Raises AudioError (AUDIO_UNAVAILABLE) where the checkpoint must be fetched first."""
        if self.folder is None:
            raise unavailable(
                f"{self.source} is not in the model hub's cache.",
                f"Fetch it once (some ten gigabytes): hf download {self.source}",
            )
        return self.folder


def is_checkpoint(model: str) -> bool:
    """Return whether a model's name means one of these: a short name, or a folder with the layout's index."""
    return model.strip() in NAMES or (expanded(model) / INDEX).is_file()


def find_checkpoint(model: str) -> DiffusersCheckpoint:
    """Return the checkpoint for a short name, a hub id or a folder. Nothing is downloaded.

    Raises InvalidRequest if `model` is none of these, AudioError (AUDIO_UNAVAILABLE) for a folder that is no checkpoint
    of a pipeline that this engine knows.
    """
    name = model.strip()
    folder = expanded(name)
    if name and folder.is_dir():
        return _read(name, str(folder.absolute()), folder.absolute())
    hub_id = NAMES.get(name, name)
    if not _HUB_ID.fullmatch(hub_id) or hub_id.startswith(("./", "../")):
        raise InvalidRequest(
            f"There is no model {name[:80]!r} for the diffusers engine, and no such folder.",
            hint=f"Known: {', '.join(NAMES)}; a model hub id; or a folder with {INDEX}.",
            details={"fields": ["audio_model"], "known": sorted(NAMES)},
        )
    cached = _cached(hub_id)
    if cached is None:
        return DiffusersCheckpoint(name, hub_id, None, PIPELINES[0] if name in NAMES else "")
    return _read(name, hub_id, cached)


def _read(name: str, source: str, folder: Path) -> DiffusersCheckpoint:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        pipeline = str(index.get("_class_name", "")) if isinstance(index, dict) else ""
    except FileNotFoundError:
        raise unavailable(
            f"{folder} has no {INDEX}: it is no checkpoint in diffusers' layout.",
            "Name a folder that diffusers saved, or make one with random weights: "
            "harmonia setup diffusers --random acestep DIR",
        ) from None
    except (OSError, ValueError) as error:
        raise unavailable(f"{folder / INDEX} cannot be read: {error}", "Get the checkpoint again.") from error
    if pipeline not in PIPELINES:
        raise unavailable(
            f"{folder} is a checkpoint of {pipeline or 'no pipeline'}, which this engine doesn't know.",
            f"It knows {' and '.join(PIPELINES)}.",
        )
    random: dict[str, Any] | None = None
    if (folder / MARKER).is_file():
        random = {"weights": "random"}
    return DiffusersCheckpoint(name, source, folder, pipeline, random)


def _cached(hub_id: str) -> Path | None:
    """Return the newest snapshot of a model in the hub's cache."""
    try:
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - 0.1 s
    except ImportError:
        return None
    path = try_to_load_from_cache(hub_id, INDEX)
    return Path(path).parent if isinstance(path, str) else None


def unavailable(message: str, hint: str) -> AudioError:
    return AudioError(message, code=ErrorCode.AUDIO_UNAVAILABLE, hint=hint)
