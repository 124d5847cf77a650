"""Parameters that take one value or several, as people and papermill give them: "sketch", 7, [7, 8], an array.

Owns how such a value becomes a list. Which values are allowed is checked where they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["as_list", "as_names", "as_numbers", "as_value"]

_NUMBERS = re.compile(r"\s*\d+(\.\d+)?\s*(,\s*\d+(\.\d+)?\s*)*")


def as_list(value: Any) -> list[Any]:
    """Return the values of an iterable, with numpy's numbers as Python's; any other value as the only one of a list.

    A text, bytes and a mapping are one value each. None is no value.
    """
    if value is None:
        return []
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return [as_value(value)]
    return [as_value(each) for each in value]


def as_numbers(value: Any) -> list[Any]:
    """As `as_list`. A text such as "7" or "7, 8", which papermill's command line gives for a list, is read."""
    if isinstance(value, str) and _NUMBERS.fullmatch(value):
        return [float(number) if "." in number else int(number) for number in value.split(",")]
    return as_list(value)


def as_names(value: Any) -> list[Any]:
    """As `as_list`. A text such as "piano, cello" is several names."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return as_list(value)


def as_value(value: Any) -> Any:
    """Return a numpy scalar as the Python number that it holds, and any other value as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
