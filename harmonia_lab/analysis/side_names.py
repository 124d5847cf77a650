"""What differs between the two sides of a comparison, and which side of a difference is the better one.

Owns those two judgements: the columns that a researcher changes on purpose, and the direction of each figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["better_side", "sides_named", "what_differs"]

_CHANGED = {
    "audio_decoder": "decoder", "audio_settings": "", "audio_engine": "audio engine", "audio_model": "audio model",
    "metadata_engine": "words by", "metadata_model": "language model", "configuration": "configuration",
    "gpu": "GPU", "version": "version", "git_commit": "commit", "host": "host",
}  # fmt: skip
"""Column of the run log → what it is called, in the order in which it is looked for."""

_HIGHER = ("tokens_per_second", "steps_per_second")


def what_differs(a: pd.DataFrame, b: pd.DataFrame) -> tuple[str, str, str] | None:
    """Return what differs, and its value on either side, such as ("decoder", "reference", "fast"); None if nothing
    that is alike within each side does."""
    for column, called in _CHANGED.items():
        if column not in a or column not in b:
            continue
        sides = [_only(frame, column) for frame in (a, b)]
        if None in sides or sides[0] == sides[1]:
            continue
        one, other = sides
        if column == "audio_settings" and isinstance(one, dict) and isinstance(other, dict):
            for name in dict.fromkeys([*one, *other]):
                if one.get(name) != other.get(name):
                    return name, str(one.get(name)), str(other.get(name))
        return called, str(one), str(other)
    return None


def _only(frame: pd.DataFrame, column: str) -> Any:
    """Return the value that every run of a side has; None if they differ or lack it."""
    values = frame[column].dropna().tolist()
    alike = len(values) == len(frame) and all(value == values[0] for value in values)
    return values[0] if values and alike else None


def sides_named(a: pd.DataFrame, b: pd.DataFrame, given: tuple[str, str] | None) -> tuple[tuple[str, str], str]:
    """Return the names of the sides, and what differs as words; given: names that the caller chose.

    Raises InvalidRequest for two equal names.
    """
    found = what_differs(a, b)
    changed = f"{found[0]}: {found[1]} → {found[2]}" if found else ""
    names = (str(given[0]), str(given[1])) if given is not None else (found[1], found[2]) if found else ("A", "B")
    if names[0] == names[1]:
        raise InvalidRequest(f"Both sides are named {names[0]!r}.", hint="Give names=(one, another).")
    return names, changed


def better_side(column: str, ratio: float, names: tuple[str, str]) -> str:
    """Return the name of the better side: of times, sizes and the real-time factor the lower one."""
    b_is_better = ratio > 1 if column in _HIGHER else ratio < 1
    return names[1] if b_is_better else names[0]
