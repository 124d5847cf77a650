"""One process of `make bench-kernel`: a kernel with the server in a thread of it, or one of the two when isolated.

Owns the kernel's load: nothing, pure Python, torch, or one C call that holds the interpreter's lock for
seconds. `kernel.py` measures meanwhile. Run as a process, it reads commands {"do": "serve" | "work" | …}.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.server.children import commands, reply
from benchmarks.server.generation import begin, progress, scratch_lab
from benchmarks.server.subscribers import percentiles
from harmonia_lab.events.event_log import EventLog

__all__ = ["Kernel", "main"]

PAUSE_S = 0.25
"""After each long C call: cells that run one after the other."""

PIECE = 20_000
"""Steps of the pure Python loop between two readings of the clock: some milliseconds."""


class Kernel:
    """The commands, by name."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._event_log: EventLog | None = None
        self._call_steps = 0

    def serve(self) -> dict[str, Any]:
        lab = self._stack.enter_context(scratch_lab())
        self._event_log = begin(lab)
        server = lab.serve(port=0, progress_interval_s=0.0, max_sockets_per_user=10_000)  # nothing is thinned out
        return {"url": server.url, "token": server.token()}

    def work(
        self,
        load: str,
        seconds: float,
        first: int = 0,
        count: int = 0,
        gap_s: float = 0.0,
        switch_s: float | None = None,
    ) -> dict[str, Any]:
        """Run `load` in the main thread, as a cell does, while another thread publishes, as a song's worker does.

        count: 0 where this process has no server. switch_s: another switch interval meanwhile, seconds.
        """
        before = sys.getswitchinterval()
        if switch_s is not None:
            sys.setswitchinterval(switch_s)
        late_ms: list[float] = []
        publisher = threading.Thread(target=self._publish, args=(first, count, gap_s, late_ms), daemon=True)
        publisher.start()
        steps = self._load(load)(time.monotonic() + seconds)
        publisher.join()
        sys.setswitchinterval(before)
        return {"steps": steps, "published_late_ms": percentiles(late_ms)}

    def prepare(self, load: str, hold_s: float) -> dict[str, Any]:
        """Do beforehand what must not count: import torch; find the number of steps for a long C call of about `hold_s`
        seconds, and measure whether it really holds the lock.

        held: the share of `call_s`, seconds, during which another thread did not run.
        """
        if load == "torch":
            import torch  # noqa: F401, PLC0415 - seconds, and not there everywhere
        if load != "call":
            return {}
        some = 5_000_000
        started = time.thread_time()
        sum(itertools.repeat(1, some))
        self._call_steps = round(some * hold_s / (time.thread_time() - started))
        return self._hold()

    def _hold(self) -> dict[str, Any]:
        gaps, over = [], threading.Event()

        def tick() -> None:
            last = time.monotonic()
            while not over.wait(0.005):
                now = time.monotonic()
                gaps.append(now - last)
                last = now
            gaps.append(time.monotonic() - last)

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        time.sleep(0.05)
        started = time.monotonic()
        self._call()
        took = time.monotonic() - started
        over.set()
        ticker.join()
        return {"call_s": took, "held": min(1.0, max(gaps) / took)}

    def switching(
        self, intervals_s: list[float], slices: int, slice_s: float, first: int, gap_s: float
    ) -> dict[str, Any]:
        """The pure Python loop under each switch interval, in turn, while events go out: seconds of a step, by the wall
        clock and by this thread's processor time."""
        before = sys.getswitchinterval()
        turns: list[list[dict[str, float]]] = [[] for _ in intervals_s]
        count = round(slices * len(intervals_s) * slice_s / gap_s)
        publisher = threading.Thread(target=self._publish, args=(first, count, gap_s, []), daemon=True)
        publisher.start()
        for _ in range(slices):
            for index, interval_s in enumerate(intervals_s):
                sys.setswitchinterval(interval_s)
                started, cpu = time.monotonic(), time.thread_time()
                steps = _pure_python(started + slice_s)
                wall_s, cpu_s = time.monotonic() - started, time.thread_time() - cpu
                turns[index].append({"wall": wall_s / steps, "cpu": cpu_s / steps})
        sys.setswitchinterval(before)
        publisher.join()
        return {"turns": turns}

    def _publish(self, first: int, count: int, gap_s: float, late_ms: list[float]) -> None:
        """Publish by the clock: an event that is late does not delay the next one."""
        started = time.monotonic()
        for index in range(count):
            due = started + index * gap_s
            time.sleep(max(0.0, due - time.monotonic()))
            late_ms.append(1e3 * (time.monotonic() - due))
            assert self._event_log is not None
            self._event_log(progress(first + index))

    def _load(self, name: str) -> Callable[[float], int]:
        return {"idle": _idle, "python": _pure_python, "torch": _torch, "call": self._long_calls}[name]

    def _long_calls(self, until: float) -> int:
        steps = 0
        while time.monotonic() < until:
            self._call()
            steps += 1
            time.sleep(PAUSE_S)
        return steps

    def _call(self) -> None:
        # One call into C that never returns to the interpreter's loop, and so never releases the lock.
        sum(itertools.repeat(1, self._call_steps))


def _idle(until: float) -> int:
    time.sleep(max(0.0, until - time.monotonic()))
    return 0


def _pure_python(until: float) -> int:
    steps = 0
    while time.monotonic() < until:
        total = 0
        for number in range(PIECE):
            total += number * number
        steps += PIECE
    return steps


def _torch(until: float) -> int:
    import torch  # noqa: PLC0415 - seconds, and not there everywhere

    matrix = torch.randn(1024, 1024)
    steps = 0
    while time.monotonic() < until:
        matrix = torch.tanh(matrix @ matrix * 0.03)
        steps += 1
    return steps


def main() -> None:
    with ExitStack() as stack:
        kernel = Kernel(stack)
        does: dict[str, Callable[..., dict[str, Any]]] = {
            "serve": kernel.serve,
            "work": kernel.work,
            "prepare": kernel.prepare,
            "switching": kernel.switching,
        }
        for command in commands():
            reply(**does[command.pop("do")](**command))


if __name__ == "__main__":
    main()
