"""Which of an engine's settings one song can have its own values of, and how these take the place of the lab's.

Owns the declaration, in the engine's settings, and the checks of names and types. Ranges, and what contradicts what,
are checked by the settings themselves when they are made. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harmonia_lab.engines.engine_option import EngineOption
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "checked_values",
    "described_options",
    "options_described",
    "recordings_in",
    "song_option",
    "song_options",
    "with_song_options",
]

Settings = TypeVar("Settings", bound="DataclassInstance")

_KEY = "harmonia_lab.song_option"

_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text"),
    Path: ((str, Path), "a file"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
}
"""Type of an option → the types of its values, and what a person calls it."""


_NAMES: dict[str, type] = {"text": str, "sound": Path, "boolean": bool, "integer": int, "number": float}
"""What a server calls the types."""


def song_option(
    default: Any, meaning: str, kind: type = str, *, choices: tuple[str, ...] | None = None, metavar: str = ""
) -> Any:
    """Declare a field of an engine's settings, a frozen dataclass, as one that a song can have its own value for.

    meaning: for people, in a help text. kind: str, int, float, bool, or Path for a recording. choices, metavar: as
    `EngineOption` has them.
    """
    assert kind in _KINDS
    return field(
        default=default, metadata={_KEY: {"help": meaning, "choices": choices, "type": kind, "metavar": metavar}}
    )


def song_options(settings: type[DataclassInstance]) -> tuple[EngineOption, ...]:
    """Return the options that the settings declare, in their order."""
    return tuple(
        EngineOption(name=each.name, **each.metadata[_KEY], per_song=True)
        for each in fields(settings)
        if _KEY in each.metadata
    )


def with_song_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Return a copy of the settings with one song's options.

    Raises InvalidRequest as `checked_values`, and what the settings raise for a value.
    """
    return replace(settings, **checked_values(song_options(type(settings)), options))


def checked_values(known: Sequence[EngineOption], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as the options' types.

    Raises InvalidRequest, with the option's name as field, for one that isn't known or is of another type.
    """
    by_name = {option.name: option for option in known}
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in by_name:
            import difflib  # noqa: PLC0415 - for an error's words alone

            near = difflib.get_close_matches(name, by_name, 1)
            raise InvalidRequest(
                f"No song can have its own {name}.",
                hint=f"Did you mean {near[0]}?" if near else f"Known: {', '.join(by_name)}.",
                details={"fields": [name]},
            )
        types, kind = _KINDS[by_name[name].type]  # type: ignore[index] # `song_option` checks it
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise InvalidRequest(f"{name} should be {kind} (got {str(value)[:40]!r}).", details={"fields": [name]})
        converted: Callable[..., Any] = by_name[name].type
        values[name] = converted(value)
    return values


def described_options(options: Sequence[EngineOption]) -> dict[str, str]:
    """Return name → type, as a server tells its clients."""
    names = {kind: name for name, kind in _NAMES.items()}
    return {option.name: names[option.type] for option in options}  # type: ignore[index] # as above


def options_described(described: Mapping[str, str]) -> tuple[EngineOption, ...]:
    """Return the options of a server's engine, from `described_options`. Types of a newer server's are left out."""
    return tuple(
        EngineOption(name, "", type=_NAMES[kind], per_song=True) for name, kind in described.items() if kind in _NAMES
    )


def recordings_in(settings: DataclassInstance) -> dict[str, Path]:
    """Return the recordings that the settings name, by the option's name."""
    named = {
        option.name: getattr(settings, option.name) for option in song_options(type(settings)) if option.type is Path
    }
    return {name: path for name, path in named.items() if path is not None}
