"""MusicGen's installation: what is missing, and the commands of `harmonia setup musicgen`.

Owns the list of packages. The stubs for the packages that are left out are in `audiocraft_standins.py`. Imports nothing
heavy.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["AUDIOCRAFT", "NEEDS", "TORCH", "install_commands", "is_installed", "missing"]

AUDIOCRAFT = "audiocraft==1.3.0"
"""Installed without its dependencies: it pins torch 2.1, and requires packages that text-to-music never calls."""

TORCH = "torch==2.13.0"
"""Installed only if there is no torch. An installed torch of any version is kept."""

NEEDS = ("einops", "julius", "numpy", "omegaconf", "soundfile", "transformers")
"""Distributions that audiocraft's text-to-music calls. The extra `musicgen` lists them and torch."""


def missing() -> list[str]:
    """Return the distributions that `harmonia setup musicgen` would add; none if MusicGen can be loaded."""
    return [name for name in ("torch", *NEEDS, "audiocraft") if not _has(name)]


def is_installed() -> bool:
    return not missing()


def install_commands() -> list[list[str]]:
    """Return the commands of `harmonia setup musicgen` for this interpreter's environment, in order.

    The package index decides which build of torch comes (CPU, CUDA). Install the build you want first, and it is kept.
    Raise AudioError (MUSICGEN_UNAVAILABLE) if this Python has no pip.
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
        # Naming the installed version keeps pip from replacing it with one that suits another package better.
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
