"""Names of models: how a name that a person writes leads to an installed model. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["canonical_name", "match_name"]

ALIASES = {"minstral3": "ministral-3"}
"""Accepted misspellings of model names. The guide has this one."""


def canonical_name(name: str) -> str:
    """Return the name with its misspelling corrected, and its tag as it is."""
    base, separator, tag = name.partition(":")
    return ALIASES.get(base, base) + separator + tag


def match_name(wanted: str, installed: Sequence[str]) -> str | None:
    """Return the installed name of `wanted`: itself, with the tag `latest`, or, if it has no tag, with any tag."""
    name = canonical_name(wanted)
    for candidate in (name, f"{name}:latest"):
        if candidate in installed:
            return candidate
    return next((other for other in installed if ":" not in name and other.startswith(f"{name}:")), None)
