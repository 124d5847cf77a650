"""Waiting for what another thread or process is about to do: until it has done it, never for a fixed time.

`PATIENCE_S` guards against hanging alone. It is long, because a machine may be slow and busy with other things.
"""

import asyncio
import time

PATIENCE_S = 300.0


def until(happened, what="it"):
    """The first true value of `happened()`."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} has not come about within {PATIENCE_S:g} s"
        time.sleep(0.005)
    return found


async def until_so(happened, what="it"):
    """The same in an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} has not come about within {PATIENCE_S:g} s"
        await asyncio.sleep(0.005)
    return found
