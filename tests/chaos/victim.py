"""The process that faults happen to: a lab with a server, on files that the driver can reach.

It reads its settings and then commands from standard input, a JSON object a line, and answers each with one. It ends
when that pipe closes.
"""

import datetime as dt
import os
import time
from pathlib import Path

from benchmarks.server.children import commands, reply
from harmonia_lab import Lab
from harmonia_lab.engines.process_tree import descendants
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.protocol import models
from harmonia_lab.server.settings import RateLimits, ServerSettings
from tests.chaos.engines import quick_picture

SERVER = {"rates": RateLimits(starts=(1000.0, 1000), connections=(1000.0, 2000)), "progress_interval_s": 0.01}


def shift_clock(offset_s):
    """Move this process's wall clock. It is patched: a machine's own clock is everybody's."""
    now, real = dt.datetime, _TIME

    class Shifted(now):
        @classmethod
        def now(cls, tz=None):
            return now.now(tz) + dt.timedelta(seconds=offset_s)

    time.time = lambda: real() + offset_s
    models.datetime = Shifted if offset_s else now


_TIME = time.time


def state(lab):
    """Return what this process has open."""
    return {
        "rooms": lab.metrics.readings().rooms,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "children": descendants(os.getpid()),
    }


def main():
    given = next(commands())
    quick_picture()
    lab = Lab(
        metadata=given["metadata"],
        metadata_settings=given["metadata_settings"],
        audio=given["audio"],
        songs=Path(given["songs"]),
        home=Path(given["home"]),
        limits=TimeLimits(**given["limits"]),
    )
    with lab:
        server = lab.serve(ServerSettings(port=0, **SERVER))
        roles = {"root": ("admin",)}
        users = {user: server.token(user, roles.get(user, ()), ttl=10 * 86400.0) for user in given["users"]}
        reply(url=server.url, tokens=users)
        for command in commands():
            if command["do"] == "clock":
                shift_clock(command["offset_s"])
            if command["do"] == "close":
                break
            reply(**state(lab))


if __name__ == "__main__":
    main()
