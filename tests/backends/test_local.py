"""Songs in the background: waited for, awaited, cancelled, one after the other."""

import asyncio
import gc
import threading
import traceback
import weakref
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from harmonia_lab.backends.base import JobOptions
from harmonia_lab.backends.local import LocalBackend
from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, HarmoniaError, StorageError
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.artifacts import load_song
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
from tests.waiting import until


@pytest.fixture
def backend(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite3")
    backend = LocalBackend(
        journal=lambda: journal,
        publish=Fanout(),
        run_log=RunLog(tmp_path / "runs.jsonl"),
        songs=tmp_path / "songs",
        limits=TimeLimits(),
        metadata=MetadataChoice(FakeMetadataEngine(), None, {}),
        audio_engines=AudioEngines(FakeAudioEngine(), None, {}),
    )
    yield backend
    backend.close(5)
    journal.close()


def submit(backend, audio=None):
    return backend.submit(SongRequest(narrative="A story.", seconds=1, seed=1), JobOptions(audio))


def slow():
    return FakeAudioEngine(step_s=60)


def test_a_job_runs_while_its_caller_does_something_else(backend):
    job = submit(backend)
    song = job.result(60)
    assert (job.done, job.status, song.generation_id) == (True, "completed", job.id)
    assert job.progress.overall_progress == 100
    assert [e.seq for e in job.events] == [1, 2, 3, 4]
    assert job.state.over


def test_a_job_can_be_awaited_before_and_after_its_end(backend):
    async def main():
        job = submit(backend)
        return await job, await job

    first, second = asyncio.run(main())
    assert first is second


def test_awaiting_a_cancelled_job_raises_cancelled(backend):
    async def main():
        job = submit(backend, slow())
        job.cancel()
        await job

    with pytest.raises(Cancelled):
        asyncio.run(main())


def test_who_awaited_and_left_keeps_no_later_job_from_its_turn(backend):
    async def main():
        await asyncio.wait_for(left._wait_async(), 0.01)

    left, later = submit(backend, slow()), submit(backend)
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    left.cancel()
    assert later.result(60).generation_id == later.id


def test_a_result_that_takes_too_long_is_a_timeout_and_the_job_goes_on(backend):
    job = submit(backend, slow())
    with pytest.raises(TimeoutError):
        job.result(0.05)
    assert job.status in ("pending", "processing")
    assert job.cancel() is True
    assert job.cancel() is False


def test_a_waiting_job_is_cancelled_without_waiting_for_its_turn(backend):
    first = submit(backend, slow())
    second = submit(backend)
    assert second.cancel() is True
    assert second.done
    assert not first.done
    with pytest.raises(Cancelled):
        second.result()
    first.cancel()


def test_jobs_run_in_the_order_they_came(backend):
    order = []
    backend._publish.subscribe(lambda event: event.family == "generation" and order.append(event.generation_id))
    jobs = [submit(backend) for _ in range(3)]
    for job in jobs:
        job.result(60)
    assert order == sorted(order, key=[job.id for job in jobs].index)
    assert len(set(order)) == 3


def test_a_song_that_ends_in_a_defect_and_a_callback_that_fails_keep_no_later_song_from_its_turn(backend):
    def fail(**_):
        raise PermissionError("not yours")

    broken, later = submit(backend, FakeAudioEngine(errors=[AudioError("It broke.")], step_s=0.2)), submit(backend)
    backend._jobs[broken.id].generation._folder.keep = fail
    broken.when_done(fail)
    with pytest.raises(HarmoniaError, match="PermissionError: not yours") as caught:
        broken.result(60)
    assert caught.value.code is ErrorCode.INTERNAL
    state = backend._journal().state(broken.id)
    assert (state.status, state.failure.error.code) == ("failed", "INTERNAL")  # clients hear of its end too
    assert later.result(60).generation_id == later.id


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_a_listener_may_cancel_the_job_whose_event_it_gets(backend, status):
    order = []

    def cancel(event):
        if event.name == "job:status" and event.status == status:
            backend.cancel(event.id)

    backend._publish.subscribe(cancel)
    backend._publish.subscribe(lambda event: event.family == "job" and order.append((event.name, event.seq)))
    job = submit(backend, slow())
    with pytest.raises(Cancelled):
        job.result(60)
    assert [seq for name, seq in order if name == "job:status"] == list(range(1, job.state.job_cursor.seq + 1))


def test_a_job_that_is_cancelled_while_it_is_announced_takes_no_place_in_the_queue(backend):
    running = submit(backend, slow())
    backend._publish.subscribe(lambda event: event.generation_id != running.id and backend.cancel(event.generation_id))
    assert submit(backend).status == "cancelled"
    assert backend._queue._waiting.count() == 0
    running.cancel()


def test_a_retry_by_another_thread_before_the_handle_has_ended_leaves_the_handle_its_own_error(backend):
    again = []

    def retry(event):
        if event.name == "job:failed" and not again:
            thread = threading.Thread(target=lambda: again.append(backend.retry(event.id, JobOptions())))
            thread.start()
            thread.join(0.2)  # it waits until this attempt's last event is out

    names = []
    backend._publish.subscribe(retry)
    backend._publish.subscribe(lambda event: event.family == "job" and names.append((event.name, event.seq)))
    job = submit(backend, FakeAudioEngine(errors=[AudioError("It broke.")]))
    with pytest.raises(AudioError, match="It broke"):
        job.result(60)
    until(lambda: again, "the second attempt")
    assert again[0].result(60).generation_id == job.id
    seqs = [seq for name, seq in names if name != "job:progress"]
    assert seqs == sorted(seqs)


def test_closing_cancels_what_runs_and_what_waits(backend):
    jobs = [submit(backend, slow()) for _ in range(2)]
    backend.close(5)
    backend.close(5)
    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    with pytest.raises(RuntimeError, match="closed"):
        submit(backend)


def test_the_outcome_is_the_very_song_that_its_folder_holds(backend):
    song = submit(backend).result(60)
    assert load_song(Path(song.directory), duration=song.duration) == song


def test_stopping_does_not_wait_for_a_worker_that_hears_nothing(backend):
    started = threading.Event()
    backend._publish.subscribe(lambda event: event.name == "audio-generation-progress" and started.set())
    job = submit(backend, FakeAudioEngine(ignores_cancel=True, step_s=1.0))
    assert started.wait(60)
    assert job.stop(0.05) is True
    assert job.status == "cancelled"
    with pytest.raises(Cancelled):
        job.result(0)


def test_an_end_that_fails_is_logged_and_takes_no_interrupts_place(backend, monkeypatch, caplog):
    def refuse(_):
        raise StorageError("The disk is full.")

    job = submit(backend, slow())
    with monkeypatch.context() as patched:
        patched.setattr(job._backend, "cancel", refuse)
        assert job.stop(0.05) is False
    assert "The disk is full." in caplog.text
    assert job.stop(5) is True


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
def test_who_keeps_the_handle_of_a_song_that_came_to_nothing_keeps_none_of_its_sound(backend, error):
    engine = Heavy(error)
    gc.disable()  # what only a collection would free is not free
    try:
        job = submit(backend, engine)
        with pytest.raises(HarmoniaError) as raised:
            job.result(60)
        assert engine.sound() is None
    finally:
        gc.enable()
    if not isinstance(error, Cancelled):
        assert "generation.py" in "".join(traceback.format_exception(raised.value))  # it still says where


def test_the_wait_in_the_queue_is_no_part_of_an_attempt(backend, tmp_path):
    jobs = [submit(backend, FakeAudioEngine(step_s=0.05)) for _ in range(2)]
    for job in jobs:
        job.result(60)
    first, second = RunLog(tmp_path / "runs.jsonl").rows()
    starts = [datetime.fromisoformat(row["started_at"]).timestamp() for row in (first, second)]
    assert starts[1] - starts[0] > first["total_s"] - 0.002  # both are cut to milliseconds


def test_each_attempt_at_a_generation_has_an_id_of_its_own(backend, tmp_path):
    job = submit(backend, FakeAudioEngine(errors=[AudioError("Once."), AudioError("Twice.")]))
    job.wait(60)
    for _ in range(2):
        backend.retry(job.id, JobOptions(FakeAudioEngine(errors=[AudioError("Again.")]))).wait(60)
    rows = RunLog(tmp_path / "runs.jsonl").rows()
    assert [row["run_id"] for row in rows] == [f"{job.id}-{number}" for number in (1, 2, 3)]


def test_a_log_that_cannot_be_read_or_written_costs_no_song(backend, tmp_path, caplog):
    (tmp_path / "runs.jsonl").mkdir()
    assert submit(backend).result(60).duration == 1
    assert "The run could not be logged" in caplog.text
