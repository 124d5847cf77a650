"""A Dask scheduler and workers as a person starts them on this machine, for benchmarks and tests.

Owns their processes: all of them are gone when the context ends, also those that a killed one has left.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["DaskProcesses", "dask_processes", "living"]

STOP_S = 10.0


class DaskProcesses:
    """`scheduler` and `worker` may be called again, when an earlier process has died."""

    def __init__(self, folder: Path, options: list[str], environment: dict[str, str]) -> None:
        """folder: of logs and of the workers' own files. options: for scheduler and workers, such as certificates."""
        self._folder, self._options = folder, options
        self._env = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"} | environment
        self._port = free_port()
        self._started: list[subprocess.Popen[bytes]] = []
        self._seen: set[psutil.Process] = set()
        scheme = "tls" if "--tls-ca-file" in options else "tcp"
        self.address = f"{scheme}://127.0.0.1:{self._port}"

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Start a scheduler at `address`."""
        arguments = ["--host", f"{self.address.partition(':')[0]}://127.0.0.1", "--port", str(self._port)]
        self._scheduler = self._start("distributed.cli.dask_scheduler", *arguments, "--no-dashboard")
        return self._scheduler

    def kill_scheduler(self) -> None:
        """Kill the scheduler that was started last (SIGKILL)."""
        self.processes()
        self._scheduler.kill()
        self._scheduler.wait()

    def worker(self, *resources: str) -> subprocess.Popen[bytes]:
        """Start a nanny with a worker. resources: such as "song=1", which is the default."""
        options = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        given = ["--resources", ",".join(resources or ("song=1",))]
        host = ["--host", "127.0.0.1"]
        return self._start("distributed.cli.dask_worker", self.address, *host, *options, *given)

    def processes(self) -> list[psutil.Process]:
        """All that were seen so far, and live."""
        for each in self._started:
            with contextlib.suppress(psutil.Error):
                known = psutil.Process(each.pid)
                self._seen |= {known, *known.children(recursive=True)}
        return living(self._seen)

    def close(self) -> None:
        self.processes()
        for process in self._started:
            process.terminate()
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()
            process.wait()
        for left in living(self._seen):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / "dask.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, *self._options],
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process


@contextlib.contextmanager
def dask_processes(
    folder: Path, workers: int = 1, options: list[str] | None = None, environment: dict[str, str] | None = None
) -> Iterator[DaskProcesses]:
    """Start a scheduler and workers; end them with the context."""
    running = DaskProcesses(folder, options or [], environment or {})
    try:
        running.scheduler()
        for _ in range(workers):
            running.worker()
        yield running
    finally:
        running.close()


def living(processes: set[psutil.Process]) -> list[psutil.Process]:
    """Return those that run still: a process identifier that was given again is another process."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
