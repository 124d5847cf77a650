"""Which engines a lab works with: what a name stands for, and what "auto" means on this machine.

Owns nothing that runs but the audio engines that it made or was given, until `AudioEngines.close`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import ErrorCode, InvalidRequest, MetadataError

__all__ = ["AUDIO_ENGINES", "AudioEngines", "audio_again", "choose_metadata"]

PROBE_S = 0.5
"""How long "auto" waits for an Ollama to answer."""

AUDIO_ENGINES = ("sketch", "musicgen")
"""Those that a name stands for."""


def choose_metadata(choice: str | MetadataEngine, model: str | None) -> tuple[MetadataEngine, str]:
    """The engine for stage 1, and why it is that one.

    Raises InvalidRequest for an unknown name, MetadataError where the embedded model is needed and not installed, or is
    another than `model`.
    """
    if not isinstance(choice, str):
        return choice, "given"
    # The clients take a third of a second to load: not before an engine is wanted.
    from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine, installed_models, server_address  # noqa: PLC0415

    address = server_address()
    if choice == "ollama":
        return OllamaEngine(model), f"asked for, at {address}"
    if choice == "embedded":
        return _embedded(model, "asked for")
    if choice != "auto":
        raise InvalidRequest(
            f"There is no metadata engine {choice!r}.",
            hint="Known: auto, ollama, embedded.",
            details={"fields": ["metadata"]},
        )
    try:
        models = installed_models(address, PROBE_S)
    except MetadataError:
        return _embedded(model, f"no Ollama answers at {address}")
    if not models and model is None:
        return _embedded(model, f"Ollama at {address} has no model")
    return OllamaEngine(model), f"Ollama answers at {address}"


def _embedded(model: str | None, why: str) -> tuple[MetadataEngine, str]:
    from harmonia_lab.metadata_engines.embedded import EmbeddedServer  # noqa: PLC0415 - as in `choose_metadata`
    from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine  # noqa: PLC0415 - as above

    server = EmbeddedServer()
    if model not in (None, server.model):
        raise MetadataError(
            f"The embedded engine ({why}) has {server.model}, not {model}.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=f"Start Ollama, and `ollama pull {model}`; or name no model.",
            details={"installed": [server.model]},
        )
    return OllamaEngine(endpoint=server), why


class AudioEngines:
    """The audio engines of one lab, by name, made when they are first asked for. chosen: the one that a song gets."""

    def __init__(self, choice: str | AudioEngine, model: str | None, settings: Mapping[str, Any]) -> None:
        """choice, model, settings: as `Lab` takes them. Raises InvalidRequest, AudioError (MUSICGEN_UNAVAILABLE)."""
        self._model, self._settings = model, dict(settings)
        self._engines: dict[str, AudioEngine] = {}
        if choice == "auto":
            choice = "musicgen" if model is not None or settings else "sketch"
        if choice == "sketch" and (model is not None or settings):
            raise InvalidRequest(
                "The sketch engine has no models and no settings.",
                hint="Choose audio=musicgen for them.",
                details={"fields": ["audio", "audio_model" if model is not None else "audio_settings"]},
            )
        self.chosen = self._named(choice)

    def get(self, choice: str | AudioEngine | None = None, model: str | None = None) -> AudioEngine:
        """The engine of one song. choice: None is the lab's own. model: MusicGen's, unless it is what the engine has.

        Raises InvalidRequest for an unknown name, or a model that the engine hasn't; AudioError (MUSICGEN_UNAVAILABLE).
        """
        engine = self.chosen if choice in (None, "auto") else self._named(choice)
        if model is None or model in (engine.name, engine.record().get("model")):
            return engine
        if choice not in (None, "auto") and engine.name != "musicgen":
            raise InvalidRequest(
                f"The engine {engine.name} has no model {model!r}.", details={"fields": ["audio", "audio_model"]}
            )
        name = f"musicgen {model}"
        if name not in self._engines:
            self._engines[name] = self._make("musicgen", model)
        return self._engines[name]

    def forget(self, engine: AudioEngine) -> None:
        """Closes an engine that was given, and that no name must stand for."""
        if self._engines.get(engine.name) is engine:
            del self._engines[engine.name]
            engine.close()

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()

    def _named(self, choice: str | AudioEngine) -> AudioEngine:
        if not isinstance(choice, str):
            self._engines.setdefault(choice.name, choice)
            return choice
        if choice not in AUDIO_ENGINES and choice not in self._engines:
            raise InvalidRequest(
                f"There is no audio engine {choice!r}.",
                hint=f"Known: auto, {', '.join(AUDIO_ENGINES)}.",
                details={"fields": ["audio"]},
            )
        if choice not in self._engines:
            self._engines[choice] = self._make(choice, self._model)
        return self._engines[choice]

    def _make(self, name: str, model: str | None) -> AudioEngine:
        if name == "sketch":
            from harmonia_lab.audio_engines.sketch.engine import SketchEngine  # noqa: PLC0415 - numpy loads with the first engine

            return SketchEngine()
        from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine  # noqa: PLC0415 - as above
        from harmonia_lab.audio_engines.musicgen.settings import Settings  # noqa: PLC0415

        return MusicGenEngine(model or "small", Settings.of(self._settings))


def audio_again(recorded: Mapping[str, Any]) -> str | AudioEngine:
    """The audio engine that a song's record names, set as it was."""
    if recorded["engine"] != "musicgen":
        return str(recorded["engine"])
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.settings import Settings  # noqa: PLC0415

    return MusicGenEngine(recorded["model"], Settings.of(recorded["settings"]))
