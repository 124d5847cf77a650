"""Engines by name: ours, those of other installed packages, and what "auto" means on this machine.

Owns the search for descriptions (`engines/spec.py`), and the audio engines that one lab made or was given, until
`AudioEngines.close`. What an engine is called, and which options it has, is in its own package.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import pkgutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from harmonia_lab.engines.base import Renewable, fresh_engine
from harmonia_lab.engines.spec import AudioEngineSpec, Claim, EngineSpec, Installation, MetadataEngineSpec
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.metadata_engines.stand_in import StandInEngine

if TYPE_CHECKING:
    from harmonia_lab.engines.base import AudioEngine, MetadataEngine

__all__ = [
    "AUDIO_GROUP",
    "METADATA_GROUP",
    "AudioEngines",
    "audio_engine_name",
    "audio_specs",
    "broken_engines",
    "check_metadata",
    "choose_metadata",
    "engine_names",
    "installations",
    "is_repeatable",
    "language_models",
    "metadata_settings_to_json",
    "metadata_specs",
    "settings_to_json",
    "song_settings",
]

AUDIO_GROUP, METADATA_GROUP = "harmonia_lab.audio_engines", "harmonia_lab.metadata_engines"
"""Entry-point groups in which another package names its engines. An entry point has the engine's name. Our engines are
in the packages of these names."""

# Ours have no entry points, so that they also work from a checkout that is not installed.
_OURS = {AUDIO_GROUP: ("sketch", "diffusers", "musicgen"), METADATA_GROUP: ("ollama", "embedded")}

_log = logging.getLogger(__name__)
Engine = TypeVar("Engine", "AudioEngine", "MetadataEngine")


def audio_specs() -> Mapping[str, AudioEngineSpec]:
    """Return the descriptions of the audio engines, by name: ours, then other packages'."""
    return _search(AUDIO_GROUP)[0]


def metadata_specs() -> Mapping[str, MetadataEngineSpec]:
    """Return the descriptions of the metadata engines, by name: ours, then other packages'."""
    return _search(METADATA_GROUP)[0]


def broken_engines() -> dict[str, str]:
    """Return why an engine of another package can't be used, by the engine's name."""
    return _search(AUDIO_GROUP)[1] | _search(METADATA_GROUP)[1]


def engine_names(group: str) -> list[str]:
    """Return the names of one kind of engine, broken ones included, which raise an error when they are chosen."""
    return [name for names in _search(group) for name in names]


def installations() -> dict[str, Installation]:
    """Return what `harmonia setup` can install, by the engine's name."""
    specs: list[EngineSpec] = [*metadata_specs().values(), *audio_specs().values()]
    return {spec.name: spec.installation for spec in specs if spec.installation is not None}


def is_repeatable(metadata_engine: str) -> bool:
    """Return whether this engine writes the same bytes again, on the same machine."""
    spec = metadata_specs().get(metadata_engine)
    return spec is not None and spec.repeatable


def audio_engine_name(audio: str, model: str | None, settings: Mapping[str, Any]) -> str:
    """Return the name of the engine that `AudioEngines` chooses. Raises InvalidRequest."""
    return _audio_spec(audio, model, settings).name


