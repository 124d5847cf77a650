"""The load of `make bench-fanout` and `kernel`: some hundred subscribers in one process.

Owns what is checked of each delivery: that it came, once, in order, whole; and how long it took from the publisher's
stamp to this process, on the clock that they share. So that the client is never what limits a server, nothing is looked
into while it is measured: bytes and the time of their coming are kept, and read afterwards.

Run as a process, it is told {"do": "connect" | "measure" | "report", …}, and gives one answer to each.
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
"""Without news, what was sent has come."""

QUIET_S = 2.0
"""Without news, what has not come is missing."""

_STAMP = re.compile(rb'"tick":(\d+).*?@(\d+)')

Event = tuple[LightSocket, int, int, int]
"""socket, tick, nanoseconds on the way, bytes"""


class Subscribers:
    """Sockets that take what comes."""

    def __init__(self) -> None:
        self._sockets: list[LightSocket] = []
        self._selector = selectors.DefaultSelector()
        self._come: list[tuple[int, LightSocket, bytes]] = []

    def connect(
        self, url: str, token: str, generation_id: str, count: int, *, compression: bool = False
    ) -> dict[str, Any]:
        for _ in range(count):
            light = LightSocket(url, token, compression=compression)
            light.ask(0, "join-generation", generation_id)
            light.until(b"430")
            light.socket.setblocking(False)
            self._selector.register(light.socket, selectors.EVENT_READ, light)
            self._sockets.append(light)
        return {"connected": len(self._sockets)}

    def also(self, descriptor: int) -> None:
        """Something else to wait for."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def wait(self, timeout_s: float | None = None) -> tuple[bool, bool]:
        """Takes what there is. Whether there was anything, and whether something else is ready."""
        come, before, also = self._come, len(self._come), False
        for key, _ in self._selector.select(timeout_s):
            light: LightSocket | None = key.data
            if light is None:
                also = True
                continue
            data = light.socket.recv(RECEIVED)
            come.append((time.monotonic_ns(), light, data))
            if not data:
                self._selector.unregister(light.socket)
        return len(come) > before, also

    def read(self) -> list[Event]:
        """What was taken, read. Answers pings."""
        come, self._come = self._come, []
        events = []
        for at, light, data in come:
            for payload in light.frames.feed(data):
                if payload == b"2":
                    light.send("3")
                elif stamp := _STAMP.search(payload):
                    events.append((light, int(stamp[1]), at - int(stamp[2]), len(payload)))
        return events

    def report(self, first: int, count: int, quiet_s: float = QUIET_S) -> dict[str, Any]:
        """On the events `first` … `first + count - 1`, once all have come to all, or nothing comes any more."""
        while self.wait(SETTLED_S)[0]:  # first everything is taken: reading would delay what still comes
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
    """p50, p99 (nearest rank) and max; None where there are no values."""
    if not values:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(values)
    p50, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 99))
    return {"p50": p50, "p99": p99, "max": ordered[-1]}


def main() -> None:
    gc.disable()  # nothing here is cyclic, and a collection would count as the server's latency
    subscribers = Subscribers()
    stdin = 0
    subscribers.also(stdin)
    does: dict[str, Callable[..., dict[str, Any]]] = {
        "connect": subscribers.connect,
        "measure": dict,
        "report": subscribers.report,
    }
    measuring, told = False, b""
    while True:
        if subscribers.wait()[1]:
            news = os.read(stdin, 65536)
            if not news:
                return  # so that nothing outlives whoever measures
            told += news
        while b"\n" in told:
            line, _, told = told.partition(b"\n")
            command = json.loads(line)
            name = command.pop("do")
            measuring = name == "measure"
            reply(**does[name](**command))
        if not measuring:
            subscribers.read()


if __name__ == "__main__":
    main()
