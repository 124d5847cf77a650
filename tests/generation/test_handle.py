"""Songs in the background: waited for, awaited, cancelled, one after the other."""

import asyncio
import gc
import threading
import traceback
import weakref

import numpy as np
import pytest

from harmonia_lab.backends.job_queue import JobQueue
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


@pytest.fixture
def worker():
    worker = JobQueue()
    yield worker
    worker.close(5)


def make_job(tmp_path, **engines):
    generation = Generation(
        SongRequest(narrative="A story.", seconds=1, seed=1),
        metadata_engine=engines.get("metadata") or FakeMetadataEngine(),
        audio_engine=engines.get("audio") or FakeAudioEngine(),
        folder=lambda generation_id: SongFolder(tmp_path / "songs", generation_id),
        draw=lambda path, **_: path.write_bytes(b"picture"),
        emit=lambda event: job.observe(event),  # noqa: PLW0108 - a test may replace observe later
        log_row=lambda row: None,
    )
    job = JobHandle(generation)
    return job


def test_a_job_runs_while_its_caller_does_something_else(tmp_path, worker):
    job = make_job(tmp_path)
    assert (job.done, job.status) == (False, "pending")
    worker.submit(job)
    song = job.result(60)
    assert (job.done, job.status, song.generation_id) == (True, "completed", job.id)
    assert job.progress.overall_progress == 100
    assert [e.seq for e in job.events] == [1, 2, 3, 4]


def test_a_job_can_be_awaited_before_and_after_its_end(tmp_path, worker):
    async def main():
        job = make_job(tmp_path)
        worker.submit(job)
        return await job, await job

    first, second = asyncio.run(main())
    assert first is second


def test_awaiting_a_cancelled_job_raises_cancelled(tmp_path, worker):
    async def main():
        job = make_job(tmp_path, metadata=FakeMetadataEngine(step_s=60))
        worker.submit(job)
        job.cancel()
        await job

    with pytest.raises(Cancelled):
        asyncio.run(main())


def test_who_awaited_and_left_keeps_no_later_job_from_its_turn(tmp_path, worker):
    async def main():
        await asyncio.wait_for(left._wait_async(), 0.01)

    left, later = make_job(tmp_path, metadata=FakeMetadataEngine(step_s=60)), make_job(tmp_path)
    worker.submit(left)
    worker.submit(later)
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    left.cancel()
    assert later.result(60).generation_id == later.id


def test_a_result_that_takes_too_long_is_a_timeout_and_the_job_goes_on(tmp_path, worker):
    job = make_job(tmp_path, metadata=FakeMetadataEngine(step_s=60))
    worker.submit(job)
    with pytest.raises(TimeoutError):
        job.result(0.05)
    assert job.status in ("pending", "processing")
    assert job.cancel() is True
    assert job.cancel() is False


def test_a_waiting_job_is_cancelled_without_waiting_for_its_turn(tmp_path, worker):
    first = make_job(tmp_path, metadata=FakeMetadataEngine(step_s=60))
    second = make_job(tmp_path)
    worker.submit(first)
    worker.submit(second)
    assert second.cancel() is True
    assert second.done
    assert not first.done
    with pytest.raises(Cancelled):
        second.result()
    first.cancel()


def test_jobs_run_in_the_order_they_came(tmp_path, worker):
    order = []
    jobs = [make_job(tmp_path) for _ in range(3)]
    for index, job in enumerate(jobs):
        job.observe = lambda event, index=index: order.append(index)
        worker.submit(job)
    for job in jobs:
        job.result(60)
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


def test_a_song_that_ends_in_a_defect_and_a_listener_that_fails_keep_no_later_song_from_its_turn(tmp_path, worker):
    def fail(**_):
        raise PermissionError("not yours")

    broken, later = make_job(tmp_path), make_job(tmp_path)
    broken._generation._folder.keep = fail
    broken._generation._audio_engine.errors.append(AudioError("It broke."))
    broken.when_done(fail)
    worker.submit(broken)
    worker.submit(later)
    with pytest.raises(HarmoniaError, match="PermissionError: not yours") as caught:
        broken.result(60)
    assert caught.value.code is ErrorCode.INTERNAL
    assert later.result(60).generation_id == later.id


def test_closing_cancels_what_runs_and_what_waits(tmp_path):
    worker = JobQueue()
    jobs = [make_job(tmp_path, metadata=FakeMetadataEngine(step_s=60)) for _ in range(2)]
    for job in jobs:
        worker.submit(job)
    worker.close(5)
    worker.close(5)
    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(make_job(tmp_path))


def test_stopping_does_not_wait_for_a_worker_that_hears_nothing(tmp_path, worker):
    started = threading.Event()
    job = make_job(tmp_path, audio=FakeAudioEngine(deaf=True, step_s=1.0))
    observe = job.observe

    def note(event):
        observe(event)
        if event.name == "audio-generation-progress":
            started.set()

    job.observe = note
    worker.submit(job)
    assert started.wait(60)
    assert job.stop(0.05) is True
    assert job.status == "cancelled"
    with pytest.raises(Cancelled):
        job.result(0)


class Heavy(FakeAudioEngine):
    """Holds a sound while it ends as told. sound: a reference that does not keep it."""

    def __init__(self, error):
        super().__init__()
        self.error, self.sound = error, None

    def render(self, parts, plan, seeds, progress, cancel, finished):
        sound = np.zeros(1_000_000, np.float32)
        self.sound = weakref.ref(sound)
        raise self.error


@pytest.mark.parametrize("error", [Cancelled(), AudioError("It broke."), ValueError("A defect.")])
def test_who_keeps_the_handle_of_a_song_that_came_to_nothing_keeps_none_of_its_sound(tmp_path, worker, error):
    engine = Heavy(error)
    gc.disable()  # what only a collection would free is not free
    try:
        job = make_job(tmp_path, audio=engine)
        worker.submit(job)
        with pytest.raises(HarmoniaError) as raised:
            job.result(60)
        assert engine.sound() is None
    finally:
        gc.enable()
    assert "song.py" in "".join(traceback.format_exception(raised.value))  # it still says where
