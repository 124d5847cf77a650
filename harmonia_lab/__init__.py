"""Harmonia Lab: songs from stories, and the study of how they are made.

Owns the public names. Each loads on first use, so that `import harmonia_lab` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harmonia_lab._version import __version__

__all__ = [
    "BlockingClient",
    "Cancelled",
    "Client",
    "HarmoniaError",
    "Instrument",
    "JobHandle",
    "Lab",
    "Song",
    "SongMetadata",
    "SongRequest",
    "__version__",
    "accelerate",
]

_HOMES = {
    "accelerate": "harmonia_lab.audio_engines.musicgen.acceleration.accelerate",
    "BlockingClient": "harmonia_lab.client",
    "Client": "harmonia_lab.client",
    "Cancelled": "harmonia_lab.errors",
    "HarmoniaError": "harmonia_lab.errors",
    "Instrument": "harmonia_lab.protocol.models",
    "JobHandle": "harmonia_lab.generation.handle",
    "Lab": "harmonia_lab.lab",
    "Song": "harmonia_lab.protocol.models",
    "SongMetadata": "harmonia_lab.protocol.models",
    "SongRequest": "harmonia_lab.protocol.models",
}

if TYPE_CHECKING:
    from harmonia_lab.audio_engines.musicgen.acceleration.accelerate import accelerate
    from harmonia_lab.client import BlockingClient, Client
    from harmonia_lab.errors import Cancelled, HarmoniaError
    from harmonia_lab.generation.handle import JobHandle
    from harmonia_lab.lab import Lab
    from harmonia_lab.protocol.models import Instrument, Song, SongMetadata, SongRequest


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harmonia_lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def load_ipython_extension(shell: Any) -> None:
    """Register the magics `%song` and `%%song`: `%load_ext harmonia_lab`."""
    importlib.import_module("harmonia_lab.magics").register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Close what the magics have made: `%unload_ext harmonia_lab`."""
    importlib.import_module("harmonia_lab.magics").unregister(shell)


def __dir__() -> list[str]:
    return sorted(__all__)
