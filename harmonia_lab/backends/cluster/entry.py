"""What Dask runs: the task of a song, and the plugin of each worker.

Owns both, and imports nothing heavy: Dask's scheduler loads it, too. A task carries an address, the lab's secret and a
random name, and no words: the song comes over the connection that the task opens (`worker.py`).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

if TYPE_CHECKING:
    from harmonia_lab.backends.cluster.engine_pool import EnginePool
    from harmonia_lab.backends.cluster.worker import SongOnWorker

__all__ = ["PLUGIN", "SLOTS", "SongPlugin", "facts", "make_song"]

PLUGIN = "harmonia-lab"
SLOTS = ("song", "GPU")
"""Resources of workers that are places for one song each; the first that a cluster's workers have."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LEAVING_S = 20.0
"""Seconds that songs may go on when their worker has lost its scheduler: its process ends after 30."""


class SongPlugin(WorkerPlugin):  # type: ignore[misc]
    """Keeps engines loaded between songs, and ends songs in time when the worker ends."""

    name = PLUGIN
    idempotent = True

    def setup(self, worker: Any) -> None:
        from harmonia_lab.backends.cluster.engine_pool import EnginePool  # noqa: PLC0415 - not for the scheduler

        self.worker = worker
        self.pool: EnginePool = EnginePool()
        self.songs: set[SongOnWorker] = set()
        self.leaving = False
        _free_threads(worker)

    def teardown(self, worker: Any) -> None:
        """Begin to end the songs. Called when the worker is closed, and as soon as its scheduler is gone."""
        del worker
        self.leaving = True
        timer = threading.Timer(LEAVING_S, self._leave)
        timer.daemon = True
        timer.start()

    def _leave(self) -> None:
        for song in tuple(self.songs):
            song.stop("interrupted")
        self.pool.close()


def make_song(name: str, address: tuple[str, int], secret: str) -> None:
    """Claim the song of task `name`, and make it. Whatever happens, it is told on the connection, not to Dask."""
    from harmonia_lab.backends.cluster.worker import SongOnWorker  # noqa: PLC0415 - not for the scheduler

    SongOnWorker(get_worker().plugins[PLUGIN], name, (address[0], address[1]), secret).run()


def facts(dask_worker: Any) -> dict[str, Any]:
    """Return what a worker is, and what its engines have done. Dask gives the worker by this name."""
    from harmonia_lab.backends.cluster.worker import worker_facts  # noqa: PLC0415 - not for the scheduler

    plugin = dask_worker.plugins[PLUGIN]
    return worker_facts(dask_worker) | {"running": len(plugin.songs), "engines_made": plugin.pool.made}


def _free_threads(worker: Any) -> None:
    """Let libraries that load from now on use the threads that they would without a nanny, which allows them one."""
    import dask  # noqa: PLC0415 - on a worker it is loaded

    if getattr(worker, "nanny", None) is None:
        return
    set_by_nanny = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    for name in THREADS:
        if os.environ.get(name) == str(set_by_nanny.get(name)) == "1":
            del os.environ[name]
