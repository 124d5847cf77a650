"""What the diffusers engine needs to be installed. Owns the list. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata

__all__ = ["NEEDS", "missing", "pip_arguments"]

NEEDS = ("diffusers", "transformers", "torch")
"""Distributions that the pipelines import. The extra `diffusers` lists them."""


def missing() -> list[str]:
    """Return the distributions that `harmonia setup diffusers` would add."""
    return [name for name in NEEDS if not any(importlib.metadata.distributions(name=name))]


def pip_arguments() -> list[list[str]]:
    """Return the arguments of each `pip install` that this environment needs. An installed torch is kept as it is."""
    absent = missing()
    if not absent:
        return []
    if "torch" in absent:
        return [["torch==2.13.0", *(f"{name}>={_FLOORS[name]}" for name in absent if name != "torch")]]
    kept = f"torch=={importlib.metadata.version('torch')}"
    return [[kept, *(f"{name}>={_FLOORS[name]}" for name in absent)]]


_FLOORS = {"diffusers": "0.42", "transformers": "5"}
