"""A client that joins a generation again and again: the latency of the acknowledgement and of the replay.

Owns the measurement. Joins are sent at fixed times, whether or not answers arrive, so that a blocked server shows.
"""

from __future__ import annotations

import select
import time
from typing import Any

from benchmarks.server.generation import GENERATION
from benchmarks.server.websocket import RECEIVED, LightSocket

__all__ = ["Probe"]

ANSWER_S = 20.0

LAST_REPLAYED = b'42["audio-generation-started"'
"""The last lifecycle event of a replay."""


class Probe:
    """Joins the generation again and again, each time with `afterSeq` 0, so that everything is sent again."""

    def __init__(self, url: str, token: str) -> None:
        self._light = LightSocket(url, token)
        self._joins = 0

    def close(self) -> None:
        self._light.close()

    def run(self, seconds: float, gap_s: float) -> dict[str, Any]:
        """Return milliseconds from each join to its replay's last event, and to its acknowledgement after it."""
        light = self._light
        sent: dict[bytes, float] = {}
        acks: list[float] = []
        replays: list[float] = []
        replayed_at = 0.0
        started = time.monotonic()
        due, end = started, started + seconds
        while sent or due < end:
            now = time.monotonic()
            if due < end and due <= now:
                self._joins += 1
                light.emit(self._joins, "join-generation", {"generationId": GENERATION, "afterSeq": 0})
                sent[f"43{self._joins}[".encode()] = time.monotonic()
                due += gap_s
            elif now > end + ANSWER_S:
                break
            wait_s = due - time.monotonic() if due < end else ANSWER_S
            if not select.select([light.socket], [], [], max(0.0, wait_s))[0]:
                continue
            data = light.socket.recv(RECEIVED)
            now = time.monotonic()
            if not data:
                break
            for payload in light.frames.feed(data):
                if payload == b"2":
                    light.send("3")
                elif payload.startswith(LAST_REPLAYED):
                    replayed_at = now
                elif payload.startswith(b"43") and (asked_at := sent.pop(payload[: payload.index(b"[") + 1], None)):
                    # An answer to an earlier run, which has given it up, is none of these.
                    acks.append(1e3 * (now - asked_at))
                    replays.append(1e3 * (replayed_at - asked_at))
        return {
            "joins": len(acks) + len(sent),
            "unanswered": len(sent),
            "ack_ms": acks,
            "replay_ms": replays,
        }
