"""A lab's commands to its server, where an answer may be lost, or come late.

Owns what is asked again, and when. `remote_server.py` has the connection.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harmonia_lab.backends.remote_server import RemoteServer
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, Refused
from harmonia_lab.protocol.models import SongRequest

__all__ = ["RemoteCommands"]

PATIENCE_S = 120.0
"""Seconds for which a song waits to be asked for, in all, where the server limits how often one user may."""
AGAIN_S = 1.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


class RemoteCommands:
    """Any thread may call the methods, but for the one that reads the events."""

    def __init__(self, server: RemoteServer) -> None:
        self._server = server

    def start(self, request: SongRequest) -> None:
        """Ask for a song. Where the server says that its user asks too often, wait as long as it says.

        Raises the server's refusal, or Disconnected.
        """
        self._patiently(lambda: self._server.client.start(request))

    def upload(self, path: str) -> str:
        """Return the id of a sound at the server with the content of a file here. Waits and raises as `start`, and
        StorageError."""
        return self._patiently(lambda: self._server.upload(Path(path)))

    def _patiently(self, ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except Refused as error:
                wait_s = float(error.details.get("retryAfter") or 0.0)
                if error.code != ErrorCode.RATE_LIMITED or time.monotonic() + wait_s > deadline:
                    raise
                _log.info("The server can be asked again in %.1f s.", wait_s)
                if self._server.stopping.wait(max(wait_s, 0.05)):
                    raise

    def retry(self, generation_id: str) -> None:
        """Have the server try a song again. Where its answer is lost, the song's state tells whether it does.

        Raises the server's refusal, or Disconnected.
        """
        try:
            self._server.client.retry(generation_id)
        except Disconnected:
            snapshot = self._server.client.join(generation_id).snapshot
            if snapshot is None or snapshot.status == "failed":
                raise

    def subscribe(self, generation_id: str, wanted: Callable[[], bool]) -> None:
        """Receive the events of a job that was started, from its first on: from now on, or after a cut."""
        try:
            self._server.client.subscribe_to_job(generation_id)
        except HarmoniaError:
            self.later(lambda: self._server.client.subscribe_to_job(generation_id), wanted)

    def cancel_later(self, generation_id: str) -> None:
        """Cancel a song as soon as the server can be reached, if it has it."""
        self.later(lambda: self._server.client.cancel(generation_id), lambda: True)

    def later(self, ask: Callable[[], object], wanted: Callable[[], bool]) -> None:
        """Call `ask` in a thread, until nothing passing keeps it from the server, or nobody wants it any more."""

        def work() -> None:
            while not self._server.stopping.wait(AGAIN_S) and wanted():
                try:
                    ask()
                except HarmoniaError as error:
                    if error.recoverable:
                        continue
                return

        threading.Thread(target=work, name="harmonia-remote-later", daemon=True).start()
