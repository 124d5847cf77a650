"""Every event of both families goes out in order, and not before it is kept."""

import contextlib
import itertools
import sqlite3
import threading

import pytest
from hypothesis import given

from harmonia_lab.client.store import State, Store, reduce
from harmonia_lab.errors import AudioError, HarmoniaError
from harmonia_lab.events.event_log import TICKS_BEYOND_A_CRASH, EventLog
from harmonia_lab.events.state import apply, new_state
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.protocol import events as e
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal import Journal
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
from tests.events.stories import AUDIO_URL, METADATA, OPTIONS, Unkept, job, logged, request, story, told_live, views
from tests.waiting import until


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal.sqlite3")
    yield opened
    opened.close()


def kept(journal):
    return {(event.family, event.seq) for event in journal.history("g") if event.delivery == "lifecycle"}


def test_what_is_published_was_kept_before(journal):
    journal.begin(job(), request())
    published = []

    def publish(event):
        published.append(event)
        assert event.delivery != "lifecycle" or (event.family, event.seq) in kept(journal)

    log = EventLog(new_state(job(), request()), journal, publish)
    log.queued(0, 1.0)
    for event in story():
        log(event)
    assert [(e.name, e.seq) for e in published] == [(e.name, e.seq) for e in told_live()]


def test_a_journal_that_cannot_write_holds_up_nobody_and_catches_up(journal, caplog):
    journal.begin(job(), request())
    published = []
    log = EventLog(new_state(job(), request()), journal, published.append)
    log.queued(0, 1.0)
    events = story()
    with contextlib.closing(sqlite3.connect(journal.path)) as backup:
        backup.execute("BEGIN IMMEDIATE")
        for event in events:
            log(event)
        assert backup.execute("SELECT family, seq FROM events").fetchall() == [("job", 1)]
        assert kept(journal) == {(e.family, e.seq) for e in published if e.delivery == "lifecycle"}
        backup.rollback()
    until(lambda: not journal.unwritten.has_events, "the events in the file")
    with contextlib.closing(Journal(journal.path)) as other:
        assert kept(other) == {(e.family, e.seq) for e in published if e.delivery == "lifecycle"}
    assert len([record for record in caplog.records if "holds a lock" in record.getMessage()]) == 1


def test_an_event_after_the_journal_was_closed_still_reaches_the_listeners(journal):
    journal.begin(job(), request())
    published = []
    log = EventLog(new_state(job(), request()), journal, published.append)
    journal.close()
    log.queued(0, 1.0)
    assert [event.name for event in published] == ["job:status"]


def test_the_order_holds_when_the_queue_and_the_worker_speak_at_once(journal):
    journal.begin(job(), request())
    published = []
    log = EventLog(new_state(job(), request()), journal, published.append)
    log.queued(0, 1.0)
    queue = threading.Thread(target=lambda: [log.queued(i, 1.0) for i in range(50)])
    queue.start()
    for event in story(ending="in stage 1", ticks=50):
        log(event)
    queue.join()
    numbers = [e.seq for e in published if e.family == "job" and e.delivery == "lifecycle"]
    assert numbers == list(range(1, len(numbers) + 1))


ENGINES = {"failed": {"errors": [AudioError("It broke.")]}, "timeout": {"step_s": 5.0}}


@pytest.mark.parametrize("kind", ["completed", "failed", "cancelled", "timeout"])
def test_what_the_pipeline_tells_goes_through_and_adds_up(kind, journal, tmp_path):
    published, store = [], Store()

    def publish(event):
        published.append(event)
        store(event)
        if event.name == "metadata-generation-complete" and kind == "cancelled":
            generation.cancel()

    waiting = job()
    journal.begin(waiting, request())
    log = EventLog(new_state(waiting, request()), journal, publish)
    log.queued(0, 1.0)
    generation = Generation(
        SongRequest(narrative="A story.", seconds=2, seed=7, generation_id="g"),
        metadata_engine=FakeMetadataEngine(),
        audio_engine=FakeAudioEngine(**ENGINES.get(kind, {})),
        folder=SongFolder(tmp_path / "songs", "g"),
        draw=lambda path, **_: path.write_bytes(b"picture") and "",
        emit=log,
        log_row=lambda row: None,
        limits=TimeLimits(audio_s=0.2 if kind == "timeout" else 60),
    )
    with contextlib.suppress(HarmoniaError):
        generation.run()
    status = "cancelled" if kind == "timeout" else kind
    assert (generation.status, journal.state("g").status) == (status, status)
    assert store.state.jobs["g"].status == status
    again = State()
    for event in journal.history("g"):
        again = reduce(again, event)
    assert views(again) == views(store.state)
    if kind == "completed":
        assert journal.state("g").song_path.read_bytes()[:4] == b"fLaC"


def job_events(**options):
    return [event for event in told_live(**options) if event.family == "job"]


