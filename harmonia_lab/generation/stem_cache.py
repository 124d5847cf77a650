"""A cache of one song's finished stems, which another attempt uses unchanged.

Owns their files, `finished/<role>/<name>.wav` (32-bit float, so lossless) in the song's working folder, and the key of
the inputs that they were made from. The engine decides which stems are cached.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab._version import __version__
from harmonia_lab.engines.base import Stem
from harmonia_lab.errors import StorageError
from harmonia_lab.protocol.vocabulary import Role
from harmonia_lab.storage import storage_errors, write_bytes

if TYPE_CHECKING:
    from harmonia_lab.music.plan import Plan

__all__ = ["StemCache", "stems_key"]

_MADE_BY = ("engine", "model", "source", "randomWeights", "settings")
"""Parts of an engine's identity that change its stems."""


def stems_key(plan: Plan, seeds: Mapping[str, int], engine: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of all inputs that the stems depend on. engine: the engine's identity."""
    made_by = {name: engine.get(name) for name in _MADE_BY}
    inputs = [__version__, plan.to_json(), dict(seeds), made_by]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


class StemCache:
    """folder: made with the first stem. key: from `stems_key`."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def load(self) -> dict[str, Stem]:
        """Return the stems by name. Those with another key are deleted; one that can't be read is left out."""
        from harmonia_lab.audio_engines.audiofile import read_audio  # noqa: PLC0415 - numpy loads with stage 2

        try:
            if (self._folder / "key").read_text() != self._key:
                shutil.rmtree(self._folder, ignore_errors=True)
                return {}
        except OSError:
            return {}
        stems = {}
        for path in sorted(self._folder.glob("*/*.wav")):
            role: Role = path.parent.name  # type: ignore[assignment]  # `keep` made the folder
            try:
                audio, sample_rate = read_audio(path)
            except StorageError:
                continue  # the process exited while it wrote the file
            stems[path.stem] = Stem(path.stem, role, audio, sample_rate)
        return stems

    def keep(self, stem: Stem) -> None:
        """Write `stem` to the cache. Raises StorageError."""
        from harmonia_lab.audio_engines.audiofile import wav  # noqa: PLC0415

        folder = self._folder / stem.role
        with storage_errors(folder):
            self._folder.mkdir(exist_ok=True)  # not its parents: the song's folder is gone after a cancel
            folder.mkdir(exist_ok=True)
        write_bytes(self._folder / "key", self._key.encode())
        write_bytes(folder / f"{stem.name}.wav", wav(stem.audio, stem.sample_rate, "FLOAT"))

    def discard(self) -> None:
        """Delete the cache, once the song is written."""
        shutil.rmtree(self._folder, ignore_errors=True)
