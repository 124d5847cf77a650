"""Words divided under notes: always into as many parts as syllables, and never losing a letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonia_lab.languages.word_parts import divide


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("over", "o-ver"), ("lantern", "lan-tern"), ("lonesome", "lone-some"), ("walking", "wal-king"),
        ("idea", "i-de-a"), ("beautiful", "beau-ti-ful"), ("remembered", "re-mem-bered"), ("every", "eve-ry"),
        ("keeper's", "kee-per's"), ("yellow", "yel-low"), ("queen", "queen"), ("Märchen", "Mär-chen"),
        ("ночами", "но-ча-ми"), ("canción", "can-ción"),
    ],
)  # fmt: skip
def test_a_word_is_divided_as_it_is_sung(word, parts):
    expected = tuple(parts.split("-"))
    assert divide(word, len(expected)) == expected


def test_a_word_whose_vowels_are_not_its_syllables_stays_whole():
    assert divide("rhythm", 2) == ("rhythm", "")
    assert divide("夜", 2) == ("夜", "")


@given(st.text("abeiouyqé'-夜ияŭ\u0301 1", max_size=12), st.integers(1, 5))
def test_the_parts_are_the_word(word, count):
    parts = divide(word, count)
    assert len(parts) == count
    assert "".join(parts) == word
