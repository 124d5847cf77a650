import itertools

import pytest

from harmonia_lab.music.composing.form import lay_out
from harmonia_lab.protocol.models import LyricSection

VERSE = LyricSection(
    "Verse 1", ("The keeper counts the waves tonight", "And every boat comes home", "He lifts the lamp", "So high")
)
CHORUS = LyricSection(
    "Chorus", ("Hold on to the light", "Hold on to the light we know", "The river runs", "I carry you home")
)
SECOND = LyricSection("Verse 2", VERSE.lines)
BRIDGE = LyricSection("Bridge", ("And in the silence", "I hear you"))
SONG = (VERSE, CHORUS, SECOND, CHORUS, BRIDGE, CHORUS)


@pytest.mark.parametrize("bpm", [40, 72, 110, 160, 220])
@pytest.mark.parametrize("beats_per_bar", [3, 4])
@pytest.mark.parametrize("lyrics", [(), (VERSE,), (VERSE, SECOND), (VERSE, CHORUS), SONG])
def test_sections_fill_every_bar_and_phrases_every_bar_of_a_sung_section(lyrics, bpm, beats_per_bar):
    bar_seconds = beats_per_bar * 60 / bpm
    for seconds in (1, 2, 5, 10, 20, 33.3, 60, 180, 600):
        form = lay_out(lyrics, bar_seconds, seconds)
        assert form.sections[0].bar == 0
        assert all(a.bar + a.bars == b.bar for a, b in itertools.pairwise(form.sections))
        assert form.sections[-1].kind == "outro"
        assert form.sections[-1].bar + form.sections[-1].bars == form.bars
        assert (form.bars - 1) * bar_seconds < seconds <= form.bars * bar_seconds + 1e-6
        assert seconds - form.final_bar * bar_seconds >= min(1.6, 0.4 * seconds) - 1e-6
        for section in form.sections[:-1]:
            assert section.phrases[0].bar == section.bar
            assert sum(phrase.bars for phrase in section.phrases) == section.bars


def test_a_song_of_a_minute_sings_verses_and_choruses_in_their_order():
    kinds = [section.kind for section in lay_out(SONG, 240 / 110, 60).sections]
    assert kinds[:5] == ["intro", "verse", "chorus", "verse", "chorus"]
    assert kinds[-2:] == ["chorus", "outro"]


def test_twenty_seconds_have_a_verse_and_a_chorus():
    kinds = [section.kind for section in lay_out(SONG, 240 / 110, 20).sections]
    assert kinds.count("verse") == kinds.count("chorus") == 1


def test_ten_minutes_repeat_the_song_with_solos_and_end_on_a_chorus():
    sections = lay_out(SONG, 240 / 110, 600).sections
    kinds = [section.kind for section in sections]
    assert kinds.count("solo") >= 2
    assert kinds[-2:] == ["chorus", "outro"]
    assert sections[0].bars <= 8
    assert sections[-1].bars <= 8


@pytest.mark.parametrize("lyrics", [(), (VERSE, CHORUS), SONG])
@pytest.mark.parametrize("seconds", [60, 180, 600])
def test_a_song_that_is_long_enough_ends_on_its_chorus(lyrics, seconds):
    assert [section.kind for section in lay_out(lyrics, 240 / 110, seconds).sections[-2:]] == ["chorus", "outro"]


def test_lyrics_without_a_chorus_get_a_played_one():
    sections = lay_out((VERSE, SECOND), 240 / 110, 45).sections
    played = [section for section in sections if section.kind == "chorus"]
    assert played
    assert all(phrase.line is None for section in played for phrase in section.phrases)


def test_a_line_too_long_to_be_sung_in_two_bars_gets_more():
    endless = LyricSection("Verse", ("la " * 60, "And so on we go"))
    phrases = [p for s in lay_out((endless,), 240 / 110, 60).sections for p in s.phrases if p.line]
    long = max(phrases, key=lambda phrase: phrase.bars)
    assert long.bars * 240 / 110 * 5 >= 60


def test_choruses_are_more_intense_than_verses_and_grow():
    sections = lay_out(SONG, 240 / 110, 180).sections
    verses = [s.intensity for s in sections if s.kind == "verse"]
    choruses = [s.intensity for s in sections if s.kind == "chorus"]
    assert max(verses) < min(choruses)
    assert choruses[0] < choruses[1]