def lifecycle(events):
    return [(event.name, getattr(event, "status", "")) for event in events if event.delivery == "lifecycle"]


@pytest.mark.parametrize(
    ("ending", "last"),
    [
        ("completed", [("job:completed", ""), ("job:status", "completed")]),
        ("failed", [("job:failed", ""), ("job:status", "failed")]),
        ("cancelled", [("job:status", "cancelled")]),
        ("timeout", [("job:status", "cancelled")]),
        ("in stage 2", []),
    ],
)
def test_a_job_waits_works_and_ends_once(ending, last):
    begun = [("job:status", "pending"), ("job:status", "processing")]
    assert lifecycle(job_events(ending=ending)) == begun + last


def test_a_finished_job_has_its_song_and_its_words():
    done = next(event for event in job_events() if event.name == "job:completed").job
    assert (done.status, done.progress.percentage, done.progress.current) == ("completed", 100, 100)
    assert (done.result.output_path, done.result.metadata, done.result.error) == (AUDIO_URL, METADATA, None)


def test_metadata_that_was_given_is_in_the_result_too():
    done = next(event for event in job_events(given=True) if event.name == "job:completed").job
    assert done.result.metadata == METADATA


def test_a_failure_says_what_and_whether_a_retry_can_help():
    failed, status = job_events(ending="failed")[-2:]
    assert (failed.error, failed.code, failed.recoverable) == ("It broke.", "AUDIO_ERROR", True)
    assert (status.job.status, status.job.result.error) == ("failed", "It broke.")


def test_recovery_is_no_failure():
    assert lifecycle(job_events(recovered=True)) == lifecycle(job_events())


@given(OPTIONS)
def test_numbers_have_no_gap_and_progress_spans_both_stages_without_going_back(options):
    events = job_events(**options)
    numbers = [event.seq for event in events if event.delivery == "lifecycle"]
    assert numbers == list(range(1, len(numbers) + 1))
    seq, tick, percentage = 0, 0, 0.0
    for event in events:
        if event.delivery == "lifecycle":
            seq = event.seq
        else:
            assert (event.seq, event.tick) == (seq, tick + 1)
            assert event.progress.percentage >= percentage
            assert event.progress.current / event.progress.total == pytest.approx(percentage / 100, abs=1)
            tick, percentage = event.tick, event.progress.percentage


@given(OPTIONS)
def test_the_generations_own_events_are_only_numbered_and_each_comes_before_what_it_means(options):
    told = story(**options)
    events = logged(told, given=options["given"])[1:]  # the first says that the job waits
    for event in told:
        first, *rest = events
        assert first.model_copy(update={"emitted_at": event.emitted_at}) == event
        meanings = list(itertools.takewhile(lambda each: each.family == "job", rest))
        assert {each.emitted_at for each in meanings} <= {first.emitted_at}
        events = rest[len(meanings) :]
    assert events == []


def test_a_place_in_the_queue_is_published_and_the_whole_job_only_at_first():
    published = []
    log = EventLog(new_state(job(), request()), Unkept(), published.append)
    log.queued(2, 60)
    log.queued(1, 30)
    first, second = published
    assert (first.job.id, first.position, first.eta_seconds, first.seq) == ("g", 2, 60, 1)
    assert (second.job, second.position, second.seq) == (None, 1, 2)
    log(story()[0])
    log.queued(0, 10)  # it has its turn already
    assert [event.seq for event in published if event.family == "job"] == [1, 2, 3]


def ended(ending):
    """The state and the events of a generation that has ended."""
    state, events = new_state(job(), request()), told_live(ending=ending)
    for event in events:
        state = apply(state, event)
    return state, events


def test_a_retry_is_the_same_job_again_from_nothing():
    state, events = ended("failed")
    again = logged([], state=state)[0]
    assert again.seq == events[-1].seq + 1
    assert (again.job.status, again.job.progress.percentage, again.job.result) == ("pending", 0, None)
    assert again.job.created_at == events[-1].job.created_at


def test_a_retry_after_a_crash_numbers_beyond_the_progress_that_may_have_been_sent():
    state, _ = ended("in stage 2")
    published = []
    log = EventLog(state, Unkept(), published.append)
    error = e.ErrorInfo(code="INTERRUPTED", message="It ended.", recoverable=True)
    log(e.GenerationError(generation_id="g", error=error, stage="audio", final=True))
    for event in published:
        state = apply(state, event)
    again = logged(story(ticks=1), state=state)
    assert min(event.tick for event in again if event.delivery == "progress") > TICKS_BEYOND_A_CRASH


def test_nothing_follows_the_end():
    published = []
    log = EventLog(new_state(job(), request()), Unkept(), published.append)
    log.queued(0, 1.0)
    for event in [*story(ending="cancelled"), *story()]:
        log(event)
    log.queued(0, 1.0)
    assert [event.name for event in published[-2:]] == ["generation-cancelled", "job:status"]
