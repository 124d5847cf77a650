"""Events passed from other threads to the event loop."""

import asyncio
import time

from harmonia_lab.protocol.events import (
    GenerationCancelled,
    JobProgressEvent,
    MetadataGenerationProgress,
    MetadataGenerationStarted,
)
from harmonia_lab.protocol.models import JobProgress
from harmonia_lab.server.thread_bridge import ThreadBridge


def progress(tick, generation_id="g"):
    return MetadataGenerationProgress(
        generation_id=generation_id, tick=tick, seq=1, progress=0, status="", overall_progress=0, current_step="title"
    )


def started(generation_id="g"):
    return MetadataGenerationStarted(generation_id=generation_id, seq=1, user_id="ann", narrative="x", model="m")


def ended(generation_id="g"):
    return GenerationCancelled(generation_id=generation_id, seq=2, reason="user_cancelled")


def cross(publish, interval_s, wait_s=0.0):
    """Return the events that the bridge delivers when `publish(bridge)` runs in another thread."""
    out = []

    async def main():
        bridge = ThreadBridge(asyncio.get_running_loop(), lambda event, _: out.append(event), interval_s)
        await asyncio.to_thread(publish, bridge)
        await asyncio.sleep(0.01 + wait_s)

    asyncio.run(main())
    return out


def test_lifecycle_events_all_cross_in_order():
    def publish(bridge):
        for number in range(500):
            bridge(started(f"g{number}"))

    assert [e.generation_id for e in cross(publish, 10)] == [f"g{n}" for n in range(500)]


def test_of_much_progress_the_first_crosses_then_the_latest_in_each_interval():
    def publish(bridge):
        for tick in range(1, 1001):
            bridge(progress(tick))

    begun = time.monotonic()
    ticks = [e.tick for e in cross(publish, 0.2, wait_s=0.3)]
    intervals = (time.monotonic() - begun) / 0.2
    assert ticks == sorted(ticks)
    assert ticks[-1] == 1000
    assert len(ticks) <= intervals + 1


def test_progress_never_crosses_after_what_came_later():
    def publish(bridge):
        bridge(started())
        for tick in range(1, 4):
            bridge(progress(tick))
        bridge(ended())

    out = cross(publish, 10)
    assert [e.name for e in out][-1] == "generation-cancelled"
    assert out[-2].tick == 3


def test_each_generation_and_family_has_a_pace_of_its_own():
    job = JobProgressEvent(id="g", tick=1, progress=JobProgress())

    def publish(bridge):
        for event in (progress(1, "g"), progress(1, "h"), job):
            bridge(event)
            time.sleep(0.02)

    assert len(cross(publish, 10)) == 3


def test_one_event_that_cannot_be_delivered_keeps_no_other(caplog):
    out = []

    async def main():
        def deliver(event, _):
            if event.generation_id == "bad":
                raise ZeroDivisionError
            out.append(event.generation_id)

        bridge = ThreadBridge(asyncio.get_running_loop(), deliver, 0.1)
        for generation_id in ("a", "bad", "b"):
            bridge(started(generation_id))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert out == ["a", "b"]
    assert "could not be sent" in caplog.text


def test_after_the_loops_end_nothing_is_raised():
    async def main():
        return ThreadBridge(asyncio.get_running_loop(), print, 0.1)

    asyncio.run(main())(started())
