"""The guide's metrics, and more for operators: counts and seconds, never an id, a user or a text.

Owns the counters, `Readings` for notebooks, and the parser that turns Prometheus's text format back into `Readings`.
`exposition.py` has that format, `process_metrics.py` what the process takes; a server adds what only it knows
(`server/observed.py`), and `server/http.py` decides who may read them.

Not prometheus_client: its `Histogram.observe` counts one message at a time, `Metrics.sent` all copies of an event. An
event to one socket takes 2.1 µs against 1.1 µs, one to 100 sockets 179 µs against 1.1 µs (medians of 9 rounds).
"""

from __future__ import annotations

import bisect
import platform
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from harmonia_lab._version import __version__
from harmonia_lab.errors import CODES
from harmonia_lab.protocol.events import AudioPreview, FamilyEvent, GenerationError, JobStatusEvent
from harmonia_lab.protocol.wire_model import PROTOCOL_VERSION
from harmonia_lab.store.exposition import CONTENT_TYPE, Histogram, MetricFamily, Sample, counts, gauge, label, text_of

__all__ = ["CONTENT_TYPE", "LATENCY_BUCKETS_S", "STAGE_BUCKETS_S", "Metrics", "Readings"]

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STAGE_BUCKETS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

MAX_LABELS = 200
"""Combinations of labels of one metric. More of them, as by engines named by chance, count as "other"."""

_ENDED = ("completed", "failed", "cancelled")


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
        for name, value_of_label, value in _SAMPLE.findall(text):
            values[name] = float(value)
            if name in labelled and float(value):
                labelled[name][value_of_label] = int(value)
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
"""Matches a line of `Metrics.text` with one label or none. Groups: name, value of the label, value."""

FamilySource = Callable[[], Iterable[MetricFamily]]
"""Returns metrics as they are at this moment. Any thread may call it."""