def settings_to_json(audio: str, model: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of an audio engine, chosen as `AudioEngines` chooses it, as plain JSON values."""
    return _audio_spec(audio, model, settings).settings_to_json(settings)


def metadata_settings_to_json(metadata: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a metadata engine as plain JSON values. "auto" means the one that has settings."""
    spec = _configurable(metadata) if settings else None
    return spec.settings_to_json(settings) if spec else {}


def song_settings(engine: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a metadata engine that decide what a song is like, as plain JSON values. "auto" means the
    one that has settings."""
    spec = _configurable(engine) if engine == "auto" and settings else metadata_specs().get(engine)
    return spec.song_settings(settings) if spec and spec.options else {}


def language_models(engine: str, settings: Mapping[str, Any], timeout_s: float) -> Sequence[str]:
    """Return the models that a metadata engine can be asked for, within `timeout_s`. Raises MetadataError."""
    spec = metadata_specs().get(engine)
    return spec.models(timeout_s, *_settings_for(spec, settings)) if spec else ()


def choose_metadata(
    choice: str | MetadataEngine, model: str | None, settings: Mapping[str, Any] | None = None
) -> tuple[MetadataEngine, str]:
    """Return the engine for stage 1, and why it is that one. settings: of the engine that has some, by name.

    Where "auto" would have taken an engine but for a fault, the engine's songs say so (`StandInEngine`).

    Raises InvalidRequest for an unknown name or setting, MetadataError where the engine can't be had.
    """
    settings = settings or {}
    if not isinstance(choice, str):
        if settings:
            raise InvalidRequest(
                "metadata_settings are for an engine by name, not for an object, which has its own.",
                details={"fields": ["metadata_settings"]},
            )
        return choice, "given"
    if settings:
        _configurable(choice)
    if choice != "auto":
        spec = _named(metadata_specs(), METADATA_GROUP, choice)
        return _make_metadata(spec, model, settings), spec.asked_for(*_settings_for(spec, settings))
    spec, claim = _claimed(model, settings)
    engine = _make_metadata(spec, model, settings)
    return (StandInEngine(engine, claim.warning) if claim.warning else engine), claim.reason


def check_metadata(choice: str, settings: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for an unknown name or setting. No engine is made or asked."""
    if settings:
        _configurable(choice).settings_to_json(settings)
    elif choice != "auto":
        _named(metadata_specs(), METADATA_GROUP, choice)


class AudioEngines:
    """The audio engines of one lab, by name, each made when it is first asked for. chosen: the lab's own."""

    def __init__(self, choice: str | AudioEngine, model: str | None, settings: Mapping[str, Any]) -> None:
        """choice, model, settings: as `Lab` takes them.

        Raises InvalidRequest for an unknown name, model or setting, AudioError where the engine can't be had.
        """
        self._engines: dict[str, AudioEngine] = {}
        self._model, self._settings = model, dict(settings)
        self._configured: str | None = None
        """Name of the engine that the model and the settings are for; None where the lab's own engine is an object."""
        if isinstance(choice, str):
            choice = self._configured = _audio_spec(choice, model, settings).name
        self.chosen = self._get(choice)

    def get(self, choice: str | AudioEngine | None = None, model: str | None = None) -> AudioEngine:
        """Return the engine of one song. choice: None is the lab's own. model: another one than the engine has.

        Raises InvalidRequest for an unknown name, or a model that the engine hasn't; AudioError where it can't be had.
        """
        choice = None if choice == "auto" else choice
        engine = self.chosen if choice is None else self._get(choice)
        if model is None or model in (engine.name, engine.identity().get("model")):
            return engine
        spec = audio_specs().get(engine.name)
        if spec is None or not spec.models:
            if choice is not None:
                raise InvalidRequest(
                    f"The engine {engine.name} has no model {model!r}.", details={"fields": ["audio", "audio_model"]}
                )
            spec = _audio_spec("auto", model, {})
        key = f"{spec.name} {model}"
        if key not in self._engines:
            self._engines[key] = _make(spec, model, self._settings if self._is_configured(spec) else {})
        return self._engines[key]

    def from_record(self, recorded: Mapping[str, Any]) -> AudioEngine:
        """Return the engine that a song's record describes: one that is here, or else a new one, for `forget`.

        Raises as `get`.
        """
        name = str(recorded["engine"])
        if (engine := self._engines.get(name)) is not None:
            identity = engine.identity()
            if all(identity.get(part) == recorded.get(part) for part in ("model", "settings")):
                return engine
        spec = audio_specs().get(name)
        return self.get(name) if spec is None else _made(spec, lambda: spec.from_record(recorded))

    def renew(self, engine: AudioEngine) -> AudioEngine:
        """Replace an engine in which a thread is stuck, and return the new one: made by the engine itself, or from its
        description. An object that can do neither stays."""
        spec = audio_specs().get(engine.name)
        if isinstance(engine, Renewable) or spec is None:
            renewed = fresh_engine(engine)
        else:
            renewed = _made(spec, lambda: spec.from_record(engine.identity()))
        self._engines = {key: renewed if each is engine else each for key, each in self._engines.items()}
        self.chosen = renewed if self.chosen is engine else self.chosen
        return renewed

    def forget(self, engine: AudioEngine) -> None:
        """Close an engine that one song needed. The lab's own stays."""
        if engine is not self.chosen:
            if self._engines.get(engine.name) is engine:
                del self._engines[engine.name]
            engine.close()

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()

    def _get(self, choice: str | AudioEngine) -> AudioEngine:
        if not isinstance(choice, str):
            self._engines.setdefault(choice.name, _with_identity(choice))
            return choice
        if choice not in self._engines:
            spec = _named(audio_specs(), AUDIO_GROUP, choice)
            given = (self._model, self._settings) if self._is_configured(spec) else (None, {})
            self._engines[choice] = _make(spec, *given)
        return self._engines[choice]

    def _is_configured(self, spec: AudioEngineSpec) -> bool:
        return self._configured == spec.name or (self._configured is None and bool(spec.models or spec.options))


@functools.cache
def _search(group: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the group's descriptions by name, and why others can't be used. Warn of the latter once a process."""
    kind: type[EngineSpec] = AudioEngineSpec if group == AUDIO_GROUP else MetadataEngineSpec
    specs = {name: pkgutil.resolve_name(f"{group}.{name}.spec:ENGINE") for name in _OURS[group]}
    broken: dict[str, str] = {}
    found: defaultdict[str, list[importlib.metadata.EntryPoint]] = defaultdict(list)
    for point in importlib.metadata.entry_points(group=group):
        found[point.name].append(point)
    for name, points in found.items():
        packages = " and ".join(point.dist.name if point.dist else point.value for point in points)
        if name in specs or name == "auto":
            _log.warning("The engine %s of the package %s is left out: Harmonia Lab has that name.", name, packages)
        elif len(points) > 1:
            broken[name] = f"the packages {packages} both have an engine of this name"
        else:
            try:
                specs[name] = _load(points[0], kind)
            except Exception as error:  # noqa: BLE001 - whatever another package raises must not break our engines
                broken[name] = f"the package {packages} can't be used ({type(error).__name__}: {error})"
    for name, reason in broken.items():
        _log.warning("There is no engine %s: %s.", name, reason)
    return specs, broken


def _load(point: importlib.metadata.EntryPoint, kind: type[EngineSpec]) -> EngineSpec:
    """Return the description that the entry point names.

    Raises TypeError or ValueError for an object that is no description of that name, and what the import raises.
    """
    spec = point.load()
    if not isinstance(spec, kind):
        raise TypeError(f"{point.value} is of type {type(spec).__name__}, not {kind.__name__}")
    if spec.name != point.name:
        raise ValueError(f"{point.value} is called {spec.name!r}, and its entry point {point.name!r}")
    return spec


Spec = TypeVar("Spec", bound=EngineSpec)


def _named(specs: Mapping[str, Spec], group: str, name: str) -> Spec:
    """Return the description by this name. Raises InvalidRequest."""
    if name in specs:
        return specs[name]
    field = "audio" if group == AUDIO_GROUP else "metadata"
    broken = _search(group)[1].get(name)
    raise InvalidRequest(
        f"There is no {field} engine {name!r}{f': {broken}' if broken else ''}.",
        hint=f"Known: auto, {', '.join(specs)}.",
        details={"fields": [field]},
    )


def _claimed(model: str | None, settings: Mapping[str, Any]) -> tuple[MetadataEngineSpec, Claim]:
    """Return the first description that claims `model`, or the fallback's, why, and what a person must be told."""
    specs = metadata_specs()
    reasons, warnings = [], []
    for spec in specs.values():
        try:
            claim = Claim(*spec.claims_auto(model, *_settings_for(spec, settings)))
        except InvalidRequest:
            raise
        except Exception as error:  # noqa: BLE001 - as in `_search`
            claim = Claim(False, f"{spec.name} failed: {type(error).__name__}: {error}")
        if claim.accepted:
            return spec, claim
        reasons.append(claim.reason)
        warnings.append(claim.warning)
    fallback = next(spec for spec in specs.values() if spec.fallback)
    told = " ".join(filter(None, warnings))
    warning = f"The words are by {fallback.help}. {told}" if told else ""
    return fallback, Claim(True, "; ".join(filter(None, reasons)), warning)


def _settings_for(spec: MetadataEngineSpec, settings: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the last argument of a description's functions: none for an engine without settings."""
    return (settings,) if spec.options else ()


def _configurable(metadata: str) -> MetadataEngineSpec:
    """Return the description that settings are for: by name, or for "auto" the first that has some. Raises
    InvalidRequest."""
    with_options = [spec for spec in metadata_specs().values() if spec.options]
    spec = with_options[0] if metadata == "auto" else _named(metadata_specs(), METADATA_GROUP, metadata)
    if not spec.options:
        raise InvalidRequest(
            f"The {spec.name} engine has no settings.",
            hint=f"Engines that have: {', '.join(each.name for each in with_options)}.",
            details={"fields": ["metadata", "metadata_settings"]},
        )
    return spec


def _make_metadata(spec: MetadataEngineSpec, model: str | None, settings: Mapping[str, Any]) -> MetadataEngine:
    """Raises InvalidRequest, MetadataError."""
    return _made(spec, lambda: spec.make(model, *_settings_for(spec, settings)))


def _audio_spec(choice: str, model: str | None, settings: Mapping[str, Any]) -> AudioEngineSpec:
    """Return the description by this name, or for "auto" that of the engine that claims `model` and `settings`.

    Raises InvalidRequest.
    """
    specs = audio_specs()
    if choice != "auto":
        return _named(specs, AUDIO_GROUP, choice)
    if model is None and not settings:
        return next(spec for spec in specs.values() if spec.fallback)
    for spec in specs.values():
        if spec.claims_auto(model, settings):
            return spec
    raise InvalidRequest(
        f"No audio engine has the settings {', '.join(settings)}.",
        hint=f"Name the engine, and the error lists its settings: {', '.join(_with_settings())}.",
        details={"fields": list(settings)},
    )


def _with_settings() -> Iterator[str]:
    return (spec.name for spec in audio_specs().values() if spec.models or spec.options)


def _make(spec: AudioEngineSpec, model: str | None, settings: Mapping[str, Any]) -> AudioEngine:
    """Raises InvalidRequest, AudioError."""
    wrong = [("audio_model", "models")] if model is not None and not spec.models else []
    wrong += [("audio_settings", "settings")] if settings and not spec.options else []
    if wrong:
        raise InvalidRequest(
            f"The {spec.name} engine has no {' and no '.join(what for _, what in wrong)}.",
            hint=f"Engines that have: {', '.join(_with_settings())}.",
            details={"fields": ["audio", *(field for field, _ in wrong)]},
        )
    return _with_identity(_made(spec, lambda: spec.make(model, settings)))


def _with_identity(engine: AudioEngine) -> AudioEngine:
    """Return the engine. Raises InvalidRequest for an object that has no method `identity`."""
    if not hasattr(engine, "identity"):
        raise InvalidRequest(
            f"The audio engine {engine!r} has no method identity().",
            hint="See `AudioEngine` in harmonia_lab/engines/base.py.",
            details={"fields": ["audio"]},
        )
    return engine


def _made(spec: EngineSpec, make: Callable[[], Engine]) -> Engine:
    """Return what `make` makes. Raises its HarmoniaError, or InvalidRequest for any other error or another name."""
    try:
        engine = make()
    except HarmoniaError:
        raise
    except Exception as error:
        raise InvalidRequest(f"The engine {spec.name} can't be made: {type(error).__name__}: {error}.") from error
    if engine.name != spec.name:
        raise InvalidRequest(f"The engine {spec.name} calls itself {engine.name!r}, so no record could name it.")
    return engine
