"""What makes a row the same row in another run, and under which folder's name its song may stand.

Owns digests and seeds of rows. A row that leaves stage 1's engine to "auto" is the same row whichever engine "auto"
means on the day: the digest has the word, not the engine. Before report version 2 it had the engine; songs under those
names are found, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harmonia_lab.audio_options import known_options
from harmonia_lab.batch.rows import Row
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.artifacts import slug
from harmonia_lab.metadata_engines.wishes import with_wished_length
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.storage import cached_digest, storage_errors

__all__ = ["RowIdentities", "RowIdentity", "digest_of"]


class EngineNames(Protocol):
    """What identities need of `lab.Lab`."""

    @property
    def metadata_choices(self) -> tuple[str, ...]: ...

    def engines_for(
        self, request: SongRequest, audio: Any = None, *, metadata: str | None = None
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class RowIdentity:
    """request: with its seed. digest: SHA-256 of what the row asks for. folders: name of the song's folder, and after
    it those under which it may stand already → the engine of stage 1 that must have written it; "" for any.
    engines: as the row asks for them. named: whether the row names the folder, which then doesn't tell the request.
    recordings: SHA-256 of those that the row's audio options name, by option: the sound counts, not its place."""

    request: SongRequest
    digest: str
    folders: Mapping[str, str]
    engines: Mapping[str, Any]
    named: bool = False
    recordings: Mapping[str, str] = field(default_factory=dict)

    def differs(self, record: Mapping[str, Any]) -> list[str]:
        """Return in which fields of the request, or engines, a song's record differs from the row."""
        asked, made = (
            {name: value for name, value in request.items() if name != "generationId"}
            for request in (
                _with_recordings(self.request.to_wire(), self.recordings),
                _with_recordings(record["request"], record["engines"]["audio"].get("recordings", {})),
            )
        )
        found = sorted(name for name in asked.keys() | made.keys() if asked.get(name) != made.get(name))
        engines = json.loads(json.dumps(self.engines))
        own = self.request.audio_options or {}
        if any(
            _without(record["engines"]["audio"].get(part), own) != _without(value, own)
            for part, value in engines["audio"].items()
        ):
            found.append("audio")
        writer = (engines["metadata"] or {"engine": "given"})["engine"]
        if writer not in ("auto", record["engines"]["metadata"]["engine"]):
            found.append("stage 1")
        return found


class RowIdentities:
    """The identities of one lab's rows. The engines are asked once for each choice of engines and models."""

    def __init__(self, lab: EngineNames) -> None:
        self._lab = lab
        self._engines: dict[tuple[Any, ...], dict[str, Any]] = {}

    def of(self, row: Row) -> RowIdentity:
        """Return the row's identity. A row without a seed gets one from its digest, so that the same table makes the
        same songs everywhere. Raises InvalidRequest for an unknown engine, the engine's error if it isn't available."""
        if row.request is None:
            raise row.error or InvalidRequest("There is nothing to make.")
        asked = with_wished_length(row.request).model_copy(update={"generation_id": None})
        choices = self._lab.metadata_choices
        engines = self._engines_for(asked, row.audio, choices[0])
        recordings = _recordings(asked)
        plain = _with_recordings(asked.to_wire(), recordings)
        digest = digest_of([plain, engines, *([{"name": row.name}] if row.name else [])])
        seed = int(digest[:8], 16) if asked.seed is None else asked.seed
        request = asked.model_copy(update={"seed": seed})
        if row.name is not None:
            return RowIdentity(request, digest, {row.name: ""}, engines, named=True, recordings=recordings)
        title = slug(asked.metadata.title if asked.metadata else asked.narrative)
        folders = {f"{title}-{digest[:12]}": ""}
        if asked.metadata is None:
            for name in choices[1:]:
                other = digest_of([plain, self._engines_for(asked, row.audio, name)])
                folders[f"{title}-{other[:12]}"] = choices[0] if name == "auto" else ""
        return RowIdentity(request, digest, folders, engines, recordings=recordings)

    def _engines_for(self, request: SongRequest, audio: str | None, metadata: str) -> dict[str, Any]:
        options = json.dumps(request.audio_options, sort_keys=True)
        key = (audio, request.audio_model, request.model, request.metadata is None, metadata, options)
        if key not in self._engines:
            self._engines[key] = self._lab.engines_for(request, audio, metadata=metadata)
        return self._engines[key]


def _recordings(request: SongRequest) -> dict[str, str]:
    """Return the SHA-256 of each recording that the request's options name. `engines_for` found that they are there."""
    known, options = known_options(), request.audio_options or {}
    named = {name: Path(str(value)) for name, value in options.items() if name in known and known[name].type is Path}
    with storage_errors(next(iter(named.values()), Path())):
        return {name: cached_digest(path) for name, path in named.items()}


def _with_recordings(request: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return a request as it is on the wire, with digests in the place of its recordings."""
    options = request.get("audioOptions")
    if not options:
        return dict(request)
    return {**request, "audioOptions": {name: digests.get(name, value) for name, value in options.items()}}


def _without(value: Any, names: Mapping[str, Any]) -> Any:
    """Return a part of an engine's identity; of settings, those whose place the row's options don't take, or None."""
    if not isinstance(value, Mapping):
        return value
    return {name: each for name, each in value.items() if name not in names} or None


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
