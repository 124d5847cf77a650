"""The guide's reducers: what each event changes, and that it makes no difference how the events came."""

import dataclasses
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonia_lab.client.store import ConnectionEstablished, ConnectionLost, State, Store, reduce
from harmonia_lab.protocol.events import AudioPreview, Channel, ErrorInfo, GenerationError, JobStatusEvent
from harmonia_lab.store.journal import Journal
from tests.events.stories import METADATA, OPTIONS, job, request, story, told_live, views


def state_after(events, state=None):
    state = state or State()
    for event in events:
        state = reduce(state, event)
    return state


def test_stage_1_is_followed_step_by_step():
    started, progress, complete = story(ticks=1)[:3]
    state = state_after([started])
    active = state.active_generations["g"]
    assert (active.stage, active.progress, active.status) == ("metadata", 0, "Starting metadata generation...")
    active = (state := reduce(state, progress)).active_generations["g"]
    assert (active.progress, active.current_step, active.overall_progress) == (100, "lyrics", 50)
    active = reduce(state, complete).active_generations["g"]
    assert (active.stage, active.metadata.title, active.started_at) == ("metadata-complete", "T", started.emitted_at)


def test_stage_2_is_followed_instrument_by_instrument():
    active = state_after(story(ending="in stage 2", ticks=1)).active_generations["g"]
    assert (active.stage, active.status, active.current_instrument, active.total_instruments) == (
        "audio",
        "Rendering",
        "piano",
        2,
    )
    assert [instrument.name for instrument in active.instruments] == ["piano", "drums"]


def test_a_finished_song_is_no_longer_active():
    state = state_after(told_live())
    result = state.completed_generations["g"]
    assert (state.active_generations, state.errors) == ({}, {})
    assert (result.song_id, result.file_size, result.checksum, result.metadata) == ("s", 9, "a" * 64, METADATA)
    assert state.jobs["g"].status == "completed"


def test_a_final_error_ends_it_and_another_does_not():
    assert state_after(story(ending="failed")).active_generations == {}
    state = state_after(story(ending="in stage 1", recovered=True))
    assert (state.errors["g"].error.message, state.active_generations["g"].stage) == ("It went away.", "metadata")


def test_what_recovery_mended_is_no_error_any_more():
    assert state_after(story(recovered=True)).errors == {}


def test_a_cancel_reads_as_the_guide_has_it():
    failure = state_after(story(ending="cancelled")).errors["g"]
    assert (failure.error.code, failure.error.message, failure.stage) == (
        "CANCELLED",
        "Generation cancelled by user",
        "audio",
    )


def test_a_timeout_says_what_took_too_long():
    state = state_after(story(ending="timeout"))
    assert (state.errors["g"].error.code, state.active_generations) == ("AUDIO_TIMEOUT", {})
    assert "60 s" in state.errors["g"].error.message


def test_the_connection_is_part_of_the_state():
    state = state_after([ConnectionEstablished(), ConnectionLost("transport close")])
    assert (state.connected, state.connection_error) == (False, "transport close")
    assert reduce(state, ConnectionEstablished()).connection_error is None


def test_a_job_that_nothing_is_known_of_stays_unknown():
    assert state_after([JobStatusEvent(id="g", status="processing", seq=1)]).jobs == {}


def test_what_is_no_lifecycle_nor_progress_changes_nothing():
    state = state_after(told_live(ending="in stage 2"))
    preview = AudioPreview(generation_id="g", seq=3, index=0, start_seconds=0, mime_type="audio/wav", audio=b"")
    error = ErrorInfo(code="CANCEL_FAILED", message="m", recoverable=False)
    reply = GenerationError(generation_id="g", error=error, stage="audio", final=False)
    assert reduce(state, preview) is state
    assert reduce(state, reply) is state  # an answer to one client, outside the numbering


def test_a_state_never_changes():
    state = state_after(told_live())
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.connected = True
    with pytest.raises(TypeError):
        state.jobs["x"] = None


def lifecycle_part(state):
    """Without what progress alone tells: that is not sent again to who missed it."""
    return (
        {i: (a.stage, a.metadata, a.instruments, a.started_at) for i, a in state.active_generations.items()},
        state.completed_generations,
        state.errors,
        {i: (job.status, job.result, job.created_at) for i, job in state.jobs.items()},
        {i: (g.generation_cursor.seq, g.job_cursor.seq) for i, g in state.generations.items()},
    )


@given(OPTIONS, st.data())
def test_what_comes_twice_or_too_early_changes_nothing(options, data):
    events = told_live(**options)
    heard, last = [], {"generation": 0, "job": 0}
    for index, event in enumerate(events):
        for other in data.draw(st.lists(st.sampled_from(events), max_size=3)):
            in_turn = other.delivery == "lifecycle" and other.seq == last[other.family] + 1
            if not in_turn or other in events[:index]:
                heard.append(other)
        heard.append(event)
        last[event.family] = event.seq
    assert state_after(heard) == state_after(events)


@given(OPTIONS, st.data())
def test_whatever_the_order_once_all_has_come_the_lifecycle_is_whole(options, data):
    events = told_live(**options)
    noise = data.draw(st.lists(st.sampled_from(events), max_size=30))
    assert lifecycle_part(state_after([*noise, *events, *noise])) == lifecycle_part(state_after(events))


@given(OPTIONS, st.data())
def test_after_a_cut_what_was_missed_is_made_good(options, data):
    events = told_live(**options)
    start = data.draw(st.integers(0, len(events)))
    end = data.draw(st.integers(start, len(events)))
    heard = state_after([*events[:start], *events[end:]])  # whoever was cut off holds back what came too early
    asked_after = {family: heard.cursor(Channel(family, "g")).seq for family in ("generation", "job")}
    replayed = [e for e in events if e.delivery == "lifecycle" and e.seq > asked_after[e.family]]
    assert lifecycle_part(state_after(replayed, heard)) == lifecycle_part(state_after(events))


@given(OPTIONS, OPTIONS, st.randoms(use_true_random=False))
def test_two_generations_do_not_touch_each_other(one, other, random):
    queues = [told_live("a", **one), told_live("b", **other)]
    apart = [state_after(queue) for queue in queues]
    mixed = []
    while any(queues):
        mixed.append(random.choice([queue for queue in queues if queue]).pop(0))
    state = state_after(mixed)
    for field in ("active_generations", "completed_generations", "errors", "jobs"):
        assert getattr(state, field) == {**getattr(apart[0], field), **getattr(apart[1], field)}


@settings(max_examples=40, deadline=None)
@given(options=OPTIONS)
def test_the_journal_leaves_the_state_that_live_events_left(options, tmp_path_factory):
    events = told_live(**options)
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite3"
    journal = Journal(path)
    journal.begin(job(), request(given=options["given"]))
    for event in events:
        journal.record(event)
    live = state_after(events)
    assert views(state_after(journal.history("g"))) == views(live)
    journal.close()
    reopened = Journal(path)
    assert views(state_after(reopened.history("g"))) == views(live)
    reopened.close()


def test_observers_hear_each_new_state_and_nothing_else():
    store, heard = Store(), []
    leave = store.observe(heard.append)
    events = told_live()
    for event in [*events, *events]:
        store(event)
    assert (len(heard), heard[-1]) == (len(events), store.state)
    leave()
    leave()
    store(ConnectionLost("x"))
    assert len(heard) == len(events)


def test_several_threads_may_tell_it_at_once():
    store = Store()
    threads = [
        threading.Thread(target=lambda name=name: [store(event) for event in told_live(name, ticks=50)])
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(store.state.completed_generations) == set("abcd")
