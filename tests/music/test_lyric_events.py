"""Lyrics in MIDI files read as the lyrics do (RP-017)."""

import pytest

from harmonia_lab.music.composing import compose
from harmonia_lab.music.lyric_events import lyric_events
from harmonia_lab.protocol.models import Instrument, SongMetadata

SONG = SongMetadata(
    title="T",
    lyrics="x",
    genre="pop",
    mood=["hopeful"],
    bpm=113,
    key="F# minor",
    instruments=[Instrument(name="flute", role="lead"), Instrument(name="piano", role="chords")],
)


def texts(lyrics, seconds=25):
    plan = compose(SONG.model_copy(update={"lyrics": lyrics}), seconds, 3)
    events = lyric_events(plan, plan.parts[0].notes)
    assert [event.beat for event in events] == sorted(event.beat for event in events)
    return [event.text for event in events]


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        (["The café is closed tonight", "I’m walking home"], "The café is closed tonight \rI’m walking home \r"),
        (["“Sixty-four nights,” she said", "7 doors, and one is mine!"], None),
        (["¿Dónde está? – aquí", "(again and again)"], None),
        (["夜は長い、海は静か", "さようなら"], None),
        (["Тихо над рекой", "звёзды горят"], None),
    ],
)
def test_all_events_together_are_the_lyrics_with_their_spaces_and_signs(lines, read):
    found = texts("[Verse]\n" + "\n".join(lines))
    expected = read or "".join(f"{line} \r" for line in lines)
    assert "".join(found).replace("\n", "").startswith(expected)


def test_each_syllable_is_an_event_and_only_a_words_last_one_ends_with_a_space():
    found = texts("[Verse]\nOver and over again")
    assert found[:8] == ["O", "ver ", "and ", "o", "ver ", "a", "gain ", "\r"]


def test_a_syllable_that_spelling_does_not_show_is_an_empty_event_after_the_words_end():
    found = texts("[Verse]\nrhythm of the night")
    assert found[:3] == ["rhythm ", "", "of "]


def test_a_line_ends_with_a_return_and_a_section_with_a_feed_each_alone():
    found = texts("[Verse]\nOne line\nTwo lines\n\n[Chorus]\nHold on")
    assert found.count("\n") >= 2
    assert all(text in ("\r", "\n") or not {"\r", "\n"} & {*text} for text in found)
    at = found.index("\n")
    assert found[at - 1] == "\r"
    assert found[:at].count("\r") == 2


def test_characters_that_the_practice_keeps_for_codes_are_left_out():
    assert not any({*"[]{}\\"} & {*text} for text in texts("[Verse]\nOne {two} \\ [three] four"))


def test_a_part_without_words_and_a_song_without_lyrics_have_no_events():
    assert texts("") == []
    plan = compose(SONG.model_copy(update={"lyrics": "[Verse]\nOne line"}), 20, 3)
    assert lyric_events(plan, plan.parts[1].notes) == []
