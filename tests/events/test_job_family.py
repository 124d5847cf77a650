"""What a generation does, as a client of the jobs gateway hears it."""

import pytest
from hypothesis import given

from harmonia_lab.events.job_family import JobView
from tests.events.stories import AUDIO_URL, METADATA, OPTIONS, job, story, told_live


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
def test_the_generations_own_events_pass_unchanged_and_each_before_what_it_means(options):
    view = JobView(job())
    for event in story(**options):
        first, *rest = view.observe(event)
        assert first is event
        assert all(each.emitted_at == event.emitted_at for each in rest)


def test_a_place_in_the_queue_is_told_and_the_whole_job_only_at_first():
    view = JobView(job())
    first, second = view.queued(position=2, eta_seconds=60), view.queued(position=1)
    assert (first.job.id, first.position, first.eta_seconds, first.seq) == ("g", 2, 60, 1)
    assert (second.job, second.position, second.seq) == (None, 1, 2)


def test_a_retry_is_the_same_job_again_from_nothing():
    view = JobView(job())
    view.queued()
    events = [each for event in story(ending="failed") for each in view.observe(event)]
    again = view.queued()
    assert again.seq == events[-1].seq + 1
    assert (again.job.status, again.job.progress.percentage, again.job.result) == ("pending", 0, None)
    assert again.job.created_at == events[-1].job.created_at
