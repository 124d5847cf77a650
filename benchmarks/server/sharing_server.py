"""One of the servers of `python -m benchmarks.server servers`, as a process: with a Redis that it shares, or alone.

Owns how it is started, and how it publishes: through the event log, as a song does, so that other servers are told.
"""

from __future__ import annotations

import sys
import time

import psutil

from benchmarks.server.children import commands, reply
from benchmarks.server.generation import begin, progress, scratch_lab
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.server.settings import RateLimits

__all__ = ["main"]

SOCKETS = 20_000
MANY = (1e6, 10**6)


def main(key: str, redis: str = "") -> None:
    """key: the file that signs tokens, the same for all servers."""
    log: EventLog | None = None
    with scratch_lab(redis=redis or None, steps=10_000, step_s=0.05) as lab:
        server = lab.serve(
            port=0,
            key=key,
            progress_interval_s=0.0,  # nothing is thinned out
            max_connections=SOCKETS,
            max_sockets_per_user=SOCKETS,
            rates=RateLimits(connections=MANY, messages=MANY, starts=MANY, costs=MANY),
        )
        reply(url=server.url, token=server.token())
        for command in commands():
            if command["do"] == "memory":
                reply(bytes=psutil.Process().memory_info().rss)
                continue
            log = log or begin(lab)
            started = time.monotonic()
            for index in range(command["count"]):
                time.sleep(max(0.0, started + index * command["gap_s"] - time.monotonic()))
                log(progress(command["first"] + index))
            reply(published=command["count"])


if __name__ == "__main__":
    main(*sys.argv[1:])
