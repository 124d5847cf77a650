"""The guide's metrics, and a few more for operators: counts and seconds, never an id, a user or a text.

Owns the counters, `Readings` for notebooks, Prometheus's text format, and the parser that turns that text back into
`Readings`. `server/http.py` decides who may read them.

Not prometheus_client: its `Histogram.observe` counts one message at a time, `Metrics.sent` all copies of an event. An
event to one socket takes 2.1 µs against 1.1 µs, one to 100 sockets 179 µs against 1.1 µs (medians of 9 rounds).
"""

from __future__ import annotations

import bisect
import itertools
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Self

from harmonia_lab.errors import CODES
from harmonia_lab.protocol.events import FamilyEvent, GenerationError, JobStatusEvent

__all__ = ["CONTENT_TYPE", "LATENCY_BUCKETS_S", "Metrics", "Readings"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The type of `Metrics.text`: Prometheus's text format 0.0.4."""

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True)
class Readings:
    """connections, rooms, active_generations: at this moment. All others: since the process started.

    average_latency_s: mean seconds from an event to its write to a socket, over all messages; 0 before the first.
    generations: ended ones, by status. errors_by_code: recovered errors and refused commands included.
    generation_seconds: sum over ended generations.
    """

    connections: int
    rooms: int
    active_generations: int
    messages_sent: int
    messages_dropped: int
    errors: int
    average_latency_s: float
    connections_opened: int
    generations: dict[str, int]
    errors_by_code: dict[str, int]
    generation_seconds: float

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Parse another process's `Metrics.text`. Raises KeyError for any other text."""
        values: dict[str, float] = {}
        labelled: dict[str, dict[str, int]] = {"generations_total": {}, "errors_total": {}}
        for name, label, value in _SAMPLE.findall(text):
            values[name] = float(value)
            if name in labelled:
                labelled[name][label] = int(value)
        sent = values["message_latency_seconds_count"]
        return cls(
            connections=int(values["connections"]),
            rooms=int(values["rooms"]),
            active_generations=int(values["active_generations"]),
            messages_sent=int(values["messages_sent_total"]),
            messages_dropped=int(values["messages_dropped_total"]),
            errors=sum(labelled["errors_total"].values()),
            average_latency_s=values["message_latency_seconds_sum"] / sent if sent else 0.0,
            connections_opened=int(values["connections_opened_total"]),
            generations=labelled["generations_total"],
            errors_by_code=labelled["errors_total"],
            generation_seconds=values["generation_seconds_sum"],
        )


_SAMPLE = re.compile(r'^harmonia_(\w+)(?:\{\w+="([^"]*)"\})? (\S+)$', re.MULTILINE)
"""Matches one line that `Metrics.text` writes. Groups: name, value of the label, value."""


class Metrics:
    """Counters that any thread may use. `metrics(event)` counts generations and their errors, as a fan-out listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections = self._opened = self._rooms = self._dropped = 0
        self._latencies = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._latency_sum = 0.0
        self._errors: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._started: dict[str, float] = {}
        """Seconds of the monotonic clock, by generation: a jump of the wall clock is no duration."""
        self._generation_seconds = 0.0

    def connected(self) -> None:
        with self._lock:
            self._connections += 1
            self._opened += 1

    def disconnected(self) -> None:
        with self._lock:
            self._connections -= 1

    def set_rooms(self, count: int) -> None:
        with self._lock:
            self._rooms = count

    def sent(self, messages: int, latency_s: float) -> None:
        """Count copies of one event that were written to sockets, `latency_s` seconds after the event."""
        with self._lock:
            self._latencies[bisect.bisect_left(LATENCY_BUCKETS_S, latency_s)] += messages
            self._latency_sum += messages * max(0.0, latency_s)

    def dropped(self, messages: int = 1) -> None:
        """Count progress events that a slow client did not get."""
        with self._lock:
            self._dropped += messages

    def failed(self, code: str) -> None:
        """Count an error of a generation or a command."""
        with self._lock:
            self._errors[code if code in CODES else "INTERNAL"] += 1

    def __call__(self, event: FamilyEvent) -> None:
        if isinstance(event, GenerationError):
            self.failed(event.error.code)
        elif isinstance(event, JobStatusEvent):
            with self._lock:
                if event.status == "processing":
                    self._started[event.id] = time.monotonic()
                elif event.status != "pending":
                    self._ended[event.status] += 1
                    now = time.monotonic()
                    self._generation_seconds += now - self._started.pop(event.id, now)

    def readings(self) -> Readings:
        with self._lock:
            sent = sum(self._latencies)
            return Readings(
                connections=self._connections,
                rooms=self._rooms,
                active_generations=len(self._started),
                messages_sent=sent,
                messages_dropped=self._dropped,
                errors=self._errors.total(),
                average_latency_s=self._latency_sum / sent if sent else 0.0,
                connections_opened=self._opened,
                generations=dict(self._ended),
                errors_by_code=dict(self._errors),
                generation_seconds=self._generation_seconds,
            )

    def text(self) -> str:
        """Return all metrics in Prometheus's text format."""
        now = self.readings()
        with self._lock:
            latencies, latency_sum = list(self._latencies), self._latency_sum
        bounds = [*(str(bound) for bound in LATENCY_BUCKETS_S), "+Inf"]
        buckets = zip(bounds, itertools.accumulate(latencies), strict=True)
        lines = [
            *_metric("connections", "gauge", "Sockets that are connected.", now.connections),
            *_metric("connections_opened_total", "counter", "Sockets that have connected.", now.connections_opened),
            *_metric("rooms", "gauge", "Rooms with at least one member.", now.rooms),
            *_metric("active_generations", "gauge", "Generations that are running.", now.active_generations),
            *_metric("messages_dropped_total", "counter", "Progress that slow clients missed.", now.messages_dropped),
            *_by_label("generations_total", "Generations that ended.", "status", now.generations),
            *_by_label("errors_total", "Errors of generations and commands.", "code", now.errors_by_code),
            *_head("generation_seconds", "summary", "From the start of a generation to its end."),
            f"harmonia_generation_seconds_sum {now.generation_seconds}",
            f"harmonia_generation_seconds_count {sum(now.generations.values())}",
            *_head("message_latency_seconds", "histogram", "From an event to its write to a socket."),
            *(f'harmonia_message_latency_seconds_bucket{{le="{bound}"}} {count}' for bound, count in buckets),
            f"harmonia_message_latency_seconds_sum {latency_sum}",
            f"harmonia_message_latency_seconds_count {sum(latencies)}",
            *_metric("messages_sent_total", "counter", "Messages written to sockets.", sum(latencies)),
        ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP harmonia_{name} {meaning}", f"# TYPE harmonia_{name} {kind}"]


def _metric(name: str, kind: str, meaning: str, value: float) -> list[str]:
    return [*_head(name, kind, meaning), f"harmonia_{name} {value}"]


def _by_label(name: str, meaning: str, label: str, values: dict[str, int]) -> list[str]:
    # The values of labels are statuses and error codes, so none needs escaping.
    return [*_head(name, "counter", meaning), *(f'harmonia_{name}{{{label}="{k}"}} {v}' for k, v in values.items())]
