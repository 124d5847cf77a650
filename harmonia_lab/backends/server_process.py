"""The process of an isolated server: started, heard, and ended with us, however we end.

Owns the process and its last words. It is `harmonia serve --attached`, which ends when its standard input closes; what
is served there is nothing special.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from harmonia_lab.errors import Disconnected, HarmoniaError, error_of
from harmonia_lab.storage import package_environment

__all__ = ["Child"]

COMMAND = [sys.executable, "-P", "-m", "harmonia_lab", "serve", "--attached", "--json", "--settings", "-"]
POLL_S = 0.05
"""How often a wait looks up, so that an interrupt gets through."""

LAST_LINES = 8


class Child:
    """Methods may be called from any thread."""

    def __init__(self, settings: str, ended: Callable[[], None]) -> None:
        """Starts it and returns at once. settings: one line. ended: called once, when it has ended, in a thread of its
        own.

        Raises HarmoniaError where it can't be started.
        """
        self._on_end = ended
        self._introduction: dict[str, Any] = {}
        self._introduced, self._gone = threading.Event(), threading.Event()
        self._words = ""
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child; a pipe would fill up, and block it
        try:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # an interrupt at the terminal, or of the kernel, is ours to handle
            )
        except OSError as error:
            log.close()
            raise HarmoniaError(
                f"A process for the isolated server could not be started: {error}.",
                hint="Close some programs, or serve from the kernel (isolated=False).",
            ) from error
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `obituary` tells why it died
            self._process.stdin.write(settings.encode() + b"\n")
            self._process.stdin.flush()
        # A daemon: a program that ends without closing its lab must not wait for it.
        self._watcher = threading.Thread(target=self._watch, args=(log,), name="harmonia-isolated", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._gone.is_set()

    def introduction(self, timeout_s: float) -> dict[str, Any]:
        """What it says of itself once it listens. Raises the error for which it does not."""
        if not _wait(self._introduced, timeout_s):
            raise HarmoniaError(
                f"The isolated server did not listen within {timeout_s:g} s.",
                hint="The machine may be busy: try again, or serve from the kernel (isolated=False).",
            )
        if not self._introduction:
            raise self.obituary()
        if "error" in self._introduction:
            error = self._introduction["error"]
            raise error_of(error["code"], error["message"], hint=error["hint"], details=error["details"])
        return self._introduction

    def end(self, grace_s: float) -> None:
        """Asks it to end, kills it after `grace_s` seconds, and returns when `ended` has been called. Idempotent.

        Its own children end with it: their standard input is a pipe of its.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not _wait(self._gone, grace_s):
            self._process.kill()
        _join(self._watcher)

    def obituary(self) -> Disconnected:
        """Why it ended, in its own words."""
        _wait(self._gone, 5.0)
        said = f" It said:\n{self._words}" if self._words else ""
        return Disconnected(
            f"The isolated server ended with status {self._process.returncode}.{said}",
            hint="Start another: lab.serve(isolated=True).",
        )

    def _watch(self, log: Any) -> None:
        assert self._process.stdout is not None
        with log, self._process.stdout as told:
            self._introduction = next(filter(None, map(_introduction, told)), {})
            self._introduced.set()
            self._process.wait()
            log.seek(0)
            self._words = "\n".join(log.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:])
        self._gone.set()
        self._on_end()


def _environment() -> dict[str, str]:
    """Ours, without what Jupyter says to its kernels in it."""
    kernels = ("JPY_", "MPLBACKEND")
    return {name: value for name, value in package_environment().items() if not name.startswith(kernels)}


def _introduction(line: bytes) -> dict[str, Any] | None:
    """None for a line that something else has printed."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and told.keys() & {"url", "error"} else None


def _join(thread: threading.Thread) -> None:
    """An interrupt gets through."""
    while thread.is_alive():
        thread.join(POLL_S)


def _wait(event: threading.Event, timeout_s: float) -> bool:
    """Looks up now and then: `Event.wait` is not interrupted everywhere."""
    remaining_s = timeout_s
    while not event.is_set() and remaining_s > 0:
        event.wait(min(POLL_S, remaining_s))
        remaining_s -= POLL_S
    return event.is_set()
