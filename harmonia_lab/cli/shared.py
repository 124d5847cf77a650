"""`harmonia doctor --redis`: what a Redis that servers share promises, and which servers are there.

Owns that list of checks. Nothing in it has credentials.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress

from harmonia_lab.engines.spec import Check
from harmonia_lab.errors import HarmoniaError, StorageError
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection

__all__ = ["checks_of_redis"]


def checks_of_redis(url: str) -> list[Check]:
    """Return what is found at a Redis, and change nothing there."""
    try:
        with closing(RedisConnection(url)) as connection:
            return _checks(connection)
    except HarmoniaError as error:
        return [Check("redis", "missing", error.message, error.hint)]


def _checks(connection: RedisConnection) -> list[Check]:
    started = time.perf_counter()
    info = connection.info()
    took_ms = (time.perf_counter() - started) * 1000
    memory = int(info.get("used_memory", 0)) / 1e6
    checks = [
        Check("redis", "ok", f"{connection.label}, version {info.get('redis_version')}, {took_ms:.1f} ms away"),
        Check("memory", "ok", f"{memory:.1f} MB in use"),
    ]
    doubts = connection.doubts()
    checks += [Check("persistence", "missing", *doubt.split(". ", 1)) for doubt in doubts]
    if not doubts:
        checks.append(_persistence(connection))
    unfinished = connection.read(lambda client: client.hlen(f"{PREFIX}unfinished"))
    generations = connection.read(lambda client: client.zcard(f"{PREFIX}jobs"))
    checks.append(Check("songs", "ok", f"{generations} known, {unfinished} of them wait or are made"))
    servers = connection.servers()
    for about in servers:
        checks.append(Check("server", "ok", str(about.get("url") or "a lab that serves nobody")))
    if not servers:
        checks.append(Check("server", "optional", "none is there", "harmonia serve --redis URL"))
    return checks


def _persistence(connection: RedisConnection) -> Check:
    fsync = "unknown"
    with suppress(StorageError):  # who hosts Redis for others may not tell
        fsync = str(connection.read(lambda client: client.config_get("appendfsync")).get("appendfsync", fsync))
    advice = "" if fsync == "always" else "Set appendfsync always: a power cut then loses no event."
    return Check("persistence", "ok", f"append-only file, appendfsync {fsync}", advice)
