"""The load of `make bench-fanout` and `kernel`: some hundred subscribers in one process.

Owns the check of each delivery (it arrived once, in order, whole) and its latency, from the publisher's time stamp to
this process, on the clock that both share. The client must never limit the server: while it measures, it only keeps the
bytes and the time of their arrival, and parses them afterwards.

Run as a process, it reads commands {"do": "connect" | "measure" | "report", …}, and replies to each.
"""

from __future__ import annotations

import gc
import json
import os
import re
import selectors
import time
from collections.abc import Callable
from typing import Any

from benchmarks.server.children import reply
from benchmarks.server.websocket import RECEIVED, LightSocket

__all__ = ["Subscribers", "main", "percentiles"]

SETTLED_S = 0.2
"""Seconds without data after which everything that was sent has probably arrived."""

QUIET_S = 2.0
"""Seconds without data after which a delivery that has not arrived is missing."""

_STAMP = re.compile(rb'"tick":(\d+).*?@(\d+)')

Event = tuple[LightSocket, int, int, int]
"""socket, tick, nanoseconds on the way, bytes"""


class Subscribers:
    """Connected sockets, and what they received."""

    def __init__(self) -> None:
        self._sockets: list[LightSocket] = []
        self._selector = selectors.DefaultSelector()
        self._received: list[tuple[int, LightSocket, bytes]] = []

    def connect(
        self, url: str, token: str, generation_id: str, count: int, *, compression: bool = False
    ) -> dict[str, Any]:
        for _ in range(count):
            light = LightSocket(url, token, compression=compression)
            light.emit(0, "join-generation", generation_id)
            light.receive_until(b"430")
            light.socket.setblocking(False)
            self._selector.register(light.socket, selectors.EVENT_READ, light)
            self._sockets.append(light)
        return {"connected": len(self._sockets)}

    def watch(self, descriptor: int) -> None:
        """Let `wait` return when `descriptor` can be read, too."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def wait(self, timeout_s: float | None = None) -> tuple[bool, bool]:
        """Keep what has arrived. Return whether anything has, and whether a descriptor given to `watch` can be read."""
        received, before, ready = self._received, len(self._received), False
        for key, _ in self._selector.select(timeout_s):
            light: LightSocket | None = key.data
            if light is None:
                ready = True
                continue
            data = light.socket.recv(RECEIVED)
            received.append((time.monotonic_ns(), light, data))
            if not data:
                self._selector.unregister(light.socket)
        return len(received) > before, ready

    def read(self) -> list[Event]:
        """Parse what has arrived, and answer pings."""
        received, self._received = self._received, []
        events = []
        for at, light, data in received:
            for payload in light.frames.feed(data):
                if payload == b"2":
                    light.send("3")
                elif stamp := _STAMP.search(payload):
                    events.append((light, int(stamp[1]), at - int(stamp[2]), len(payload)))
        return events

    def report(self, first: int, count: int, quiet_s: float = QUIET_S) -> dict[str, Any]:
        """Report on the events `first` … `first + count - 1`, once all have arrived or `quiet_s` seconds bring none."""
        while self.wait(SETTLED_S)[0]:  # parsing now would delay what still arrives
            pass
        wanted = count * len(self._sockets)
        events: list[Event] = []
        while True:
            events += [event for event in self.read() if first <= event[1] < first + count]
            if len(events) >= wanted or not self.wait(quiet_s)[0]:
                break
        last: dict[LightSocket, int] = {}
        disordered = 0
        for light, tick, _, _ in events:
            disordered += tick <= last.get(light, 0)
            last[light] = tick
        distinct = len({(light, tick) for light, tick, _, _ in events})
        sizes = [size for *_, size in events]
        return {
            "deliveries": len(events),
            "missing": wanted - distinct,
            "disordered": disordered,
            "payload_bytes": [min(sizes, default=0), max(sizes, default=0)],
            "latency_ms": percentiles([on_the_way / 1e6 for _, _, on_the_way, _ in events]),
        }


def percentiles(values: list[float]) -> dict[str, float | None]:
    """Return p50, p99 (nearest rank) and max; None if there are no values."""
    if not values:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(values)
    p50, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 99))
    return {"p50": p50, "p99": p99, "max": ordered[-1]}


def main() -> None:
    gc.disable()  # there are no cycles, and a collection would count as the server's latency
    subscribers = Subscribers()
    stdin = 0
    subscribers.watch(stdin)
    does: dict[str, Callable[..., dict[str, Any]]] = {
        "connect": subscribers.connect,
        "measure": dict,
        "report": subscribers.report,
    }
    measuring, pending = False, b""
    while True:
        if subscribers.wait()[1]:
            data = os.read(stdin, 65536)
            if not data:
                return  # the parent has ended
            pending += data
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            command = json.loads(line)
            name = command.pop("do")
            measuring = name == "measure"
            reply(**does[name](**command))
        if not measuring:
            subscribers.read()


if __name__ == "__main__":
    main()
