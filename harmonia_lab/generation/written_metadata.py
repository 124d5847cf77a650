"""What stage 1 wrote, kept in the song's working folder for another attempt, which needs no language model then.

Owns the file `stage-1.json` and its checksum, and the engine that returns what it holds. `artifacts.py` owns the
folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harmonia_lab import storage
from harmonia_lab.engines.base import CancelToken, MetadataProgress, MetadataResult
from harmonia_lab.protocol.models import SongMetadata, SongRequest

__all__ = ["WrittenMetadata", "keep_written_metadata", "read_written_metadata"]

_FILE = "stage-1.json"


class WrittenMetadata:
    """A `MetadataEngine` that returns what another one has written, under that one's name."""

    def __init__(self, name: str, model: str, result: MetadataResult) -> None:
        self.name, self.model, self.result = name, model, result

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        del request, seed, report, cancel
        return self.result

    def release(self) -> None:
        """Do nothing: no model is loaded."""

    def close(self) -> None:
        """Do nothing, as `release`."""


def keep_written_metadata(finished: Path, name: str, model: str, result: MetadataResult) -> None:
    """Write the result of the engine `name` into the folder `finished`, which is made. Raises StorageError."""
    storage.make_folder(finished, exist_ok=True)
    value = {
        "engine": name,
        "model": model,
        **asdict(result),
        "metadata": result.metadata.model_dump(mode="json", by_alias=True),
    }
    text = json.dumps({"sha256": _digest(value), "value": value}, ensure_ascii=False, default=str)
    storage.write_bytes(finished / _FILE, text.encode())


def read_written_metadata(finished: Path) -> WrittenMetadata | None:
    """Return an engine that returns what the folder has; None if there is nothing, or it isn't as it was written."""
    try:
        kept: Any = json.loads((finished / _FILE).read_bytes())
        value = kept["value"]
        if kept["sha256"] != _digest(value):
            return None
        engine, model = str(value.pop("engine")), str(value.pop("model"))
        metadata = SongMetadata.model_validate(value.pop("metadata"))
        return WrittenMetadata(engine, model, MetadataResult(metadata=metadata, **value))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ValidationError):
        return None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
