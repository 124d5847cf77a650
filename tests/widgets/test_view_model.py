"""What a panel shows, from events alone: no widget, no browser."""

import json

from hypothesis import given
from hypothesis import strategies as st

from harmonia_lab.client.store import ConnectionEstablished, ConnectionLost, GenerationAccess, State, reduce
from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol import events as e
from harmonia_lab.protocol.models import Share, Wish
from harmonia_lab.protocol.sound import Measured
from harmonia_lab.widgets.view_model import TokenRate, view
from tests.events.stories import METADATA, OPTIONS, Teller, logged, told_live


def watch(events, *, clock=float, state=None):
    """Every view on the way, and the store's state at the end."""
    state, rate, views = state or State(), TokenRate(), []
    for index, event in enumerate(events):
        state = reduce(state, event)
        generation = state.generations.get("g", GenerationState("g"))
        rate = rate.after(generation, clock(index))
        connection = "" if state.connected else state.connection_error or ""
        views.append(view(generation, connection=connection, rate=rate))
    return views, state


def live(teller):
    return logged(teller.told)


@given(OPTIONS)
def test_every_view_is_plain_json_and_its_percentages_never_go_back(options):
    views, _ = watch(told_live(**options))
    json.dumps(views, allow_nan=False)
    overall = [shown["overall"] for shown in views]
    assert overall == sorted(overall)
    assert all(0 <= stage["percent"] <= 100 for shown in views for stage in shown["stages"])


def test_a_finished_song_is_shown_whole_and_can_be_neither_cancelled_nor_retried():
    shown = watch(told_live())[0][-1]
    assert (shown["status"], shown["headline"], shown["overall"]) == ("completed", "Done", 100.0)
    assert [stage["state"] for stage in shown["stages"]] == ["done", "done"]
    assert {chip["state"] for chip in shown["chips"]} == {"done"}
    assert (shown["title"], shown["lyrics"]) == (METADATA.title, METADATA.lyrics.strip())
    assert "90 bpm" in shown["facts"]
    assert shown["summary"].startswith("20 s of music, made in")
    assert not shown["canCancel"]
    assert not shown["canRetry"]


def test_wishes_and_what_cannot_be_done_are_shown():
    wishes = [
        Wish(field="key", text="in D minor", value="D minor", outcome="followed"),
        Wish(field="meter", text="7/8", value="meter: 7/8", outcome="impossible"),
    ]
    metadata = METADATA.model_copy(update={"wishes": wishes, "warnings": ["A metre of 7/8 can't be had here."]})
    shown = view(GenerationState("g", metadata=metadata))
    assert shown["wishes"] == "D minor, meter: 7/8 (can't be done)"
    assert shown["warnings"] == "A metre of 7/8 can't be had here."


def test_while_stage_2_runs_the_chips_say_which_instrument_plays_and_which_are_done():
    teller = Teller("g", 0, 0)
    teller.stage_2(0)
    teller.tell(
        e.AudioGenerationProgress,
        progress=60,
        status="Rendering drums",
        overall_progress=80,
        current_instrument="drums",
        instruments_completed=1,
        total_instruments=2,
        eta_seconds=75,
    )
    shown = watch(live(teller))[0][-1]
    assert [(chip["name"], chip["state"]) for chip in shown["chips"]] == [("piano", "done"), ("drums", "active")]
    assert shown["eta"] == "about 1 min 15 s left"
    assert shown["stages"][0]["name"] == "Lyrics (given)"
    assert shown["stages"][1] == {"name": "Music", "percent": 60, "state": "active", "step": "drums"}


def write(teller, tokens, **partial):
    teller.tell(
        e.MetadataGenerationProgress,
        progress=10,
        status="Creating lyrics...",
        overall_progress=5,
        current_step="lyrics",
        tokens_generated=tokens,
        partial=e.PartialMetadata(**partial) if partial else None,
    )


def test_title_and_lyrics_appear_as_they_are_written_with_the_speed_of_writing():
    teller = Teller("g", 0, 0)
    teller.stage_1(0)
    write(teller, 10, title="Low Tide")
    write(teller, 40, title="Low Tide", lyrics="The sea")
    # Two events for each progress: clock(index) is in half seconds.
    shown = watch(live(teller), clock=lambda index: index / 2)[0][-1]
    assert (shown["title"], shown["lyrics"]) == ("Low Tide", "The sea")
    assert shown["tokens"] == "40 tokens · 30 tokens/s with pauses"
    assert shown["stages"][0]["step"] == "lyrics"


def test_the_speed_of_writing_stays_as_it_was_when_the_last_word_was_written():
    teller = Teller("g", 0, 0)
    teller.stage_1(0)
    write(teller, 10)
    write(teller, 40)
    written = watch(live(teller), clock=lambda index: index / 2)[0][-1]
    write(teller, 40)
    write(teller, 40)
    assert watch(live(teller), clock=lambda index: index / 2)[0][-1]["tokens"] == written["tokens"]


def test_what_was_written_stays_to_be_seen_after_a_cancel():
    teller = Teller("g", 0, 0)
    teller.stage_1(0)
    write(teller, 40, title="Low Tide", lyrics="The sea")
    teller.end("cancelled")
    shown = watch(live(teller))[0][-1]
    assert (shown["status"], shown["headline"], shown["error"]) == ("cancelled", "Cancelled", "")
    assert (shown["title"], shown["lyrics"]) == ("Low Tide", "The sea")
    assert shown["stages"][0]["state"] == "stopped"
    assert not shown["canRetry"]


