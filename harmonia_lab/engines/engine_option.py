"""`EngineOption`: one setting of an engine, as the command line and a song's own options offer it. Owns no engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["EngineOption"]


@dataclass(frozen=True)
class EngineOption:
    """A setting that the command line offers as `--name`, or under another `flag`.

    type: makes the value from the option's text. choices: the values that are allowed; None for any. metavar: stands
    for the value in a help text. repeated: whether it may be given several times; the value is then a list. Where two
    engines have an option of one name, the first one's is offered, and sets either engine.
    per_song: whether one song can have its own value. Its type is then str, int, float, bool, or Path for a recording,
    which a client of a server names by the id of an uploaded sound, and never by a path.
    """

    name: str
    help: str
    choices: tuple[str, ...] | None = None
    type: Callable[[str], Any] = str
    flag: str = ""
    metavar: str = ""
    repeated: bool = False
    per_song: bool = False
