"""Processes that a benchmark measures, or measures with. Parent and child exchange one JSON object a line.

Owns their start, their answers, their end, and how much processor time they took. What each does is in its own module.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from harmonia_lab.child_process import ChildProcess, python_command
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.storage import package_environment
from harmonia_lab.waiting import join

__all__ = ["Child", "commands", "python_child", "reply"]

ROOT = Path(__file__).parents[2]
"""The repository's: `benchmarks` is importable from there."""

ANSWER_S = 60.0
END_S = 5.0


class Child:
    """A context manager; leaving it ends the process."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._process = ChildProcess(command, environment=environment)
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"harmonia-bench-{name}", daemon=True)
        self._reader.start()

    def request(self, timeout_s: float = ANSWER_S, **message: Any) -> dict[str, Any]:
        """Send `message` and return the child's reply. Raises as `receive`."""
        self.send(**message)
        return self.receive(timeout_s)

    def send(self, **message: Any) -> None:
        self._process.send(message)

    def receive(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Return the next reply. Raises HarmoniaError if the child has ended, or does not reply in time."""
        try:
            line = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            raise HarmoniaError(
                f"The benchmark's {self.name} did not answer within {timeout_s:g} s.",
                hint="Measure on a machine with less to do, or with fewer subscribers.",
            ) from None
        if line is None:
            self._process.wait(END_S)
            raise HarmoniaError(f"The benchmark's {self.name} {self._process.exit_text()}")
        message: dict[str, Any] = json.loads(line)
        return message

    def cpu_s(self) -> float:
        """Return the processor time that the child took so far: seconds, user and system, all threads.

        From the process's own clock, as clock_getcpuclockid(3) names it; psutil's figure has steps of 10 ms.
        """
        if sys.platform == "win32":
            return float(sum(psutil.Process(self._process.pid).cpu_times()[:2]))
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.terminate(END_S)
        join(self._reader)
        self._process.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put(None)


def python_child(name: str, module: str, *arguments: str) -> Child:
    """Start a module of `benchmarks` as a process of its own, from whatever folder."""
    environment = package_environment()
    path = filter(None, [str(ROOT), environment.get("PYTHONPATH")])
    return Child(name, python_command(module, *arguments), environment | {"PYTHONPATH": os.pathsep.join(path)})


def commands() -> Iterator[dict[str, Any]]:
    """In a child: yield the parent's messages, until the parent closes the pipe or has ended."""
    for line in sys.stdin:
        yield json.loads(line)


def reply(**message: Any) -> None:
    """In a child: send a reply."""
    print(json.dumps(message), flush=True)
