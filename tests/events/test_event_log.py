"""Every event of both families goes out in order, and not before it is kept."""

import contextlib
import threading

import pytest

from harmonia_lab.client.store import State, Store, reduce
from harmonia_lab.errors import AudioError, HarmoniaError, StorageError
from harmonia_lab.events.event_log import Outlet
from harmonia_lab.events.job_family import JobView
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation, Limits
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal import Journal
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
from tests.events.stories import job, request, story, told_live


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal.sqlite3")
    yield opened
    opened.close()


def kept(journal):
    return {(event.family, event.seq) for event in journal.history("g") if event.delivery == "lifecycle"}


def test_what_is_handed_on_was_kept_before(journal):
    journal.begin(job(), request())
    heard = []

    def hand_on(event):
        heard.append(event)
        assert event.delivery != "lifecycle" or (event.family, event.seq) in kept(journal)

    outlet = Outlet(JobView(job()), journal, hand_on)
    outlet.queued(position=0)
    for event in story():
        outlet(event)
    assert [(e.name, e.seq) for e in heard] == [(e.name, e.seq) for e in told_live()]


def test_a_journal_that_cannot_write_holds_up_nobody_and_catches_up(journal, monkeypatch, caplog):
    journal.begin(job(), request())
    heard = []
    outlet = Outlet(JobView(job()), journal, heard.append)
    outlet.queued()
    works = journal.record

    def full(*events):
        raise StorageError("The disk is full.")

    events = story()
    monkeypatch.setattr(journal, "record", full)
    for event in events[:-1]:
        outlet(event)
    assert kept(journal) == {("job", 1)}
    monkeypatch.setattr(journal, "record", works)
    outlet(events[-1])
    assert kept(journal) == {(e.family, e.seq) for e in heard if e.delivery == "lifecycle"}
    assert len([record for record in caplog.records if "disk is full" in record.getMessage()]) == 1


def test_the_order_holds_when_the_queue_and_the_worker_speak_at_once(journal):
    journal.begin(job(), request())
    heard = []
    outlet = Outlet(JobView(job()), journal, heard.append)
    outlet.queued()
    queue = threading.Thread(target=lambda: [outlet.queued(position=i) for i in range(50)])
    queue.start()
    for event in story(ending="in stage 1", ticks=50):
        outlet(event)
    queue.join()
    numbers = [e.seq for e in heard if e.family == "job" and e.delivery == "lifecycle"]
    assert numbers == list(range(1, len(numbers) + 1))


ENGINES = {"failed": {"errors": [AudioError("It broke.")]}, "timeout": {"step_s": 5.0}}


@pytest.mark.parametrize("kind", ["completed", "failed", "cancelled", "timeout"])
def test_what_the_pipeline_tells_goes_through_and_adds_up(kind, journal, tmp_path):
    heard, store = [], Store()

    def hand_on(event):
        heard.append(event)
        store(event)
        if event.name == "metadata-generation-complete" and kind == "cancelled":
            generation.cancel()

    waiting = job()
    journal.begin(waiting, request())
    outlet = Outlet(JobView(waiting), journal, hand_on)
    outlet.queued(position=0)
    generation = Generation(
        SongRequest(narrative="A story.", seconds=2, seed=7, generation_id="g"),
        metadata_engine=FakeMetadataEngine(),
        audio_engine=FakeAudioEngine(**ENGINES.get(kind, {})),
        folder=lambda generation_id: SongFolder(tmp_path / "songs", generation_id),
        draw=lambda path, **_: path.write_bytes(b"picture"),
        emit=outlet,
        log_row=lambda row: None,
        limits=Limits(audio_s=0.2 if kind == "timeout" else 60),
    )
    with contextlib.suppress(HarmoniaError):
        generation.run()
    status = "cancelled" if kind == "timeout" else kind
    assert (generation.status, journal.standing("g").job.status) == (status, status)
    assert store.state.jobs["g"].status == status
    again = State()
    for event in journal.history("g"):
        again = reduce(again, event)
    assert again == store.state
    if kind == "completed":
        assert journal.standing("g").song.read_bytes()[:4] == b"fLaC"
