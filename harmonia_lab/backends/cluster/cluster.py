"""`Cluster`: the lab's connection to a Dask cluster, and how many songs that makes at once.

Owns the client, the port to which workers connect, and a cluster that was started for this lab alone. Dask places
tasks; what is known of a song comes over the workers' own connections (`task.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import secrets
import ssl
import threading
import time
from collections.abc import Collection
from typing import Any

from harmonia_lab.backends.cluster.address import (
    check_address,
    is_loopback_address,
    local_workers,
    named,
)
from harmonia_lab.backends.cluster.frames import SILENCE_S
from harmonia_lab.backends.cluster.greeting import check_answer
from harmonia_lab.backends.cluster.listener import Listener
from harmonia_lab.backends.cluster.local_workers import start_local
from harmonia_lab.backends.cluster.summary import facts_of, summary
from harmonia_lab.errors import Disconnected, HarmoniaError, InvalidRequest

__all__ = ["Cluster"]

CONNECT_S = 10.0
SEE_S = 0.2
LOOK_S = 1.0
"""Seconds for which an answer of the scheduler about its workers holds."""

_log = logging.getLogger(__name__)


class Cluster:
    """Methods may be called from any thread."""

    def __init__(self, cluster: Any) -> None:
        """cluster: as `Lab` takes it. Raises InvalidRequest for what can't be used, Disconnected if there is no
        scheduler."""
        _check_installed()
        self._started: Any = None
        self._given: Any = None
        self._client: Any = None
        self._security: Any = None
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._workers: dict[str, Any] = {}
        self._beats: dict[str, tuple[float, float]] = {}
        """Of each worker, when the scheduler heard it last, by the scheduler's clock, and since when that holds, by
        ours."""
        self._connected = False
        self._scheduler = ""
        """The id of the scheduler whose workers have the plugin."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.address = self._open(cluster)
            self.listener = Listener(self._own_host(), self._tls())
            self._install()
            self._scheduler = str(self.client.scheduler_info(n_workers=0)["id"])
            undo.pop_all()
        if not self.slots:
            _log.warning("%s", self.without_slots)

    @property
    def client(self) -> Any:
        """Dask's client."""
        return self._client

    @property
    def connected(self) -> bool:
        """Whether the scheduler answers, as of `workers`."""
        self.workers()
        return self._connected

    @property
    def scheduler(self) -> str:
        """The id of the scheduler, as of `workers`; another one after it was started again."""
        self.workers()
        return self._scheduler

    @property
    def slots(self) -> int:
        """How many songs the cluster makes at once: the sum of its workers' places. A silent worker has none."""
        resource, silent = self.resource, self.silent
        if resource is None:
            return 0
        found = self.workers().items()
        return sum(int(worker["resources"].get(resource, 0)) for address, worker in found if address not in silent)

    @property
    def silent(self) -> frozenset[str]:
        """Addresses of workers that the scheduler has not heard for `SILENCE_S`, such as stopped ones. Dask gives them
        songs for five minutes still, since it takes a worker that says nothing for idle."""
        workers, since = self.workers(), time.monotonic() - SILENCE_S
        return frozenset(address for address in workers if self._beats[address][1] < since)

    @property
    def resource(self) -> str | None:
        """The name of the workers' resource that is a place for a song; None where they have none."""
        from harmonia_lab.backends.cluster.entry import SLOTS  # noqa: PLC0415 - Dask loads with it

        workers = self.workers().values()
        return next((name for name in SLOTS if any(worker["resources"].get(name) for worker in workers)), None)

    @property
    def without_slots(self) -> str:
        """Why the cluster makes no songs now, and what to do, in sentences."""
        count = len(self.workers())
        if not self._connected:
            return f"The scheduler at {self.address} does not answer. Start it again; workers must be started, too."
        if self.silent:
            return f"The workers at {self.address} are not heard: {', '.join(sorted(self.silent))}. Are they stopped?"
        what = f"None of the {count} workers at {self.address} has" if count else f"{self.address} has no worker with"
        return f"{what} a place for songs. Start workers with it: dask worker {self.address} --resources song=1."

    @property
    def dashboard(self) -> str | None:
        """The URL of Dask's own dashboard; None where it has none."""
        with contextlib.suppress(Exception):
            found = self._client.dashboard_link
            return str(found) if found else None
        return None

    def workers(self, *, now: bool = False) -> dict[str, Any]:
        """Return the scheduler's workers by address; none while it doesn't answer. now: ask it, however recently it was
        asked."""
        with self._lock:
            if not now and time.monotonic() - self._looked < LOOK_S:
                return self._workers
            self._restore()
            try:
                found = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=CONNECT_S)
                if found["id"] != self._scheduler:  # another one, in the place of one that has died
                    self._install()
                    self._scheduler = found["id"]
                self._workers, self._connected = dict(found["workers"]), True
                self._note_beats()
            except Exception as error:  # noqa: BLE001 - whatever Dask raises, there is no answer
                _log.debug("The scheduler does not answer: %s: %s", type(error).__name__, error)
                self._workers, self._connected = {}, False
            self._looked = time.monotonic()
            return self._workers

    def _note_beats(self) -> None:
        now, before = time.monotonic(), self._beats
        told = {address: float(worker["last_seen"]) for address, worker in self._workers.items()}
        known = {address: before[address] for address in told if before.get(address, (None,))[0] == told[address]}
        self._beats = {address: known.get(address, (seen, now)) for address, seen in told.items()}

    def submit(self, name: str, avoid: Collection[str] = ()) -> Any:
        """Have Dask place a task that claims the song of `name`. Return its future; None while that can't be done.

        avoid: addresses of workers that aren't heard by the lab. They and silent ones are used only where there is no
        other.
        """
        from harmonia_lab.backends.cluster.entry import make_song  # noqa: PLC0415 - as above

        resource = self.resource
        if resource is None:
            return None
        avoided = self.silent.union(avoid)
        others = [
            address
            for address, worker in self.workers().items()
            if address not in avoided and worker["resources"].get(resource)
        ]
        try:
            return self._client.submit(
                make_song,
                name,
                self.listener.address,
                self.listener.secret,
                key=f"harmonia-{name}-{secrets.token_hex(4)}",  # a task that was cancelled may live on
                resources={resource: 1},
                pure=False,
                workers=others if avoided and others else None,
            )
        except Exception as error:  # noqa: BLE001 - as above
            _log.debug("Dask took no task: %s: %s", type(error).__name__, error)
            return None

    def restart(self, worker: str) -> None:
        """End a worker's process, whose nanny starts another."""
        with contextlib.suppress(Exception):
            self._client.restart_workers([worker], timeout=1, raise_for_error=False)

    def see_end(self, task: Any, worker: str, within_s: float) -> None:
        """Return at once; see to it that a cancelled task ends, if need be with its worker's process. task: Dask's
        future, by which Dask knows meanwhile that the worker is at work."""

        def watch() -> None:
            deadline = time.monotonic() + within_s
            while (runs := task.status == "pending") and time.monotonic() < deadline:
                time.sleep(SEE_S)
            if runs:
                _log.warning("The worker %s did not stop within %g s of a cancel: it is ended.", worker, within_s)
                self.restart(worker)
            task.release()

        threading.Thread(target=watch, name="harmonia-cancelled", daemon=True).start()

    def facts(self) -> dict[str, dict[str, Any]]:
        """What each worker says that it is, by address: name, host, pid, GPU, threads, versions, …"""
        return facts_of(self._client, list(self.workers(now=True)))

    def __str__(self) -> str:
        """What the cluster is and has; the workers are asked."""
        found = self.facts()
        if not found:
            return f"{self.address}: {self.without_slots}"
        head = f"{self.address}: {len(found)} workers, {self.slots} songs at once"
        return summary(head, found, self.dashboard)

    def __repr__(self) -> str:
        return f"Cluster({self.address}, {self.slots} songs at once)"

    def close(self) -> None:
        """End the connections, and the cluster, if it was started here. Idempotent."""
        with contextlib.suppress(AttributeError):
            self.listener.close()
        with contextlib.suppress(Exception):
            if self._client is not None and self._client is not self._given:
                self._client.close(timeout=2)
            if self._started is not None:
                self._started.close(timeout=10)
        self._started = None

    def _open(self, cluster: Any) -> str:
        number = local_workers(cluster)
        if number is not None:
            try:
                self._started = cluster = start_local(number)
            except Exception as error:  # whatever Dask raises
                raise HarmoniaError(
                    f"The worker processes did not start: {type(error).__name__}: {error}",
                    hint='In a script, Lab(cluster="local") belongs under if __name__ == "__main__":, since each worker'
                    " process imports the script. Else, what the processes have written says more.",
                ) from error
        from distributed import Client  # noqa: PLC0415 - as above

        address = named(cluster)
        check_address(address)
        if isinstance(cluster, Client):
            self._client = self._given = cluster
            self._security = cluster.security
            return address
        self._security = getattr(cluster, "security", None)
        try:
            self._client = self._connect(address)
        except (OSError, TimeoutError, ValueError) as error:
            raise Disconnected(
                f"No Dask scheduler answers at {address}: {str(error).rstrip('.')}.",
                hint=f"Is it running? `harmonia doctor --cluster {address}` looks step by step.",
            ) from None
        return address

    def _connect(self, address: str) -> Any:
        from distributed import Client  # noqa: PLC0415 - as above

        if self._started is None:
            check_answer(address, self._security, CONNECT_S)
        return Client(address, timeout=CONNECT_S, security=self._security, set_as_default=False, direct_to_workers=True)

    def _restore(self) -> None:
        """Connect again, where Dask's client has given up."""
        if self._client is self._given or self._client.status != "closed":
            return
        with contextlib.suppress(Exception):
            self._client = self._connect(self.address)

    def _install(self) -> None:
        from harmonia_lab.backends.cluster.entry import SongPlugin  # noqa: PLC0415 - as above

        try:
            self._client.register_plugin(SongPlugin())
        except Exception as error:
            raise HarmoniaError(
                f"The workers at {self.address} can't make songs: {type(error).__name__}: {error}.",
                hint="Install the same version of harmonia-lab on every worker, and where the scheduler runs.",
            ) from error

    def _own_host(self) -> str:
        if is_loopback_address(self.address):
            return "127.0.0.1"
        from distributed.utils import get_ip  # noqa: PLC0415 - as above

        host, _, port = self.address.rpartition("://")[2].rpartition(":")
        return str(get_ip(host.strip("[]"), int(port)))

    def _tls(self) -> ssl.SSLContext | None:
        """Return the cluster's own trust for the port here, with the client's certificate: workers must show theirs."""
        if not self.address.startswith("tls:"):
            return None
        found: ssl.SSLContext | None = self._client.security.get_listen_args("client")["ssl_context"]
        if found is None:
            raise InvalidRequest(
                "The client's certificate for the cluster is missing.",
                hint="Name it in Dask's configuration: distributed.comm.tls.client.cert and .key, and .ca-file.",
                details={"fields": ["cluster"]},
            )
        return found


def _check_installed() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise InvalidRequest(
            "Dask is not installed.", hint="pip install 'harmonia-lab[cluster]'", details={"fields": ["cluster"]}
        )
