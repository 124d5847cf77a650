"""The arguments that choose engines and set them, the same for every command that makes songs.

Owns how they are offered, and how they become parameters of `Lab` and of one song. The engines' names and settings come
from `engine_registry.py`.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

__all__ = ["add_cluster", "add_engines", "add_settings", "lab_parameters", "song_parameters"]

_SETTINGS = ("metadata_settings", "audio_settings")
"""Parameters of `Lab`. In the namespace of the options, an engine's setting has the name of one of them, a dot, and its
own."""


def lab_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of `Lab` that `song` and `batch` were given."""
    chosen = {name: getattr(options, name) for name in ("metadata", "model", "audio", "audio_model")}
    settings: dict[str, dict[str, Any]] = {parameter: {} for parameter in _SETTINGS}
    for option, value in vars(options).items():
        parameter, dot, name = option.partition(".")
        if dot and value is not None:
            settings[parameter][name] = value
    where = {name: getattr(options, name, None) for name in ("server", "token", "ca", "cluster")}
    return chosen | settings | {name: value for name, value in where.items() if value is not None}


def song_parameters(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of `Lab` that `song` was given, and the audio engine's settings that are the song's own.

    Where no engine is named, the settings say which one is meant, as they do for `Lab`. Raises InvalidRequest where no
    engine has them.
    """
    from harmonia_lab.audio_options import known_options  # noqa: PLC0415 - as in `add_engines`
    from harmonia_lab.engine_registry import audio_engine_name  # noqa: PLC0415

    given = lab_parameters(options)
    settings = given["audio_settings"]
    own = {name: settings[name] for name in known_options() if name in settings}
    if own:
        given["audio"] = audio_engine_name(given["audio"], given["audio_model"], settings)
        given["audio_settings"] = {name: value for name, value in settings.items() if name not in own}
    return given, own


def add_engines(command: argparse.ArgumentParser, default: str | None) -> None:
    # Looking for other packages' engines takes 50 ms, which commands without engines need not wait.
    from harmonia_lab.engine_registry import AUDIO_GROUP, METADATA_GROUP, audio_specs, engine_names  # noqa: PLC0415

    described = "" if default else " (default auto)"
    names = ("auto", *engine_names(METADATA_GROUP))
    command.add_argument(
        "--metadata", choices=names, default=default, help=f"the engine that writes the lyrics{described}"
    )
    command.add_argument(
        "--metadata-model", dest="model", metavar="NAME", help="the language model, as its server names it"
    )
    names = ("auto", *engine_names(AUDIO_GROUP))
    command.add_argument(
        "--audio", choices=names, default=default, help=f"the engine that renders the music{described}"
    )
    models = "; ".join(spec.models for spec in audio_specs().values() if spec.models)
    command.add_argument("--audio-model", metavar="NAME|FOLDER", help=models.replace("%", "%%"))


def add_cluster(command: argparse.ArgumentParser, what: str = "have the songs made by this Dask cluster") -> None:
    command.add_argument(
        "--cluster",
        metavar="ADDRESS|local",
        help=f"{what}: its scheduler's address, or local (local:4) for processes of this machine",
    )


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add the engines' settings. An engine of another package can't replace an option of ours by its own."""
    from harmonia_lab.engine_registry import audio_specs, metadata_specs  # noqa: PLC0415 - as in `add_engines`

    offered = [("metadata_settings", option) for spec in metadata_specs().values() for option in spec.options]
    offered += [("audio_settings", option) for spec in audio_specs().values() for option in spec.options]
    for parameter, option in offered:
        flag = option.flag or f"--{option.name.replace('_', '-')}"
        common: dict[str, Any] = {"dest": f"{parameter}.{option.name}", "help": option.help.replace("%", "%%")}
        with contextlib.suppress(argparse.ArgumentError):
            if option.type is bool:
                command.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
                continue
            command.add_argument(
                flag,
                action="append" if option.repeated else "store",
                metavar=None if option.choices else option.metavar or option.name.upper(),
                type=str if option.type is Path else option.type,
                choices=option.choices,
                **common,
            )
