"""Couplets rhyme where they can, have different words, and a song has as much text as its length can hold."""

import pytest

from harmonia_lab.metadata_engines.prompting.lines import CandidateLine
from harmonia_lab.metadata_engines.prompting.verses import best_couplets, form_for, unsung, usual_form
from harmonia_lab.metadata_engines.prompting.words import content_stems, persons, plain
from harmonia_lab.protocol.models import LyricSection
from harmonia_lab.syllables import count_syllables, rhyme, words_of


def line(text, *, sample, value=1.0, swapped=False, place=0):
    words = tuple(map(plain, words_of(text)))
    return CandidateLine(
        text,
        words,
        frozenset(content_stems(text)),
        persons(text),
        sum(map(count_syllables, words)),
        sample=sample,
        start=place,
        end=place,
        swapped=swapped,
        value=value,
    )


POOL = [
    line("The lamp is burning in the night", sample=0),
    line("A sailor dreams of golden light", sample=1),
    line("The harbor sleeps beneath the snow", sample=2),
    line("My father told me long ago", sample=3),
    line("The engine coughs, the river runs", sample=4),
    line("An orange falls without a sound", sample=5),
]


def test_lines_that_rhyme_find_each_other():
    couplets = best_couplets(POOL, 2)
    assert [rhyme(c.first.words[-1], c.second.words[-1]) for c in couplets] == [1.0, 1.0]
    assert len({text for c in couplets for text in (c.first.text, c.second.text)}) == 4


def test_a_line_takes_another_last_word_to_rhyme_unless_that_word_is_poor():
    own = line("The lamp is burning in the dark", sample=0)
    light = line("A sailor dreams of golden light", sample=1)

    def sung(value):
        swapped = line("The lamp is burning in the night", sample=0, swapped=True, value=value)
        (couplet,) = best_couplets([own, swapped, light], 1)
        return {one.swapped for one in couplet[:2]}

    assert sung(0.5) == {True, False}
    assert sung(-9.0) == {False}


def test_lines_of_very_different_length_are_not_sung_together():
    lines = [
        line("The lamp is burning in the night", sample=0),
        line("The lonely sailor is dreaming of golden light", sample=1),
        line("A sailor dreams of something bright", sample=2, value=0.5),
    ]
    (couplet,) = best_couplets(lines, 1)
    assert abs(couplet.first.syllables - couplet.second.syllables) <= 2


def test_a_couplet_with_a_name_comes_before_a_better_one_without():
    named = [
        line("We follow Anna to the shore", sample=6, value=0.5),
        line("A broken chair, an open door", sample=7, value=0.5),
    ]
    chosen = best_couplets([*POOL, *named], 1, names=frozenset({"anna"}))
    assert "anna" in chosen[0].first.words + chosen[0].second.words


def test_lines_from_the_same_place_or_with_the_same_words_are_never_sung_together():
    lines = [
        line("The lamp is burning in the night", sample=0),
        line("The lamp is burning in the light", sample=0),
        line("A lamp was burning bright", sample=1),
    ]
    assert best_couplets(lines, 1) == []


def test_lines_in_use_are_not_chosen_again():
    couplets = best_couplets(POOL, 3, used=POOL[:2])
    sung = {text for c in couplets for text in (c.first.text, c.second.text)}
    assert sung == {one.text for one in POOL[2:]}


def test_neighbours_in_a_text_keep_their_order():
    lines = [line("The lamp is burning in the night", sample=0), line("A sailor dreams of light", sample=0, place=1)]
    (couplet,) = best_couplets(lines, 1)
    assert (couplet.first.start, couplet.second.start) == (0, 1)


def test_the_order_of_the_pool_changes_nothing():
    assert best_couplets(POOL, 3) == best_couplets(POOL[::-1], 3)


SECONDS = [1, 5, 16, 20, 30, 45, 60, 90, 120, 180, 240, 600]


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_form_fits_the_length(seconds):
    form = usual_form(seconds)
    lines = sum(count for _, count in form)
    assert lines == 2 or 4 * lines + 4 <= seconds
    assert all(count % 2 == 0 for _, count in form)
    assert lines <= 44


@pytest.mark.parametrize("seconds", SECONDS[2:])
@pytest.mark.parametrize("bar_seconds", [1.5, 2.0, 2.4, 2.6, 3.0, 4.0])
def test_every_line_of_a_form_is_sung_at_its_tempo(seconds, bar_seconds):
    form, syllables = form_for(seconds, bar_seconds)
    words = " ".join(["one", "two", "three", "four", "five", "six", "eight", "nine"][:syllables])
    sections = [
        LyricSection(kind, tuple(f"{words} {number}.{0 if kind == 'chorus' else place}" for number in range(count)))
        for place, (kind, count) in enumerate(form, 2)
    ]
    assert sum(count for _, count in form) <= sum(count for _, count in usual_form(seconds))
    assert not unsung(sections, seconds, bar_seconds)


def test_twenty_seconds_have_a_verse_and_a_chorus_and_longer_songs_end_with_it():
    assert usual_form(20) == [("verse", 2), ("chorus", 2)]
    for seconds in (30, 60, 120, 600):
        assert usual_form(seconds)[-1][0] == "chorus"
    assert ("bridge", 4) in usual_form(600)