def test_a_failure_says_why_what_was_tried_and_what_a_retry_keeps():
    error = MetadataError("Ollama went away.", code=ErrorCode.OLLAMA_UNAVAILABLE, hint="Start it.")
    teller = Teller("g", 0, 0)
    teller.stage_1(1)
    teller.fail(error, "metadata", final=False)
    recovering = watch(live(teller))[0][-1]
    assert recovering["status"] == "processing"
    assert recovering["plan"].startswith("Trying by itself: ")
    assert not recovering["canRetry"]
    teller.fail(error, "metadata", final=True)
    failed = watch(live(teller))[0][-1]
    assert (failed["error"], failed["code"]) == ("Ollama went away. Start it.", "OLLAMA_UNAVAILABLE")
    assert "Tried already" in failed["plan"]
    assert failed["canRetry"]
    assert not failed["canCancel"]


def test_a_retry_begins_the_bars_again_and_forgets_the_failure():
    views, state = watch(told_live(ending="failed"))
    assert "lyrics are kept" in views[-1]["plan"] or not views[-1]["canRetry"]
    again = logged([], state=state.generations["g"], position=2)
    queued = watch(again, state=state)[0][-1]
    assert (queued["status"], queued["headline"]) == ("pending", "Waiting for its turn: 2 before it")
    assert queued["overall"] == 0
    assert queued["title"] == METADATA.title
    assert queued["plan"] == ""


def test_a_lost_connection_is_said_and_forgotten_once_it_is_back():
    events = [ConnectionEstablished(), *told_live(ending="in stage 1"), ConnectionLost("transport close")]
    views, state = watch(events)
    assert views[0]["connection"] == ""
    assert views[-1]["connection"] == "Not connected (transport close); trying again."
    assert watch([ConnectionEstablished()], state=state)[0][-1]["connection"] == ""


@given(st.randoms(use_true_random=False), OPTIONS)
def test_events_that_come_twice_or_too_early_show_nothing_else(random, options):
    events = told_live(**options | {"ticks": 0})  # progress that was overtaken is gone for good
    noisy = [each for event in events for each in (event, random.choice(events))]
    # What came too early is sent again, as a server replays it.
    assert watch([*noisy, *events])[0][-1] == watch(events)[0][-1]


def test_before_anything_is_known_there_is_a_view_already():
    shown = view(GenerationState("g"))
    assert (shown["status"], shown["overall"], shown["chips"]) == ("pending", 0.0, [])


def test_who_may_only_hear_it_sees_no_buttons_and_its_owner_sees_who_may():
    generation = watch(told_live(ending="in stage 1"))[1].generations["g"]
    shares = (Share(user_id="con", role="controller"), Share(user_id="<vic>", role="viewer"))
    expected = {
        None: ("", True),
        GenerationAccess("owner"): ("", True),
        GenerationAccess("owner", shares): ("Shared with con (controller), <vic> (viewer).", True),
        GenerationAccess("admin", shares): ("Shared with con (controller), <vic> (viewer).", True),
        GenerationAccess("controller"): ("Shared with you as controller.", True),
        GenerationAccess("viewer"): ("Shared with you as viewer.", False),
        GenerationAccess(None): ("No longer shared with you.", False),
    }
    for sharing, (words, can_cancel) in expected.items():
        shown = view(generation, sharing=sharing)
        assert (shown["shared"], shown["canCancel"]) == (words, can_cancel)
    failed = watch(told_live(ending="failed"))[1].generations["g"]
    assert view(failed)["canRetry"] == view(failed, sharing=GenerationAccess("controller"))["canRetry"]
    assert not view(failed, sharing=GenerationAccess("viewer"))["canRetry"]


def told_with(**heard):
    """The last view of a song whose last event says this of its sound."""
    events = [
        each.model_copy(update=heard) if each.name == "audio-generation-complete" else each for each in told_live()
    ]
    return watch(events)[0][-1]


def test_a_finished_song_says_what_is_heard_beside_what_was_asked():
    assert told_with()["heard"] == ""  # by a version that didn't measure
    shown = told_with(follows=["notes"], measured=Measured(bpm=45, key="C major"))
    assert shown["heard"] == "Heard: about 45 bpm (half the asked 90), C major (asked C major)."
    assert shown["picture"] == "Waveform, sung lines and spectrogram of T"


def test_of_a_sound_that_follows_no_notes_the_panel_says_so():
    shown = told_with(follows=["prompt"], measured=Measured())
    assert "no clear beat (asked 90 bpm)" in shown["heard"]
    assert "no words are sung" in shown["heard"]
    assert shown["picture"] == "Waveform and spectrogram of T"


def test_words_that_are_still_being_written_are_marked_as_a_draft_until_they_are_whole():
    teller = Teller("g", 0, 0)
    teller.stage_1(0)
    write(teller, 1)
    assert watch(live(teller))[0][-1]["facts"] == ""  # there are no words yet
    write(teller, 2, title="A working title", genre="folk")
    assert watch(live(teller))[0][-1]["facts"] == "Draft, still being written · folk"
    assert "Draft" not in watch(told_live())[0][-1]["facts"]


def test_words_that_a_cancel_left_unfinished_stay_a_draft():
    teller = Teller("g", 0, 0)
    teller.stage_1(0)
    write(teller, 40, title="Low Tide", lyrics="The sea")
    teller.end("cancelled")
    assert watch(live(teller))[0][-1]["facts"] == "Draft, never finished"
