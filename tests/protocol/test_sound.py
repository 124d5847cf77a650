"""What people read of a song's sound: the measured beside the asked, and what of the plan isn't heard."""

import pytest

from harmonia_lab.protocol.sound import Measured, given_note


@pytest.mark.parametrize(
    ("bpm", "key", "words"),
    [
        (118.2, "A minor", "about 118 bpm (asked 120), A minor (asked A minor)"),
        (59.1, "C major", "about 59 bpm (half the asked 120), C major (asked A minor)"),
        (241.0, None, "about 241 bpm (twice the asked 120), no clear key (asked A minor)"),
        (90.0, "E minor", "about 90 bpm (asked 120), E minor (asked A minor)"),
        (None, "A minor", "no clear beat (asked 120 bpm), A minor (asked A minor)"),
    ],
)
def test_the_measured_stands_beside_the_asked_and_half_and_double_are_said(bpm, key, words):
    assert Measured(bpm=bpm, key=key).beside(120, "A minor") == words


@pytest.mark.parametrize(
    ("follows", "given", "words"),
    [
        (["prompt", "tempo", "key"], "genre, mood and instruments, tempo and key of the plan", "no words are sung"),
        (["key", "prompt", "chroma"], "key and melody and chords as a guide of the plan", "no words are sung"),
        (["lyrics"], "the words of the plan", "when the words are sung is not known"),
        ([], "nothing of the plan", "no words are sung"),
    ],
)
def test_what_an_engine_was_given_of_the_plan_is_said_in_a_sentence(follows, given, words):
    note = given_note(follows)
    assert given in note
    assert words in note


def test_of_an_engine_that_plays_every_note_there_is_nothing_to_say():
    assert given_note(["notes"]) == given_note(["notes", "prompt"]) == ""
