"""MusicGen's installation: is it there, and what `harmonia setup musicgen` runs.

Owns the list of packages. What stands in for the packages that are left out is in `audiocraft_standins.py`. Imports
nothing heavy.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["AUDIOCRAFT", "NEEDS", "TORCH", "install_commands", "is_installed", "missing"]

AUDIOCRAFT = "audiocraft==1.3.0"
"""Installed without its dependencies: it pins torch 2.1, and asks for what text-to-music never calls."""

TORCH = "torch==2.13.0"
"""What is installed where there is no torch. One that is installed already is left as it is, whatever its version."""

NEEDS = ("einops", "julius", "numpy", "omegaconf", "soundfile", "transformers")
"""What audiocraft's text-to-music does call, by distribution name. The extra `musicgen` lists them with torch."""


def missing() -> list[str]:
    """The distributions that `harmonia setup musicgen` would add; empty when MusicGen can be loaded."""
    return [name for name in ("torch", *NEEDS, "audiocraft") if not _has(name)]


def is_installed() -> bool:
    return not missing()


def install_commands() -> list[list[str]]:
    """The commands behind `harmonia setup musicgen`, for this interpreter's environment, in order.

    Which build of torch comes (CPU, CUDA) is the package index's business: install the one you want first, and it is
    kept. Raises AudioError (MUSICGEN_UNAVAILABLE) where this Python has no pip.
    """
    if importlib.util.find_spec("pip") is None:
        raise AudioError(
            f"{sys.executable} has no pip to install MusicGen with.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint=f"run: {sys.executable} -m ensurepip, or install {', '.join(missing())} by your own installer.",
        )
    pip = [sys.executable, "-m", "pip", "install"]
    absent = missing()
    commands = []
    needs = [name for name in absent if name in NEEDS]
    if "torch" in absent:
        commands.append([*pip, TORCH, *needs])
    elif needs:
        # Naming the installed version keeps pip from choosing another one for a package that would like it better.
        commands.append([*pip, f"torch=={importlib.metadata.version('torch')}", *needs])
    if "audiocraft" in absent:
        commands.append([*pip, "--no-deps", AUDIOCRAFT])
    return commands


def _has(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
