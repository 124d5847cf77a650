"""Processes that a benchmark measures or measures with: each hears and says one JSON object a line.

Owns their start, their answers, their end, and how much processor time they took. What they do is theirs.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from harmonia_lab.errors import HarmoniaError

__all__ = ["Child", "commands", "python_child", "say"]

ANSWER_S = 60.0
END_S = 5.0


class Child:
    """A context manager; leaving it ends the process."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        # A file, not a pipe: nobody reads it while all goes well, and it must not fill up.
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            text=True,
            bufsize=1,
        )
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name=f"harmonia-bench-{name}", daemon=True).start()

    def ask(self, timeout_s: float = ANSWER_S, **message: Any) -> dict[str, Any]:
        """What it answers. Raises HarmoniaError where it has ended, or says nothing in time."""
        self.tell(**message)
        return self.hear(timeout_s)

    def tell(self, **message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `hear` says it better
            self._process.stdin.write(json.dumps(message) + "\n")

    def hear(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """The next that it says. Raises as `ask`."""
        try:
            line = self._said.get(timeout=timeout_s)
        except queue.Empty:
            raise HarmoniaError(
                f"The benchmark's {self.name} did not answer within {timeout_s:g} s.",
                hint="Measure on a machine with less to do, or with fewer subscribers.",
            ) from None
        if line is None:
            self._complaints.seek(0)
            complaint = self._complaints.read().strip().rpartition("\n")[2]
            raise HarmoniaError(f"The benchmark's {self.name} has ended: {complaint[-400:] or 'it did not say why'}")
        said: dict[str, Any] = json.loads(line)
        return said

    def cpu_s(self) -> float:
        """Processor time that it took so far, user and system, all threads: seconds, to the nanosecond.

        The process's own clock, as clock_getcpuclockid(3) names it; psutil has the same in steps of 10 ms.
        """
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # which is what it ends by
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.put(line)
        self._said.put(None)


def python_child(name: str, module: str, *arguments: str) -> Child:
    """A module of this package as a process of its own."""
    return Child(name, [sys.executable, "-m", module, *arguments])


def commands() -> Iterator[dict[str, Any]]:
    """In a child: what it is told, until its parent closes its input or is gone."""
    for line in sys.stdin:
        yield json.loads(line)


def say(**message: Any) -> None:
    """In a child: an answer."""
    print(json.dumps(message), flush=True)
