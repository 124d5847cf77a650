"""What only a running server knows, as metrics: bytes, users, throttled progress, health, the audit log's losses.

Owns the list. Each figure is read when somebody asks for the metrics, so counting costs the event loop nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harmonia_lab.server.audit import AuditLog
from harmonia_lab.server.connections import Connections
from harmonia_lab.server.gateway import Gateway
from harmonia_lab.server.health import Health
from harmonia_lab.server.http_rules import HttpRules
from harmonia_lab.server.thread_bridge import ThreadBridge
from harmonia_lab.server.transport import SocketServer
from harmonia_lab.store.exposition import MetricFamily, Sample, counts, gauge, label

__all__ = ["observe"]


def observe(
    *,
    connections: Connections,
    sockets: SocketServer,
    gateway: Gateway,
    rules: HttpRules,
    bridge: ThreadBridge,
    health: Health,
    audit_log: AuditLog | None,
) -> Callable[[], Iterable[MetricFamily]]:
    """Return a source for `Metrics.add_source`."""

    def families() -> Iterable[MetricFamily]:
        sent: dict[tuple[str, ...], int] = {("events",): sockets.wire.sent_bytes, ("http",): rules.sent_bytes}
        engines = [
            Sample("", (("stage", each.stage), ("engine", label(each.engine))), float(each.state == "ready"))
            for each in health.engines()
        ]
        yield gauge("tcp_connections", "TCP connections that are open.", connections.total)
        yield gauge("active_users", "Users with a socket.", gateway.user_count)
        yield counts(
            "received_bytes_total", "Bytes from clients, after decryption.", (), {(): connections.received_bytes}
        )
        yield counts("sent_bytes_total", "Bytes to clients, before compression.", ("over",), sent)
        yield counts(
            "messages_throttled_total",
            "Progress that a newer one replaced before it was sent.",
            (),
            {(): bridge.replaced},
        )
        yield gauge("ready", "Whether sockets can be served.", float(health.readiness().code is None))
        yield MetricFamily("engine_ready", "gauge", "Whether the engine can make songs, as known last.", engines)
        yield gauge("disk_free_bytes", "Free space where the journal is.", health.free_bytes())
        lost = 0 if audit_log is None else audit_log.lost
        yield counts("audit_lines_lost_total", "Lines that the audit log could not write.", (), {(): lost})

    return families
