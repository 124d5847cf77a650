"""A server's engines, as the lab sees them that has its songs made there.

Owns what may be asked for: the server's own engines by their names, and nothing else. They stand in for
`metadata_choice.MetadataChoice` and `engine_registry.AudioEngines`; neither makes anything here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.engines.engine_option import EngineOption
from harmonia_lab.engines.song_options import checked_values, options_described
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.metadata_engines.ollama.names import canonical_name

__all__ = ["RemoteAudioEngines", "RemoteEngine", "RemoteMetadata"]

HERE = "Leave it out, or make the songs on this machine: Lab(server='')."


class RemoteEngine:
    """One engine of the server. described: as a song's record names it: engine, model, settings. song_options: those
    that a song can have for itself."""

    uses_gpu = False

    def __init__(self, url: str, described: Mapping[str, Any], song_options: Sequence[EngineOption] = ()) -> None:
        self._url, self._described, self.song_options = url, dict(described), song_options
        self.name = str(described.get("engine"))
        self.model = str(described.get("model") or "")

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in self._described.items() if name != "engine"}

    def record(self) -> dict[str, Any]:
        return self.identity()

    def for_song(self, options: Mapping[str, Any]) -> RemoteEngine:
        """Return the engine, whose server has the last word on values. Raises InvalidRequest for a name or a type that
        it doesn't take, or a recording that isn't here."""
        for name, value in checked_values(self.song_options, options).items():
            if isinstance(value, Path) and not value.is_file():
                raise InvalidRequest(f"The recording {value} does not exist.", details={"fields": [name]})
        return self

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "render", "prepare"):
            raise HarmoniaError(f"{self.name} is {self._url}'s engine: it makes nothing here.")
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"{self.name} at {self._url}"


class RemoteMetadata:
    """Stage 1 of a lab elsewhere. Has the methods of `MetadataChoice` that `Lab` calls."""

    def __init__(self, url: str, described: Mapping[str, Any], asked: str, model: str | None) -> None:
        """asked, model: as `Lab` was given them. Raises InvalidRequest for another engine or model."""
        self.engine = RemoteEngine(url, described)
        self.reason = f"the engine of {url}"
        if asked not in ("auto", self.name):
            raise _refused(url, "metadata", asked, f"its words are by {self.name}")
        if model is not None and canonical_name(model) != self.model:
            raise _refused(url, "model", model, f"its words are by {self.model}")

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def model(self) -> str:
        return self.engine.model

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


class RemoteAudioEngines(AudioEngines):
    """Stage 2 of a lab elsewhere."""

    def __init__(
        self, url: str, described: Mapping[str, Any], options: Mapping[str, str], asked: str, model: str | None
    ) -> None:
        """options: type by name, of what a song can set. asked, model: as `Lab` was given them. Raises InvalidRequest
        for another engine or model."""
        # Without the base's: it would make an engine here.
        self._url = url
        self.chosen: Any = RemoteEngine(url, described, options_described(options))
        self.get(asked, model)

    def get(self, choice: Any = None, model: str | None = None) -> Any:
        """Return the server's engine. Raises InvalidRequest if another is asked for."""
        if choice not in (None, "auto", self.chosen.name) and choice is not self.chosen:
            asked = choice if isinstance(choice, str) else getattr(choice, "name", type(choice).__name__)
            raise _refused(self._url, "audio", asked, f"its music is by {self.chosen.name}")
        if model is not None and model not in (self.chosen.name, self.chosen.model):
            raise _refused(self._url, "audio_model", model, f"its music is by {self.chosen.model or self.chosen.name}")
        return self.chosen

    def from_record(self, recorded: Mapping[str, Any]) -> Any:
        """Return the server's engine, if it is the one of a song's record. Raises InvalidRequest."""
        engine, identity = self.get(str(recorded["engine"])), self.chosen.identity()
        if any(identity.get(part) != recorded.get(part) for part in ("model", "settings")):
            raise InvalidRequest(
                f"The song was made with another model of {engine.name}, or other settings, than {self._url} has.",
                hint=HERE,
                details={"fields": ["audio"]},
            )
        return engine

    def forget(self, engine: object) -> None:
        del engine

    def close(self) -> None:
        pass


def _refused(url: str, field: str, asked: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{url} does not offer {field}={asked[:80]!r}: {why}.", hint=HERE, details={"fields": [field]}
    )
