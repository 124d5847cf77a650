"""Start a Python module as a child process, hand it lines of JSON, and end it. The package never forks.

Owns the command line, the environment, the pipes, the file that takes the child's standard error, and the end. What
parent and child say to each other is described in the child's own module.

Each child's standard input is a pipe from its parent. A child must end when that pipe closes: the operating system
closes it however the parent ends, `kill -9` included.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from harmonia_lab.storage import package_environment, read_at

__all__ = ["ChildProcess", "kill_tree", "own_group", "python_command"]

LAST_LINES = 8
"""Lines of standard error that an error message quotes."""

_TAIL_BYTES = 16 * 1024


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module` with this interpreter."""
    # -P: no file of the working folder shadows a module.
    return [sys.executable, "-P", "-m", module, *arguments]


def own_group() -> dict[str, Any]:
    """Return the arguments of `Popen` for a child in a group of its own: an interrupt at the terminal does not reach
    it, and `kill_tree` finds what it started."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a child that has a group of its own, with everything that it started; return once it has ended."""
    if sys.platform == "win32":
        _kill_with_descendants(process.pid)
    else:
        # The whole group, which outlives a child that has ended. macOS refuses if all of it has exited.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _kill_with_descendants(pid: int) -> None:
    """Kill a process and its descendants; those of a process that has ended already are not found."""
    import psutil  # noqa: PLC0415 - needed on Windows alone, which has no groups to kill

    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for each in (*parent.children(recursive=True), parent):
            with contextlib.suppress(psutil.Error):
                each.kill()


class ChildProcess:
    """A running child. `stdin` and `stdout` are its pipes, in bytes. Methods may be called from any thread.

    environment: None is this process's, in which the child finds this package. new_session: as `own_group`. pass_fds:
    file descriptors that the child inherits (not on Windows). output: False discards its standard output. Raises
    OSError if it can't be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        new_session: bool = False,
        pass_fds: Sequence[int] = (),
        output: bool = True,
    ) -> None:
        self._new_session = new_session
        self._closing = threading.Lock()
        self._tail: list[str] | None = None
        # A file, not a pipe: nobody reads it while the child runs, and a full pipe would block the child.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if output else subprocess.DEVNULL,
                stderr=self._stderr,
                env=package_environment() if environment is None else environment,
                pass_fds=pass_fds,
                **(own_group() if new_session else {}),
            )
        except OSError:
            self._stderr.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line of JSON. A child that has ended is no error here: the thread that reads its answer notices."""
        with contextlib.suppress(BrokenPipeError, ValueError):  # ValueError: `close` has closed the pipe
            self.stdin.write(json.dumps(message).encode() + b"\n")
            self.stdin.flush()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit status, or None if the child still runs after `timeout_s` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def kill(self) -> None:
        """Kill the child, in a new session with everything that it started; return once it has ended."""
        if self._new_session:
            kill_tree(self._process)
        else:
            self._process.kill()
            self._process.wait()

    def close_stdin(self) -> None:
        """Ask the child to end."""
        with contextlib.suppress(OSError):  # unsent bytes that the child can't take after its end
            self.stdin.close()

    def terminate(self, grace_s: float) -> None:
        """Ask the child to end, kill it after `grace_s` seconds, and return once it has ended."""
        self.close_stdin()
        if self.wait(grace_s) is None:
            self.kill()

    def close(self) -> None:
        """Kill the child and close the files; idempotent. No other thread may use `stdin` or `stdout` meanwhile."""
        self.kill()
        with self._closing:
            self.close_stdin()
            if self._process.stdout is not None:
                self._process.stdout.close()
            if self._tail is None:
                self._tail = self._read_tail()
                self._stderr.close()

    def last_lines(self, count: int = LAST_LINES) -> str:
        """Return the last lines of standard error, also after `close`; an empty string if there are none."""
        with self._closing:
            lines = self._read_tail() if self._tail is None else self._tail
        return "\n".join(lines[-count:])

    def exit_text(self) -> str:
        """Return "ended with status 1.", and the last lines of standard error if there are any."""
        status, lines = self._process.poll(), self.last_lines()
        return f"ended with status {status}." + (f" It said:\n{lines}" if lines else "")

    def _read_tail(self) -> list[str]:
        # Not by a seek: it would move the offset at which the child writes.
        size = os.fstat(self._stderr.fileno()).st_size
        tail = read_at(self._stderr.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return tail.decode("utf-8", "replace").strip().splitlines()[-LAST_LINES:]
