"""Clients that have events from another server which this one doesn't know yet.

Owns how long their join waits. This server's copy may be some moments old, and Redis may have come back without events
that it had acknowledged, until the server that made them hands them in again. To send those would be to send them
twice.
"""

from __future__ import annotations

import asyncio
import time

from harmonia_lab.protocol.events import Channel
from harmonia_lab.store.journal_core import JournalCore

__all__ = ["AHEAD_S", "until_known"]

AHEAD_S = 4.0
"""Seconds: longer than a lease takes to see that Redis has restarted, shorter than a client waits for its answer."""


async def until_known(journal: JournalCore, channel: Channel, seq: int) -> None:
    """Wait until the journal knows event number `seq` of the channel, or for AHEAD_S: who names a number that never
    comes is sent all that follows what is known then."""
    deadline = time.monotonic() + AHEAD_S
    while time.monotonic() < deadline:
        state = journal.state(channel.generation_id)
        if state is None or state.over or state.cursor(channel.family).seq >= seq:
            return
        await asyncio.sleep(AHEAD_S / 100)
