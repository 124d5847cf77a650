"""Stems that are worth keeping while the rest of a song is made: another attempt takes them as they are.

Owns their files, `finished/<name>.wav` (32-bit float: nothing is lost) in the song's working folder, and the key that
says what they are stems of. Which stems are worth it is the engine's to say.
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
"""What of an engine's identity changes what comes out."""


def stems_key(plan: Plan, seeds: Mapping[str, int], engine: Mapping[str, Any]) -> str:
    """SHA-256, hex, of all that a stem depends on. engine: its identity."""
    made_by = {name: engine.get(name) for name in _MADE_BY}
    inputs = [__version__, plan.to_json(), dict(seeds), made_by]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


class StemCache:
    """Those of one song. folder: made with the first stem."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def load(self) -> dict[str, Stem]:
        """By name; none where what is there was made otherwise. One that can't be read is left out."""
        from harmonia_lab.audio_engines.audiofile import read_audio  # noqa: PLC0415 - numpy loads with stage 2

        try:
            if (self._folder / "key").read_text() != self._key:
                shutil.rmtree(self._folder, ignore_errors=True)
                return {}
        except OSError:
            return {}
        stems = {}
        for path in sorted(self._folder.glob("*/*.wav")):
            role: Role = path.parent.name  # type: ignore[assignment]  # `keep` named it so
            try:
                audio, sample_rate = read_audio(path)
            except StorageError:
                continue  # the process ended while it was written
            stems[path.stem] = Stem(path.stem, role, audio, sample_rate)
        return stems

    def keep(self, stem: Stem) -> None:
        """Raises StorageError."""
        from harmonia_lab.audio_engines.audiofile import wav  # noqa: PLC0415

        folder = self._folder / stem.role
        with storage_errors(folder):
            self._folder.mkdir(exist_ok=True)  # but not the song's own, which is gone where the song was given up
            folder.mkdir(exist_ok=True)
        write_bytes(self._folder / "key", self._key.encode())
        write_bytes(folder / f"{stem.name}.wav", wav(stem.audio, stem.sample_rate, "FLOAT"))

    def discard(self) -> None:
        """The song is whole without them."""
        shutil.rmtree(self._folder, ignore_errors=True)
