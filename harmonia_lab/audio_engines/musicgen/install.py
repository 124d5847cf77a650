"""MusicGen's installation: what is missing, and how `harmonia setup musicgen` runs pip.

Owns the list of packages. The stubs for the packages that are left out are in `audiocraft_standins.py`. Imports nothing
heavy.
"""

from __future__ import annotations

import importlib.metadata

__all__ = ["AUDIOCRAFT", "NEEDS", "TORCH", "missing", "pip_arguments"]

AUDIOCRAFT = "audiocraft==1.3.0"
"""Installed without its dependencies: it pins torch 2.1, and requires packages that text-to-music never calls."""

TORCH = "torch==2.13.0"
"""Installed only if there is no torch. An installed torch of any version is kept."""

NEEDS = ("einops", "julius", "numpy", "omegaconf", "soundfile", "transformers")
"""Distributions that audiocraft's text-to-music calls. The extra `musicgen` lists them and torch."""


def missing() -> list[str]:
    """Return the distributions that `harmonia setup musicgen` would add; none if MusicGen can be loaded."""
    return [name for name in ("torch", *NEEDS, "audiocraft") if not any(importlib.metadata.distributions(name=name))]


def pip_arguments() -> list[list[str]]:
    """Return the arguments of each `pip install` that this interpreter's environment needs, in order.

    The package index decides which build of torch comes (CPU, CUDA). Install the build you want first, and it is kept.
    """
    absent = missing()
    runs = []
    needs = [name for name in absent if name in NEEDS]
    if "torch" in absent:
        runs.append([TORCH, *needs])
    elif needs:
        # Naming the installed version keeps pip from replacing it with one that suits another package better.
        runs.append([f"torch=={importlib.metadata.version('torch')}", *needs])
    if "audiocraft" in absent:
        runs.append(["--no-deps", AUDIOCRAFT])
    return runs
