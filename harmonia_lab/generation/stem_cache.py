"""A cache of one song's finished stems, which another attempt uses unchanged.

Owns their files, `finished/<role>/<name>.wav` (32-bit float, so lossless) in the song's working folder, each with its
checksum beside it, and the key of the inputs that they were made from. The engine decides which stems are cached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab import storage
from harmonia_lab._version import __version__
from harmonia_lab.engines.base import Stem
from harmonia_lab.errors import StorageError
from harmonia_lab.protocol.vocabulary import Role

if TYPE_CHECKING:
    from harmonia_lab.music.plan import Plan

__all__ = ["StemCache", "stems_key"]

_MADE_BY = ("engine", "model", "source", "randomWeights", "settings")
"""Parts of an engine's identity that change its stems. "recordings" are one, too, where a song's options name some."""


def stems_key(plan: Plan, seeds: Mapping[str, int], engine: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of all inputs that the stems depend on. engine: the engine's identity."""
    made_by = {name: engine.get(name) for name in _MADE_BY}
    made_by |= {name: engine[name] for name in ("recordings",) if name in engine}
    inputs = [__version__, plan.to_json(), dict(seeds), made_by]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


class StemCache:
    """folder: made with the first stem. key: from `stems_key`."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def load(self) -> dict[str, Stem]:
        """Return the stems by name. Those with another key are deleted; one that isn't as it was written is missing."""
        from harmonia_lab.audio_engines.audiofile import read_audio  # noqa: PLC0415 - numpy loads with stage 2

        try:
            if (self._folder / "key").read_text(encoding="utf-8") != self._key:
                for folder in self._folder.glob("*/"):
                    storage.remove_tree(folder)
                return {}
        except (OSError, ValueError):  # ValueError: no text
            return {}
        stems = {}
        for path in sorted(self._folder.glob("*/*.wav")):
            role: Role = path.parent.name  # type: ignore[assignment]  # `keep` made the folder
            try:
                if _checksum(path) != _checksum_file(path).read_text(encoding="utf-8"):
                    continue  # the disk has changed it, or the process exited while it wrote the file
                audio, sample_rate = read_audio(path)
            except (OSError, ValueError, StorageError):
                continue
            stems[path.stem] = Stem(path.stem, role, audio, sample_rate)
        return stems

    def keep(self, stem: Stem) -> None:
        """Write `stem` to the cache. Raises StorageError."""
        from harmonia_lab.audio_engines.audiofile import wav  # noqa: PLC0415

        folder = self._folder / stem.role
        storage.make_folder(self._folder, exist_ok=True)  # not its parents: the song's folder is gone after a cancel
        storage.make_folder(folder, exist_ok=True)
        storage.write_bytes(self._folder / "key", self._key.encode())
        path, data = folder / f"{stem.name}.wav", wav(stem.audio, stem.sample_rate, "FLOAT")
        storage.write_bytes(path, data)
        storage.write_bytes(_checksum_file(path), hashlib.sha256(data).hexdigest().encode())

    def discard(self) -> None:
        """Delete the cache, once the song is written."""
        storage.remove_tree(self._folder)


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
