"""Syllables as they are sung."""

import pytest

from harmonia_lab.syllables import count_syllables, in_dictionary, rhyme, rhyme_families, words_of


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("fire", 1),
        ("every", 2),
        ("lighthouse", 2),
        ("Keeper’s", 2),
        ("don't", 1),
        ("beautiful", 3),
        ("the", 1),
        ("Zorvellia", 3),  # not in the dictionary: vowel groups
        ("gloomed", 1),
        ("niño", 2),
        ("שלום", 1),  # no vowels that we know: never less than one
    ],
)
def test_syllables_of_a_word(word, syllables):
    assert count_syllables(word) == syllables


def test_words_keep_their_apostrophes_and_lose_the_rest():
    assert words_of("Don't — stop, 2 “keeper's” lamps!") == ["Don't", "stop", "keeper's", "lamps"]


@pytest.mark.parametrize(
    ("word", "known"), [("lamp", True), ("Singin'", True), ("lamp's", True), ("xqzzt", False), ("", False)]
)
def test_which_words_the_dictionary_has(word, known):
    assert in_dictionary(word) is known


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ("night", "light", 1.0),
        ("rain", "train", 1.0),
        ("shore", "before", 1.0),
        ("fire", "higher", 1.0),
        ("home", "alone", 0.5),
        ("light", "lights", 0.5),
        ("rain", "reign", 0.0),  # the same sound is no rhyme
        ("away", "way", 0.0),
        ("night", "day", 0.0),
        ("xqzt", "night", 0.0),
    ],
)
def test_perfect_near_and_no_rhymes(one, other, value):
    assert rhyme(one, other) == rhyme(other, one) == value
    assert bool(rhyme_families(one) & rhyme_families(other)) >= bool(value)
