"""Crash points, counted: copies at every write in one process, and processes that kill themselves at a write.

Owns both loops. `python -m tests.chaos.crash_run points|kills COUNT SEED` prints a row of JSON for each story, or kill.
"""

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.crash_points import Watcher, copied, remove
from tests.chaos.crash_story import check, tell
from tests.chaos.engines import quick_picture

RETRIED = 20
"""Of so many copies, one is tried again as well: that takes ten times as long as a look."""

MEMORY = Path("/dev/shm")


@contextlib.contextmanager
def scratch():
    """A folder in memory where there is one: what the disk does with a write is not what is tried here."""
    with tempfile.TemporaryDirectory(prefix="harmonia-crash-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def points(count, seed, done):
    """Take crash points until there are `count`; call `done` with a row for each story."""
    quick_picture()
    watcher, taken, number = Watcher(), 0, 0
    while taken < count:
        with scratch() as folder:
            row = _story(watcher, folder, f"{seed}/{number}", count - taken)
        taken += row["points"]
        number += 1
        done(row)


def _story(watcher, folder, seed, most):
    draw, began = random.Random(seed), time.monotonic()
    at, heard, copies, known = folder / "at", [], [], 0
    at.mkdir()

    def take(where, known, torn=None):
        if len(copies) < most:
            copy = folder / f"copy{len(copies)}"
            copied(at, copy, torn, draw.random())
            copies.append((copy, where, known))

    def about_to(write, torn):
        nonlocal known
        if torn is not None:  # clients have heard of a transaction only once it was whole
            take(f"in the middle of {Path(torn.path).name}", known, torn)
        known = len(heard)
        take(f"before {write}", known)

    with watcher.watching(at, about_to):
        tell(at, seed, heard.append)
        about_to("nothing", None)
    broken = []
    for number, (copy, where, known) in enumerate(copies):
        remove(at)
        copy.rename(at)  # the journal has the songs' folder by its path
        faults = _checked(at, heard[:known], retry=number % RETRIED == 0)
        broken += [f"{where}: {fault}" for fault in faults]
    return {"story": seed, "points": len(copies), "seconds": round(time.monotonic() - began, 2), "broken": broken}


def _checked(folder, heard, *, retry):
    try:
        return check(folder, heard, retry=retry)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the next process would have met
        return [f"{type(error).__name__}: {error}"]


def kills(count, seed, done):
    """Have `count` processes kill themselves at a random write, and look at what each has left."""
    quick_picture()
    number = made = 0
    while made < count:
        with scratch() as folder:
            row = _kill(folder, f"{seed}/kill/{number}")
        number += 1
        if row is not None:  # the story ended before its write
            made += 1
            done(row)


def _kill(folder, seed):
    draw, began = random.Random(seed), time.monotonic()
    at, spoken = folder / "at", folder / "heard.jsonl"
    at.mkdir()
    last = draw.randint(1, 150)

    def die():
        writes = Counter()

        def about_to(_write, _last):
            writes["all"] += 1
            if writes["all"] == last:
                os.kill(os.getpid(), signal.SIGKILL)

        # A line at once for each event: what a client has heard by then.
        speaker = os.open(spoken, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with Watcher().watching(at, about_to):
            tell(at, seed, lambda event: os.write(speaker, json.dumps(event).encode() + b"\n"))

    status = _in_a_child(die)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        assert status == 0, f"the story {seed} failed by itself"
        return None
    heard = [json.loads(line) for line in spoken.read_bytes().splitlines()]
    found = folder / "found.json"
    retry = draw.random() < 0.5
    assert _in_a_child(lambda: found.write_text(json.dumps(_checked(at, heard, retry=retry)))) == 0
    broken = [f"killed at write {last}: {fault}" for fault in json.loads(found.read_text())]
    return {"kill": seed, "write": last, "seconds": round(time.monotonic() - began, 2), "broken": broken}


def _in_a_child(work):
    """Run `work` in a forked process, and return its wait status. This process has one thread, so it may fork."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def main(what, count, seed):
    def done(row):
        print(json.dumps(row), flush=True)

    {"points": points, "kills": kills}[what](int(count), seed, done)


if __name__ == "__main__":
    main(*sys.argv[1:])
