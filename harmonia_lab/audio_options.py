"""The audio engine's settings for one song: which engine takes which, and how people write them.

Owns the answer for all installed engines at once, and its refusals, which say which engine would do. What an engine
makes of an option is its own (`engines/base.py`: `TakesSongOptions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.engine_registry import audio_specs
from harmonia_lab.engines.base import TakesSongOptions, engine_for_song
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    from harmonia_lab.engines.base import AudioEngine
    from harmonia_lab.engines.engine_option import EngineOption
    from harmonia_lab.protocol.models import SongRequest

__all__ = [
    "check_options",
    "known_options",
    "option_value",
    "with_absolute_paths",
    "with_paths_from",
    "with_recordings",
]

_SWITCH = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def known_options() -> dict[str, EngineOption]:
    """Return every option that some installed engine takes for one song, by name."""
    found: dict[str, EngineOption] = {}
    for spec in audio_specs().values():
        for option in spec.options:
            if option.per_song:
                found.setdefault(option.name, option)
    return found


def check_options(engine: AudioEngine, options: Mapping[str, Any] | None) -> None:
    """Raise InvalidRequest for the first option that the engine doesn't take, or whose value it can't use.

    The error's field is the option's name; its hint says which engines take it.
    """
    for name in options or {}:
        if name not in _taken(engine):
            raise InvalidRequest(
                f"The {engine.name} engine takes no {name} for a song.",
                hint=_who_takes(name),
                details={"fields": [name]},
            )
    engine_for_song(engine, options)


def with_recordings(request: SongRequest, engine: AudioEngine, replaced: Callable[[str], str]) -> SongRequest:
    """Return the request with `replaced` of each recording in its options. Raises what `replaced` raises."""
    options, taken = request.audio_options or {}, _taken(engine)
    named = {name: str(value) for name, value in options.items() if name in taken and taken[name].type is Path}
    if not named:
        return request
    found = {name: replaced(value) for name, value in named.items()}
    return request.model_copy(update={"audio_options": {**options, **found}})


def with_absolute_paths(request: SongRequest, engine: AudioEngine) -> SongRequest:
    """Return the request with its recordings by absolute paths, for another process or another day."""
    return with_recordings(request, engine, lambda path: str(Path(path).expanduser().absolute()))


def with_paths_from(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's or a design's options, in which recordings are relative to its folder, with absolute paths."""
    known = known_options()
    return {
        name: str((folder / Path(value).expanduser()).absolute())
        if name in known and known[name].type is Path and isinstance(value, str | Path)
        else value
        for name, value in options.items()
    }


def option_value(name: str, given: Any) -> Any:
    """Return the value of an option of some engine that a person wrote in a cell or a form, or that a table has.

    What isn't of the option's type stays as it is, for the engine to refuse.
    """
    option = known_options().get(name)
    kind: Any = str if option is None else option.type
    written = given.strip() if isinstance(given, str) else given
    try:
        if kind is bool and isinstance(written, str):
            return _SWITCH[written.casefold()]
        if kind is int and isinstance(written, str | float):
            return int(written) if float(written) == int(written) else written  # a frame's column with a gap has floats
        return float(written) if kind is float and not isinstance(written, bool) else written
    except (ValueError, TypeError, KeyError):
        return written


def _taken(engine: AudioEngine) -> dict[str, EngineOption]:
    if not isinstance(engine, TakesSongOptions):
        return {}
    return {option.name: option for option in engine.song_options}


def _who_takes(name: str) -> str:
    takers = [spec.name for spec in audio_specs().values() if any(o.per_song and o.name == name for o in spec.options)]
    if takers:
        return f"Engines that take it: {', '.join(takers)}. Choose one (audio={takers[-1]!r}), or leave {name} out."
    known = known_options()
    import difflib  # noqa: PLC0415 - for an error's words alone

    near = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
