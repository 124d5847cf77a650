"""The description of an engine: its name and options, how it is made, checked and installed.

Owns the two descriptions that `engine_registry.py` collects, those of our engines and those of other packages. What a
made engine does is in `base.py`. Imports nothing heavy, since `harmonia song --help` reads the descriptions: a module
that holds one imports its engine inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harmonia_lab.engines.engine_option import EngineOption
from harmonia_lab.errors import ErrorCode

if TYPE_CHECKING:
    from pathlib import Path

    from harmonia_lab.engines.base import AudioEngine, MetadataEngine

__all__ = [
    "AudioEngineSpec",
    "Check",
    "Claim",
    "EngineOption",
    "EngineSpec",
    "Installation",
    "MetadataEngineSpec",
    "ModelEntry",
    "Verdict",
]

Verdict = Literal["ok", "missing", "optional"]


@dataclass(frozen=True)
class Check:
    """One line of `harmonia doctor`.

    verdict: ok; missing (songs can't be made); optional (they can). mend: a command, or what to do; when ok, what would
    be better, or "".
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


class Claim(NamedTuple):
    """Whether "auto" takes an engine for stage 1, and why, or why not.

    warning: what a person who expected that engine must be told with every song, since it was declined for a fault; ""
    where there is nothing to tell.
    """

    accepted: bool
    reason: str
    warning: str = ""


@dataclass(frozen=True)
class ModelEntry:
    """A model that is here, or could be: a line of `harmonia models`.

    engine: by which it is used. stage: 1 writes the words, 2 makes the sound. where: a folder or an address; "" for a
    model that isn't here. size_bytes: on the disk, or to download; None if not known. can: what it takes and makes,
    such as "melody" (it follows one) and "stereo". sings: whether its sound has the words; None for stage 1.
    needs_bytes: of memory, for a song. fits: whether that is available now; None if not known. missing: what it lacks;
    empty if it can be used. fetch: the command that mends that.
    """

    engine: str
    stage: Literal[1, 2]
    name: str
    where: str = ""
    size_bytes: int | None = None
    licence: str = ""
    can: tuple[str, ...] = ()
    sings: bool | None = None
    needs_bytes: int | None = None
    fits: bool | None = None
    missing: tuple[str, ...] = ()
    fetch: str = ""


@dataclass(frozen=True)
class Installation:
    """What `harmonia setup NAME` does. title: what it installs, for messages. code: of the error when a command fails.

    is_installed: whether there is nothing to do. pip_arguments: of each `pip install` to be run, in this order.
    random_model: makes a model with random weights, from a size and a folder, and returns the folder; None where the
    engine has no such model. prepare: what is done after the installs, so that no song waits for it.
    """

    title: str
    help: str
    code: ErrorCode
    is_installed: Callable[[], bool]
    pip_arguments: Callable[[], Sequence[Sequence[str]]]
    random_model: Callable[[str, str], Path] | None = None
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """What the descriptions of both kinds of engine have in common.

    name: what a person chooses it by; a made engine has the same name. help: what it is, in a few words.
    fallback: whether "auto" takes it where no other engine claims the song. At most one engine of a kind is one.
    invitation: how a person who got the fallback gets this engine instead. check: the engine's line of `harmonia
    doctor`. check_asked: whether a song can be made now with this model (None: the default) and these settings by name:
    returns what was found, raises HarmoniaError; None where it is enough that the engine can be made.
    installation: None where pip alone installs all that the engine needs. inventory: the engine's models that are here,
    in these folders too, and those that could be; it changes and downloads nothing. fetch: downloads one by its name,
    reports statuses, and returns where it is; raises HarmoniaError. Both None where there is no choice of models.
    """

    name: str
    help: str
    fallback: bool = False
    invitation: str = ""
    check: Callable[[], Check] | None = None
    check_asked: Callable[[str | None, Mapping[str, Any]], str] | None = None
    installation: Installation | None = None
    inventory: Callable[[Sequence[Path]], Sequence[ModelEntry]] | None = None
    fetch: Callable[[str, Callable[[str], None]], str] | None = None


@dataclass(frozen=True, kw_only=True)
class AudioEngineSpec(EngineSpec):
    """An engine for stage 2. The entry-point group `harmonia_lab.audio_engines` holds objects of this class.

    make: from a model's name (None: the default) and settings by name; raises InvalidRequest for what it doesn't know,
    AudioError where the engine can't be had. models: what `--audio-model` may name, as a help text; empty where the
    engine has no models. options: the settings that the command line offers; empty where the engine has no settings.
    Of an engine that has some `per_song`, `song_options` are these (`engines.base.TakesSongOptions`).
    claims_auto: whether "auto" means this engine, given a model or settings; not asked when neither is given.
    settings_to_json: the settings as plain JSON values, for another process. note: what a person reads after a song,
    from the engine's part of the song's record.
    """

    make: Callable[[str | None, Mapping[str, Any]], AudioEngine]
    models: str = ""
    options: tuple[EngineOption, ...] = ()
    claims_auto: Callable[[str | None, Mapping[str, Any]], bool] = lambda _model, _settings: False
    settings_to_json: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    note: Callable[[Mapping[str, Any]], str] | None = None

    def from_record(self, record: Mapping[str, Any]) -> AudioEngine:
        """Make the engine that a song's record describes, by its keys `model` and `settings`. Raises as `make`."""
        return self.make(record.get("model") if self.models else None, record.get("settings") or {})


@dataclass(frozen=True, kw_only=True)
class MetadataEngineSpec(EngineSpec):
    """An engine for stage 1. The entry-point group `harmonia_lab.metadata_engines` holds objects of this class.

    make: from a language model's name (None: the default); raises InvalidRequest for what it doesn't know,
    MetadataError where the engine can't be had. claims_auto: whether "auto" means this engine, given a model's name.
    asked_for: the reason to show where a person named the engine. models: names of models to choose from, asked for at
    most so many seconds; raises MetadataError. These four get the settings by name as one more argument, if the engine
    has `options`.
    options: the settings that the command line offers; empty where the engine has no settings. settings_to_json: as in
    `AudioEngineSpec`. song_settings: of these, as JSON values, those that decide what a song is like: two songs of a
    batch are the same only if they are equal. repeatable: whether it writes the same bytes again, on the same machine.
    note: what a person reads after a song, from the model's name and the reason for the engine.
    """

    make: Callable[..., MetadataEngine]
    claims_auto: Callable[..., Claim | tuple[bool, str]] = lambda _model, _settings=None: Claim(False, "")
    asked_for: Callable[..., str] = lambda _settings=None: "asked for"
    models: Callable[..., Sequence[str]] = lambda _timeout_s, _settings=None: ()
    options: tuple[EngineOption, ...] = ()
    settings_to_json: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    song_settings: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    repeatable: bool = False
    note: Callable[[str, str], str] | None = None
