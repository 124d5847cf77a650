"""The settings that `harmonia serve --settings` reads, and that a kernel passes to its isolated server.

Owns their form: one JSON object, {"lab": …, "server": …}, named as the parameters of `Lab` and the fields of
`ServerSettings`. An engine that is an object can't be passed to another process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harmonia_lab.engine_registry import metadata_settings_to_json, settings_to_json
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.retention import Retention
from harmonia_lab.protocol.models import explain
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import absolute

__all__ = ["LabSettings", "ServeSettings", "read_settings"]


@dataclass(frozen=True)
class LabSettings:
    """The parameters of `Lab`, as plain JSON values."""

    metadata: str = "auto"
    model: str | None = None
    metadata_settings: dict[str, Any] = field(default_factory=dict, repr=False)
    audio: str = "auto"
    audio_model: str | None = None
    audio_settings: dict[str, Any] = field(default_factory=dict)
    songs: str = "songs"
    home: str | None = None
    limits: TimeLimits = field(default_factory=TimeLimits)
    retention: Retention = field(default_factory=Retention)
    redis: str | None = field(default=None, repr=False)
    cluster: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> LabSettings:
        """Make them from parameters of `Lab`. Paths become absolute, for a process with another working folder.

        Raises InvalidRequest for an engine that is an object.
        """
        plain = dict(given)
        for name in ("metadata", "audio"):
            if not isinstance(plain[name], str):
                raise InvalidRequest(
                    f"An isolated server can't use the {name} engine that this lab was given: an object stays in its"
                    " process.",
                    hint=f'Make the lab with an engine\'s name (Lab({name}="auto")), or serve from the kernel'
                    " (isolated=False).",
                    details={"fields": [name]},
                )
        for name in ("songs", "home"):
            plain[name] = str(absolute(plain[name]))
        if plain["audio_model"] is not None:
            plain["audio_model"] = str(plain["audio_model"])
        settings = settings_to_json(plain["audio"], plain["audio_model"], plain["audio_settings"])
        written = metadata_settings_to_json(plain["metadata"], plain.get("metadata_settings") or {})
        return cls(**plain | {"audio_settings": settings, "metadata_settings": written})


class ServeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    lab: LabSettings = Field(default_factory=LabSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)

    @classmethod
    def parse(cls, text: str | bytes) -> ServeSettings:
        """Read them from JSON. Raises InvalidRequest that names the value that can't be used."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidRequest(f"The settings can't be used: {explain(error)}") from None

    def with_options(self, options: Mapping[str, Any]) -> ServeSettings:
        """Return the settings, where an option that has a setting's name and is not None takes that setting's place."""
        return ServeSettings(lab=_replaced(self.lab, options), server=_replaced(self.server, options))


def read_settings(source: str) -> ServeSettings:
    """Read them from a file, or from one line of standard input for `-`. Raises InvalidRequest."""
    try:
        return ServeSettings.parse(sys.stdin.readline() if source == "-" else Path(source).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{source} cannot be read: {error}.", details={"fields": ["settings"]}) from None


Part = TypeVar("Part", LabSettings, ServerSettings)


def _replaced(part: Part, options: Mapping[str, Any]) -> Part:
    names = [each.name for each in fields(part) if options.get(each.name) is not None]
    return replace(part, **{name: options[name] for name in names})
