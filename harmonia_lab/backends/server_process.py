"""The process of an isolated server: `harmonia serve --attached`, which ends when its standard input closes.

Owns its start, the line that it prints once it listens, its end, and the notice that it has become silent: a call that
holds the interpreter's lock for good stops every thread of it, its server included.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from harmonia_lab.child_process import ChildProcess, python_command
from harmonia_lab.errors import Disconnected, HarmoniaError, error_of
from harmonia_lab.storage import package_environment
from harmonia_lab.waiting import join, wait_for

__all__ = ["Child"]

BEAT_S = 1.0
"""Between two lines that a server has to send back."""

_BEAT = b'{"beat":'

COMMAND = python_command("harmonia_lab", "serve", "--attached", "--json", "--settings", "-")


class Child:
    """Methods may be called from any thread."""

    def __init__(self, settings: Mapping[str, Any], ended: Callable[[], None]) -> None:
        """Start the process and return at once. settings: JSON values. ended: called once, when the process has
        ended, in a thread of its own.

        Raises HarmoniaError if it can't be started.
        """
        self._on_end = ended
        self._introduction: dict[str, Any] = {}
        self._introduced, self._gone = threading.Event(), threading.Event()
        try:
            # In a new session: an interrupt at the terminal, or of the kernel, is handled by this process.
            self._process = ChildProcess(COMMAND, environment=_environment(), new_session=True)
        except OSError as error:
            raise HarmoniaError(
                f"A process for the isolated server could not be started: {error}.",
                hint="Close some programs, or serve from the kernel (isolated=False).",
            ) from error
        self._process.send(settings)
        self._beats = self._answered = 0
        # A daemon: a program that ends without closing its lab must not wait for it.
        self._watcher = threading.Thread(target=self._watch, name="harmonia-isolated", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._gone.is_set()

    def introduction(self, timeout_s: float) -> dict[str, Any]:
        """Return what the server prints once it listens: its URL and more. Raises the error that it prints instead."""
        if not wait_for(self._introduced, timeout_s):
            raise HarmoniaError(
                f"The isolated server did not listen within {timeout_s:g} s.",
                hint="The machine may be busy: try again, or serve from the kernel (isolated=False).",
            )
        if not self._introduction:
            raise self.exit_error()
        if "error" in self._introduction:
            error = self._introduction["error"]
            raise error_of(error["code"], error["message"], hint=error["hint"], details=error["details"])
        return self._introduction

    def watch(self, silent_s: float, on_silence: Callable[[], None]) -> None:
        """Call `on_silence` once, in a thread of its own, if the process doesn't answer for `silent_s` seconds."""
        threading.Thread(
            target=self._listen, args=(silent_s, on_silence), name="harmonia-isolated-beat", daemon=True
        ).start()

    def end(self, grace_s: float) -> None:
        """Ask it to end, kill it after `grace_s` seconds, and return when `ended` has been called. Idempotent."""
        self._process.terminate(grace_s)
        self._process.kill()  # whatever the server started and left holds the pipe open
        join(self._watcher)

    def exit_error(self) -> Disconnected:
        """Return the error that says why it ended, with the last lines of its standard error."""
        wait_for(self._gone, 5.0)
        return Disconnected(
            f"The isolated server {self._process.exit_text()}", hint="Start another: lab.serve(isolated=True)."
        )

    def _watch(self) -> None:
        introductions = filter(None, map(_parse_introduction, self._process.stdout))
        self._introduction = next(introductions, {})
        self._introduced.set()
        for line in self._process.stdout:  # until the pipe closes: a full one would block a server whose engines print
            if _BEAT in line:
                self._answered = self._beats
        self._process.wait()
        self._process.close()
        self._gone.set()
        self._on_end()

    def _listen(self, silent_s: float, on_silence: Callable[[], None]) -> None:
        silent = 0.0
        while not self._gone.wait(BEAT_S):
            if self._answered == self._beats:
                silent = 0.0
                self._beats += 1
                self._process.send({"beat": self._beats})
                continue
            # By our own beats, not by the clock: while this process was suspended or held, it could hear nothing.
            silent += BEAT_S
            if silent >= silent_s:
                on_silence()
                return


def _environment() -> dict[str, str]:
    """Return this process's environment without the variables that Jupyter sets for its kernels."""
    kernels = ("JPY_", "MPLBACKEND")
    return {name: value for name, value in package_environment().items() if not name.startswith(kernels)}


def _parse_introduction(line: bytes) -> dict[str, Any] | None:
    """Return None for a line that something other than `harmonia serve` has printed."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.keys() & {"url", "error"} else None
