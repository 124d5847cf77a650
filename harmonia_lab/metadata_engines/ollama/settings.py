"""The settings of the `ollama` engine, as `Lab(metadata_settings=…)`, the command line and settings files give them.

Owns names, forms, ranges, and what of them a record may hold. Imports nothing heavy.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.storage import expanded

__all__ = ["OllamaSettings", "Strategy", "ThinkLevel", "Timeouts"]

Strategy = Literal["auto", "structured", "stepwise"]
ThinkLevel = Literal["low", "medium", "high"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True)
class Timeouts:
    """Seconds, each more than 0. connect: to the server. load: of the model. first: until an answer's first token,
    which the prompt and other people's requests delay. between: two pieces of an answer. busy: all waits for a server
    that has too much to do (HTTP 429 and 503)."""

    connect: float = 5.0
    load: float = 300.0
    first: float = 300.0
    between: float = 60.0
    busy: float = 120.0

    @classmethod
    def of(cls, given: Any) -> Timeouts:
        """Read a mapping, or a text such as "connect=5,first=600". Raises InvalidRequest."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            pairs = [part.partition("=") for part in given.split(",") if part.strip()]
            given = {name.strip(): value for name, _, value in pairs}
        if not isinstance(given, Mapping):
            raise _refused("timeouts", "must be seconds by name")
        names = [each.name for each in fields(cls)]
        unknown = [str(name) for name in given if name not in names]
        if unknown:
            raise _refused("timeouts", f"have no {', '.join(unknown)}", f"Known: {', '.join(names)}.")
        return cls(**{name: _seconds(name, value) for name, value in given.items()})


@dataclass(frozen=True)
class OllamaSettings:
    """host: as OLLAMA_HOST, which is the default. headers: of each request; a secret. ca: a PEM file of the
    certificates that sign the server's, instead of the system's. timeouts: limits of a wait.

    think: False, True, or a level ("low", "medium", "high") for a model that thinks; None leaves it to the prompting
    strategy. strategy: auto chooses by the model's size. options: Ollama's, for every request. pull: whether to
    download a missing model. restart: a command that starts the server again when it is gone and reconnecting has not
    helped, such as "systemctl --user restart ollama"; run without a shell. None: no command.
    """

    host: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    think: bool | ThinkLevel | None = None
    strategy: Strategy = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    pull: bool = False
    restart: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> OllamaSettings:
        """Read settings by name. Raises InvalidRequest, which never quotes a header's value."""
        names = [each.name for each in fields(cls)]
        unknown = [name for name in given if name not in names]
        if unknown:
            raise _refused(unknown[0], "is no setting of the ollama engine", f"Known: {', '.join(names)}.")
        plain = {name: value for name, value in given.items() if value is not None}
        if "headers" in plain:
            plain["headers"] = _headers(plain["headers"])
        if "timeouts" in plain:
            plain["timeouts"] = Timeouts.of(plain["timeouts"])
        if "ca" in plain:
            plain["ca"] = str(expanded(plain["ca"]))
        _one_of(plain, "strategy", get_args(Strategy))
        _one_of(plain, "think", (True, False, *get_args(ThinkLevel)))
        for name, kind, what in (("host", str, "a text"), ("options", Mapping, "Ollama's options by name"),
                                 ("pull", bool, "true or false"), ("restart", str, "a command")):  # fmt: skip
            if name in plain and not isinstance(plain[name], kind):
                raise _refused(name, f"must be {what}")
        if "restart" in plain:
            _check_command(plain["restart"])
        return cls(**plain)

    def to_json(self) -> dict[str, Any]:
        """Return what was given as JSON values, for another process: secrets included."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: value for name, value in given.items() if value != getattr(OllamaSettings(), name)}
        plain: dict[str, Any] = {"headers": dict(self.headers), "options": dict(self.options)}
        plain["timeouts"] = dict(vars(self.timeouts))
        if self.ca:
            plain["ca"] = str(Path(self.ca).absolute())
        return {name: plain.get(name, value) for name, value in changed.items()}

    def for_songs(self) -> dict[str, Any]:
        """Return those of `to_json` that decide what a song is like, and not how its words come here."""
        return {name: value for name, value in self.to_json().items() if name in ("think", "strategy", "options")}

    def record(self) -> dict[str, Any]:
        """Return what was given but for host and restart, for a song's record: headers by name alone."""
        shown = self.to_json()
        for private in ("host", "restart"):
            shown.pop(private, None)
        if "headers" in shown:
            shown["headers"] = sorted(shown["headers"])
        return shown


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise _refused("timeouts", f"{name} must be seconds, not {value!r}") from None
    if not 0 < seconds < float("inf"):
        raise _refused("timeouts", f"{name} must be more than 0 seconds")
    return seconds


def _headers(given: Any) -> dict[str, str]:
    """Read headers by name, or lines as "Name: value"; a line "@FILE" means the lines of that file."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Sequence):
        lines = [line for entry in given for line in _lines(str(entry))]
        if any(":" not in line for line in lines):
            raise _refused("headers", "must be written as NAME:VALUE")
        given = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if not isinstance(given, Mapping):
        raise _refused("headers", "must be values by name")
    found = {}
    for name, value in given.items():
        clean_name, clean = str(name).strip(), str(value).strip()
        if not _HEADER_NAME.fullmatch(clean_name):
            raise _refused("headers", f"{clean_name!r} is no name of a header")
        if not (clean.isascii() and clean.isprintable()):
            raise _refused("headers", f"the value of {clean_name} has characters that no header can have")
        found[clean_name] = clean
    return found


def _lines(entry: str) -> list[str]:
    if not entry.startswith("@"):
        return [entry]
    path = expanded(entry[1:])
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise _refused("headers", f"{path} can't be read: {why}") from None


def _check_command(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _refused("restart", f"is no command: {error}") from None
    if not words:
        raise _refused("restart", "is an empty command")


def _one_of(given: Mapping[str, Any], name: str, allowed: Sequence[Any]) -> None:
    if name in given and not any(given[name] is each or given[name] == each for each in allowed):
        raise _refused(name, f"is one of {', '.join(str(each) for each in allowed)}")


def _refused(name: str, fault: str, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"{name}: {fault}.", hint=hint, details={"fields": ["metadata_settings", name]})
