"""`cluster="local"`: workers on this machine, for one lab alone.

Owns how their processes are started. On Linux they are forked from a process that has imported what each of them needs,
while this one imports the same: a start takes half as long, and so does the next one after a worker's death.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from harmonia_lab.engines.cores import usable_cores

__all__ = ["start_local"]

PRELOADED = [
    "distributed",
    "harmonia_lab.backends.cluster.engine_pool",
    "harmonia_lab.backends.cluster.worker",
    "harmonia_lab.audio_engines.mixing",
    "harmonia_lab.audio_engines.listening",
    "harmonia_lab.music.composing",
]
METHOD = "distributed.worker.multiprocessing-method"
LOST = "distributed.deploy.lost-worker-timeout"
WATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
"""Dask looks at the stacks of its threads a hundred times a second, and at its loops fifty times, for pictures on a
dashboard. Workers that share a machine with the lab have no time for that."""


def start_local(number: int) -> Any:
    """Start workers, each a process with one song at a time. number: 0 chooses by the cores."""
    if sys.platform == "linux":
        from multiprocessing import forkserver  # noqa: PLC0415 - not every system has it

        forkserver.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()  # before Dask is imported here: at the same time
    import dask.config  # noqa: PLC0415 - Dask loads where it is used
    from distributed import LocalCluster, utils  # noqa: PLC0415 - as above

    if sys.platform == "linux" and dask.config.get(METHOD) == "spawn":
        dask.config.set({METHOD: "forkserver"})
        # Dask would import pandas and more here, to have the same imported there.
        vars(utils)["_forkserver_preload_set"] = True

    class Workers(LocalCluster):  # type: ignore[misc]
        """Dask closes a nanny for good, without a word, that has no worker 15 s after one has died, as after two deaths
        so far apart. A nanny that is left alone starts its worker again."""

        def _update_worker_status(self, op: Any, msg: Any) -> None:
            with dask.config.set({LOST: "1000 days"}):
                super()._update_worker_status(op, msg)

    # As many threads as without a cluster, and no end of a worker at a share of the memory that a model needs.
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with dask.config.set(WATCHED):  # a nanny takes it along for its workers
        return Workers(
            n_workers=number or max(2, usable_cores() // 4),
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            resources={"song": 1},
            env={name: value for name, value in threads.items() if value is not None},
            silence_logs=logging.ERROR,
        )
