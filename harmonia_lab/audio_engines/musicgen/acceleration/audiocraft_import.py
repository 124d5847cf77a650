"""`import audiocraft` where packages are missing that its inference imports and never calls.

Owns when the stand-ins of `audiocraft_standins.py` are used for a script's own import: where `harmonia setup musicgen`
installed audiocraft without xformers, av and the like. A complete installation is imported as it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import loading_audiocraft, stand_ins_are_installed

__all__ = ["make_importable"]

_IMPORTED = (
    "av", "demucs", "dora", "flashy", "hydra", "librosa", "num2words", "spacy", "torchaudio", "torchmetrics",
    "xformers",
)  # fmt: skip
"""What `import audiocraft` and its melody conditioner import beyond the extra `musicgen`."""


def make_importable() -> None:
    """Let `import audiocraft`, from now on, work without the packages that its inference never calls."""
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandInFinder())


class _StandInFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "audiocraft" or stand_ins_are_installed() or all(map(_is_there, _IMPORTED)):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec, spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs audiocraft's own loader while the stand-ins are there."""

    def __init__(self, spec: ModuleSpec, own: importlib.abc.Loader) -> None:
        self._spec, self._own = spec, own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._spec.loader = module.__loader__ = self._own
        with loading_audiocraft():
            self._own.exec_module(module)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # somebody's stand-in, without a spec
        return True
