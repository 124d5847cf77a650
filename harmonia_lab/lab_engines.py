"""`LabEngines`: what a lab's songs are made with, and what a request may ask of it.

Owns the names of engines and models for tables and servers, and the checks of a song's own settings. `lab_core.py`
makes the songs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_options import check_options, with_absolute_paths, with_recordings
from harmonia_lab.backends.base import LOCAL_USER
from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.engine_registry import METADATA_GROUP, AudioEngines, engine_names, song_settings
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.sounds import Sounds

if TYPE_CHECKING:
    from harmonia_lab.backends.cluster.backend import ClusterMetadata
    from harmonia_lab.backends.remote_engines import RemoteMetadata

__all__ = ["LabEngines"]


class LabEngines:
    """The part of a lab that knows its engines. sounds: what clients of its servers have uploaded."""

    sounds: Sounds
    _arguments: Mapping[str, Any]
    _metadata: MetadataChoice | RemoteMetadata | ClusterMetadata
    _audio_engines: AudioEngines

    @property
    def audio_engine(self) -> AudioEngine:
        """The engine for stage 2; another one after a song was given up in it."""
        return self._audio_engines.chosen

    @property
    def metadata_engine(self) -> MetadataEngine:
        """The engine for stage 1, chosen when it is first needed. Raises MetadataError if it isn't available."""
        return self._metadata.engine

    @property
    def metadata_reason(self) -> str:
        """Why it is that one. Raises as `metadata_engine`."""
        return self._metadata.reason

    @property
    def metadata_choices(self) -> tuple[str, ...]:
        """Stage 1 as it was asked for, "auto" or an engine's name; then what else the same songs may be named by: the
        engines that "auto" may mean, or "auto". No engine is looked for."""
        asked = self._arguments["metadata"]
        if not isinstance(asked, str):
            return (asked.name,)
        return ("auto", *engine_names(METADATA_GROUP)) if asked == "auto" else (asked, "auto")

    def engines_for(
        self, request: SongRequest, audio: str | AudioEngine | None = None, *, metadata: str | None = None
    ) -> dict[str, Any]:
        """Return what `request` would be made with, as far as it was chosen: names of engines and models, settings.
        metadata: the engine of stage 1 to name, or "auto"; None: the lab's.

        Raises InvalidRequest for an unknown engine, or options of the song's that it doesn't take; the engine's error
        if it isn't available.
        """
        engine = self._audio_engines.get(audio, request.audio_model)
        check_options(engine, request.audio_options)
        identity = engine.identity()
        stage_2 = {"engine": engine.name, "model": identity.get("model"), "settings": identity.get("settings")}
        if request.metadata:
            return {"metadata": None, "audio": stage_2}
        asked, writer = self._arguments["metadata"], metadata or self.metadata_engine.name
        own = None if isinstance(asked, str) else asked.model
        stage_1 = {"engine": writer, "model": request.model or self._arguments["model"] or own}
        if settings := song_settings(writer, self._arguments["metadata_settings"]):
            stage_1["settings"] = settings
        return {"metadata": stage_1, "audio": stage_2}

    def offers(self) -> tuple[str, str]:
        """Return the names of the language model and of the audio model that songs are made with."""
        return self.metadata_engine.model, str(self.audio_engine.identity().get("model") or self.audio_engine.name)

    def with_checked_options(self, request: SongRequest, audio: str | AudioEngine | None = None) -> SongRequest:
        """Return the request with absolute paths in its audio options. Raises InvalidRequest for what the engine
        doesn't take, or can't use. audio: as `submit` takes it."""
        if not request.audio_options:
            return request
        engine = self._audio_engines.get(audio, request.audio_model)
        request = with_absolute_paths(request, engine)
        check_options(engine, request.audio_options)
        return request

    def with_sounds(self, request: SongRequest, user: str) -> SongRequest:
        """Return a client's request with the files of its user's sounds in place of their ids. Raises Refused
        (NOT_FOUND) for what is no id of these, InvalidRequest for an unknown audio model."""
        engine = self._audio_engines.get(None, request.audio_model)
        return with_recordings(request, engine, lambda sound_id: str(self.sounds.use(user, sound_id)))

    def _with_sound_ids(self, request: SongRequest) -> SongRequest:
        """Return a request of this process's for a server: copies of its recordings become sounds of the user "local".
        Raises StorageError."""
        engine = self._audio_engines.get(None, request.audio_model)
        return with_recordings(request, engine, lambda path: self.sounds.add(LOCAL_USER, Path(path)))
