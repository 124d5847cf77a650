"""`DaskBackend`: a lab's songs on a Dask cluster, several at once.

Owns what differs from the songs of this process: how many are made at once, which engines a cluster can be asked for,
and who writes the words there. Queue, turns, journal, folders and retries are `LocalBackend`'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from harmonia_lab.backends.base import SONGS_AHEAD, JobOptions
from harmonia_lab.backends.cluster.cluster import Cluster
from harmonia_lab.backends.cluster.generation import ClusterGeneration
from harmonia_lab.backends.cluster.paths import paths_in
from harmonia_lab.backends.cluster.task import ClusterTask
from harmonia_lab.backends.local import LocalBackend
from harmonia_lab.backends.local_job import LocalJob
from harmonia_lab.backends.remote_engines import RemoteEngine
from harmonia_lab.engine_registry import check_metadata, metadata_settings_to_json, settings_to_json
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, MetadataError
from harmonia_lab.generation.generation import Generation
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import SongRequest

__all__ = ["ClusterMetadata", "DaskBackend", "plain_engines"]

_log = logging.getLogger(__name__)


class DaskBackend(LocalBackend):
    """A `Backend`: its songs are made by the cluster's workers, with engines by name."""

    def __init__(self, cluster: Cluster, engines: Mapping[str, Any], **arguments: Any) -> None:
        """engines: from `plain_engines`. The others: as `LocalBackend` has them."""
        self.cluster = cluster
        self._engines = engines
        super().__init__(**arguments, ahead=SONGS_AHEAD)

    def _width(self) -> int:
        return max(1, self.cluster.slots)

    def submit(self, request: SongRequest, options: JobOptions) -> JobHandle:
        if not isinstance(options.audio, str | None):
            raise _no_object("audio")
        return super().submit(request, options)

    def retry(self, generation_id: str, options: JobOptions) -> JobHandle:
        if not isinstance(options.audio, str | None):
            raise _no_object("audio")
        return super().retry(generation_id, options)

    def close(self, grace_s: float) -> None:
        super().close(grace_s)
        self.cluster.close()

    def _new_generation(self, request: SongRequest, **arguments: Any) -> Generation:
        generation_id = str(request.generation_id)
        return ClusterGeneration(
            request,
            cluster=self.cluster,
            engines=self._engines,
            count_death=lambda process: self._journal().submissions.died(generation_id, process),
            wait_s=self._limits.no_worker_s,
            **arguments,
        )

    def _give_up(self, job: LocalJob) -> None:
        """End a song whose worker doesn't stop, and that worker's process, in which a thread is stuck."""
        generation = job.generation
        assert isinstance(generation, ClusterGeneration)
        _log.warning("Generation %s is given up: its worker, %s, did not stop.", job.handle.id, generation.worker)
        generation.abandon()
        if generation.worker is not None:
            threading.Thread(target=self.cluster.restart, args=(generation.worker,), daemon=True).start()


class ClusterMetadata:
    """Stage 1 as the cluster has it: a worker is asked when a song first needs it. Has the methods of `MetadataChoice`
    that a lab calls."""

    def __init__(self, cluster: Cluster, engines: Mapping[str, Any], wait_s: float) -> None:
        """wait_s: for a worker."""
        self._cluster, self._engines, self._wait_s = cluster, engines, wait_s
        self._lock = threading.Lock()
        self._found: RemoteEngine | None = None

    @property
    def engine(self) -> Any:
        """The workers' engine; while there is no worker, what was asked for. Raises MetadataError where it can't be
        had."""
        with self._lock:
            if self._found is None:
                if not self._cluster.slots:  # the song waits for a worker, as long as it may
                    asked = {"engine": self._engines["metadata"], "model": self._engines["model"] or ""}
                    return RemoteEngine(self._cluster.address, asked)
                self._found = self._ask()
            return self._found

    @property
    def reason(self) -> str:
        return f"the engine of the workers at {self._cluster.address}"

    @property
    def name(self) -> str:
        return str(self.engine.name)

    @property
    def model(self) -> str:
        return str(self.engine.model)

    def renew(self, engine: object) -> None:
        del engine

    def release(self) -> None:
        """Do nothing: no model is loaded here."""

    def close(self) -> None:
        """Do nothing, as `release`."""

    def _ask(self) -> RemoteEngine:
        asked = {name: value for name, value in self._engines.items() if name != "paths"}
        question = {"engines": asked, "paths": self._engines["paths"]}
        with ClusterTask(self._cluster, self._wait_s) as task:
            for head, _ in task.messages(lambda _worker: (question, []), CancelToken()):
                if head.get("end") == "described":
                    return RemoteEngine(self._cluster.address, head)
                if "end" in head:
                    told = head.get("error") or {}
                    message = str(told.get("message", "The worker that was asked for its engine has ended."))
                    code = told.get("code", ErrorCode.OLLAMA_UNAVAILABLE)
                    raise MetadataError(message, code=ErrorCode(code), hint=str(told.get("hint", "")))
        raise HarmoniaError("No worker said which engine writes the words.")


def plain_engines(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lab's parameters that choose its engines as plain JSON values, with `paths`: path → stamp of each that
    is this machine's. Raises InvalidRequest for an engine that is an object, and for an unknown name or setting."""
    for name in ("metadata", "audio"):
        if not isinstance(arguments[name], str):
            raise _no_object(name)
    plain = dict(arguments)
    if plain["audio_model"] is not None:
        plain["audio_model"] = str(plain["audio_model"])
    check_metadata(plain["metadata"], plain["metadata_settings"])
    plain["metadata_settings"] = metadata_settings_to_json(plain["metadata"], plain["metadata_settings"])
    plain["audio_settings"] = settings_to_json(plain["audio"], plain["audio_model"], plain["audio_settings"])
    return plain | {"paths": paths_in(plain)}


def _no_object(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"A cluster's workers can't use the {name} engine that was given: an object stays in its process.",
        hint=f'Name the engine ({name}="auto"), or make the song without a cluster.',
        details={"fields": [name]},
    )