class Metrics:
    """Counters that any thread may use. `metrics(event)` counts generations and their errors, as a fan-out listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections = self._opened = self._rooms = self._dropped = 0
        self._latencies = Histogram(LATENCY_BUCKETS_S)
        self._pings = Histogram(LATENCY_BUCKETS_S)
        self._errors: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._started: dict[str, float] = {}
        """Seconds of the monotonic clock, by generation: a jump of the wall clock is no duration."""
        self._waiting: dict[str, float] = {}
        """The same, of generations that wait for their turn."""
        self._generation_seconds = 0.0
        self._stages: dict[tuple[str, ...], Histogram] = defaultdict(lambda: Histogram(STAGE_BUCKETS_S))
        self._counted: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in _COUNTERS}
        self._counted["webhook_calls_total"].update(dict.fromkeys([("ok",), ("failed",), ("dropped",)], 0))
        self._sources: list[FamilySource] = []

    def connected(self) -> None:
        with self._lock:
            self._connections += 1
            self._opened += 1

    def disconnected(self, reason: str = "") -> None:
        """reason: why, in one of a few words."""
        with self._lock:
            self._connections -= 1
        self.count("disconnections_total", reason)

    def set_rooms(self, count: int) -> None:
        with self._lock:
            self._rooms = count

    def sent(self, messages: int, latency_s: float) -> None:
        """Count copies of one event that were written to sockets, `latency_s` seconds after the event."""
        with self._lock:  # `Histogram.add`, without the call
            latencies = self._latencies
            latencies.counted[bisect.bisect_left(LATENCY_BUCKETS_S, latency_s)] += messages
            latencies.total += messages * max(0.0, latency_s)

    def dropped(self, messages: int = 1) -> None:
        """Count progress events that a slow client did not get."""
        with self._lock:
            self._dropped += messages

    def ponged(self, round_trip_s: float) -> None:
        """Count a client's answer to a ping."""
        with self._lock:
            self._pings.add(round_trip_s)

    def failed(self, code: str) -> None:
        """Count an error of a generation or a command."""
        with self._lock:
            self._errors[code if code in CODES else "INTERNAL"] += 1

    def count(self, name: str, *labels: object, by: int = 1) -> None:
        """Count one more of `name`, a key of `_COUNTERS`. labels: in the order there; what is no short word is "other",
        and so is what comes after MAX_LABELS others."""
        key = tuple(map(label, labels))
        with self._lock:
            counted = self._counted[name]
            if key not in counted and len(counted) >= MAX_LABELS:
                key = tuple(map(label, [None] * len(labels)))
            counted[key] += by

    def attempt(self, row: Mapping[str, Any]) -> None:
        """Count the stages of an attempt that has ended. row: of the run log."""
        total_s, stage_1_s = row.get("total_s") or 0.0, row.get("metadata_s")
        last = row.get("stage")
        outcome = "timeout" if row.get("cancel_reason") == "timeout" else row.get("status")
        if stage_1_s is not None:
            self._stage("metadata", row, "completed", stage_1_s)
        elif last == "metadata":
            self._stage("metadata", row, outcome, total_s)
        if last == "done":
            self._stage("audio", row, "completed", row.get("audio_s") or total_s)
        elif last == "audio":
            self._stage("audio", row, outcome, total_s - (stage_1_s or 0.0))

    def _stage(self, stage: str, row: Mapping[str, Any], outcome: object, seconds: float) -> None:
        key = (stage, label(row.get(f"{stage}_engine")), label(outcome))
        with self._lock:
            if key not in self._stages and len(self._stages) >= MAX_LABELS:
                key = (stage, label(None), label(outcome))
            self._stages[key].add(seconds)

    def add_source(self, source: FamilySource) -> Callable[[], None]:
        """Have `text` ask `source` too. Return the function that ends that, which may be called twice."""
        with self._lock:
            self._sources = [*self._sources, source]

        def remove() -> None:
            with self._lock:
                self._sources = [each for each in self._sources if each is not source]

        return remove

    def __call__(self, event: FamilyEvent) -> None:
        if isinstance(event, GenerationError):
            self.failed(event.error.code)
            if not event.final:
                self.count("recoveries_total", (event.error.details or {}).get("plan") or event.error.code)
        elif isinstance(event, JobStatusEvent):
            self._observe_status(event)
        elif isinstance(event, AudioPreview):
            self.count("previews_total")

    def _observe_status(self, event: JobStatusEvent) -> None:
        now = time.monotonic()
        with self._lock:
            if event.status == "pending":
                self._waiting.setdefault(event.id, now)
                return
            self._waiting.pop(event.id, None)
            if event.status == "processing":
                self._started[event.id] = now
            else:
                self._ended[event.status] += 1
                self._generation_seconds += now - self._started.pop(event.id, now)

    def readings(self) -> Readings:
        with self._lock:
            sent = self._latencies.count
            return Readings(
                connections=self._connections,
                rooms=self._rooms,
                active_generations=len(self._started),
                messages_sent=sent,
                messages_dropped=self._dropped,
                errors=self._errors.total(),
                average_latency_s=self._latencies.total / sent if sent else 0.0,
                connections_opened=self._opened,
                generations=dict(self._ended),
                errors_by_code=dict(self._errors),
                generation_seconds=self._generation_seconds,
            )

    def text(self) -> str:
        """Return all metrics in Prometheus's text format. It may take some milliseconds: not for an event loop."""
        own = self._families()
        return text_of([*own, *(family for source in self._sources for family in source())])

    def _families(self) -> list[MetricFamily]:
        now = self.readings()
        ended = sum(now.generations.values())
        tried = ended - now.generations.get("cancelled", 0)
        # A counter that begins at its first error has no increase by it: Prometheus needs the zero before.
        errors = dict.fromkeys(map(str, CODES), 0) | now.errors_by_code
        generations = dict.fromkeys(_ENDED, 0) | now.generations
        with self._lock:
            waiting, oldest = len(self._waiting), min(self._waiting.values(), default=None)
            latencies, pings = self._latencies.samples(), self._pings.samples()
            stages = [
                sample
                for key, histogram in self._stages.items()
                for sample in histogram.samples(tuple(zip(("stage", "engine", "outcome"), key, strict=True)))
            ]
            counted = {name: dict(values) for name, values in self._counted.items()}
        lasted = [Sample("_sum", (), now.generation_seconds), Sample("_count", (), ended)]
        return [
            _build_info(),
            gauge("connections", "Sockets that are connected.", now.connections),
            counts("connections_opened_total", "Sockets that have connected.", (), {(): now.connections_opened}),
            gauge("rooms", "Rooms with at least one member.", now.rooms),
            gauge("active_generations", "Generations that are running.", now.active_generations),
            gauge("queue_length", "Generations that wait for their turn.", waiting),
            gauge(
                "queue_oldest_seconds",
                "How long the one that has waited longest has waited; 0 where none does.",
                0.0 if oldest is None else time.monotonic() - oldest,
            ),
            counts("messages_dropped_total", "Progress that slow clients missed.", (), {(): now.messages_dropped}),
            counts("generations_total", "Generations that ended.", ("status",), _keyed(generations)),
            gauge(
                "success_ratio",
                "Completed generations over completed and failed ones, since the start.",
                now.generations.get("completed", 0) / tried if tried else None,
            ),
            counts("errors_total", "Errors of generations and commands.", ("code",), _keyed(errors)),
            MetricFamily("generation_seconds", "summary", "From the start of a generation to its end.", lasted),
            MetricFamily("stage_seconds", "histogram", "Stages of attempts, by how they ended.", stages),
            MetricFamily("message_latency_seconds", "histogram", "From an event to its write to a socket.", latencies),
            MetricFamily("ping_round_trip_seconds", "histogram", "From a ping to the client's answer.", pings),
            counts("messages_sent_total", "Messages written to sockets.", (), {(): now.messages_sent}),
            *(counts(name, meaning, labels, counted[name]) for name, (meaning, labels) in _COUNTERS.items()),
        ]


_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "recoveries_total": ("Errors after which a generation went on by itself.", ("plan",)),
    "commands_total": ("Commands over sockets, by their acknowledgement.", ("name", "outcome")),
    "requests_total": ("HTTP calls, by route.", ("route", "outcome")),
    "refused_connections_total": ("Connections that were refused.", ("reason",)),
    "disconnections_total": ("Sockets that have disconnected.", ("reason",)),
    "replays_total": ("Joins and subscriptions that sent events again.", ()),
    "replayed_events_total": ("Events that they sent.", ()),
    "previews_total": ("Previews that engines made.", ()),
    "downloads_total": ("Files that were sent whole or by range.", ("file",)),
    "webhook_calls_total": ("Calls of the configured webhook.", ("outcome",)),
}
"""Name → meaning, names of the labels."""


def _keyed(values: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(name,): value for name, value in values.items()}


def _build_info() -> MetricFamily:
    facts = (("version", __version__), ("protocol", PROTOCOL_VERSION), ("python", platform.python_version()))
    return MetricFamily("build_info", "gauge", "Always 1; the labels say what runs.", [Sample("", facts, 1)])
