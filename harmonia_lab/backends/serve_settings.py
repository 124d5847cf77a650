"""What `harmonia serve --settings` reads, and what one process tells another about the lab and the server to be.

Owns that form: one JSON object, {"lab": …, "server": …}, with the names of `Lab` and of `ServerSettings`. Engines that
are objects have no name, and can't be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.protocol.models import explain
from harmonia_lab.server.settings import ServerSettings

__all__ = ["LabSettings", "ServeSettings", "lab_settings"]


@dataclass(frozen=True)
class LabSettings:
    """What `Lab` takes, as far as it can be written down."""

    metadata: str = "auto"
    model: str | None = None
    audio: str = "auto"
    audio_model: str | None = None
    audio_settings: dict[str, Any] = field(default_factory=dict)
    songs: str = "songs"
    home: str | None = None
    limits: TimeLimits = field(default_factory=Limits)


class ServeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    lab: LabSettings = Field(default_factory=LabSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)

    @classmethod
    def parse(cls, text: str | bytes) -> ServeSettings:
        """Raises InvalidRequest that names what can't be used."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidRequest(f"The settings can't be used: {explain(error)}") from None

    def with_server(self, given: Mapping[str, Any]) -> ServerSettings:
        """given: what somebody has said beside them, and which therefore counts; None was not said."""
        return replace(self.server, **_said(given))

    def with_lab(self, given: Mapping[str, Any]) -> LabSettings:
        return replace(self.lab, **_said(given))


def lab_settings(given: Mapping[str, Any]) -> LabSettings:
    """given: by the names in `LabSettings`. Paths are made absolute: the other process may stand elsewhere.

    Raises InvalidRequest for an engine that is an object.
    """
    told = dict(given)
    for name in ("metadata", "audio"):
        if not isinstance(told[name], str):
            raise InvalidRequest(
                f"An isolated server can't use the {name} engine that this lab was given: an object stays in its"
                " process.",
                hint=f'Make the lab with an engine\'s name (Lab({name}="auto")), or serve from the kernel'
                " (isolated=False).",
                details={"fields": [name]},
            )
    for name in ("songs", "home"):
        told[name] = str(Path(told[name]).expanduser().absolute())
    if told["audio_model"] is not None:
        told["audio_model"] = str(told["audio_model"])
    asked = told["audio_settings"]
    plain = Settings.of(asked).to_json()
    told["audio_settings"] = {name: plain[name] for name in asked}
    return LabSettings(**told)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
