"""Syllables of other languages than English agree with lists counted by hand, as well as the docstrings say."""

import importlib.util
from pathlib import Path

import pytest

from harmonia_lab.languages import singing
from harmonia_lab.languages.scripts import ESTIMATED
from harmonia_lab.languages.singing import estimate_warning, sung_words

WORDS = Path(__file__).parent / "words"


def counted(path):
    """[(word, syllables)] of a list."""
    rows = (line.split(":") for line in path.read_text(encoding="utf-8").splitlines())
    return [(word, int(count)) for count, words in rows for word in words.split()]


def agreement(path):
    pairs = counted(path)
    right = sum(sum(len(part.pieces) for part in sung_words(word, path.stem)) == count for word, count in pairs)
    return right / len(pairs)


@pytest.mark.parametrize("language", ["es", "de", "fr", "it", "pt"])
def test_the_lists_are_long_enough(language):
    assert len(counted(WORDS / f"{language}.txt")) >= 100


@pytest.mark.parametrize(
    ("language", "least"),
    [
        ("es", 0.99), ("de", 0.99), ("fr", 0.98), ("it", 0.98), ("pt", 0.99), ("nl", 0.99), ("pl", 0.99), ("ru", 0.99),
        ("el", 0.99), ("hi", 0.99), ("th", 0.99), ("ar", 0.95), ("he", 0.8),
    ],
)  # fmt: skip
def test_syllables_agree_with_the_lists_of_the_rules(language, least):
    assert agreement(WORDS / f"{language}.txt") >= least


@pytest.mark.parametrize("language", ["es", "de", "fr", "it", "pt"])
def test_syllables_agree_with_words_that_were_chosen_later(language):
    assert agreement(WORDS / "later" / f"{language}.txt") >= 0.94


def test_morae_agree_with_the_list_by_the_dictionarys_readings():
    assert importlib.util.find_spec("sudachipy"), "the test extra has it"
    assert agreement(WORDS / "ja.txt") >= 0.99
    assert estimate_warning("雪が降る") is None


def test_without_the_dictionary_kana_are_counted_and_kanji_estimated_and_the_song_says_so(monkeypatch):
    monkeypatch.setattr(singing, "has_readings", lambda: False)
    assert [piece for word in sung_words("おもいで", "ja") for piece in word.pieces] == ["お", "も", "い", "で"]
    assert [piece for word in sung_words("夜の", "ja") for piece in word.pieces] == ["夜", "-", "の"]
    assert "harmonia-lab[japanese]" in estimate_warning("雪が降る")
    assert estimate_warning("ふるゆき") is None


@pytest.mark.parametrize(
    ("line", "language", "pieces"),
    [
        ("雪が降る夜", "ja", "雪 - が 降る - 夜 -"),
        ("きょうもラーメン", "ja", "きょ う も ラ ー メ ン"),
        ("我爱你，妈妈", "zh", "我 爱 你 妈 妈"),
        ("사랑해요, 그대", "ko", "사 랑 해 요 그 대"),
        ("Люблю тебя, 1999", "ru", "Люблю - тебя -"),
        ("La canción del mar", "es", "La canción - del mar"),
        ("L’amour s'en va", "fr", "L’amour - s'en va"),
        ("เพลงรักกลางคืน", "th", "เพลง รัก กลาง คืน"),
        ("मेरा दिल", "hi", "मेरा - दिल"),
        ("חלום יפה", "he", "חלום - יפה -"),
        ("夜空 love", "zh", "夜 空 love"),
        ("tiếng Việt", "vi", "tiếng Việt"),
        ("!!! 12", "ja", ""),
    ],
)
def test_a_line_is_divided_into_what_is_sung_on_each_note(line, language, pieces):
    assert [piece for word in sung_words(line, language) for piece in word.pieces] == pieces.split()


@pytest.mark.parametrize(
    ("word", "language", "count"),
    [
        ("Määränpää", "fi", 3), ("éjszakában", "hu", 4), ("gökyüzü", "tr", 3), ("vlk", "cs", 1), ("srce", "hr", 2),
        ("flickorna", "sv", 3), ("pulau", "id", 2), ("lupi", "ro", 1), ("срце", "sr", 2), ("ნანა", "ka", 2),
        ("zxq", "es", 1),
    ],
)  # fmt: skip
def test_words_of_further_languages(word, language, count):
    assert sum(len(part.pieces) for part in sung_words(word, language)) == count


@pytest.mark.parametrize(
    ("word", "language", "stressed"),
    [
        ("canción", "es", 1), ("camino", "es", 1), ("ciudad", "es", 1), ("verloren", "de", 1), ("Liebe", "de", 0),
        ("maison", "fr", 1), ("città", "it", 1), ("καρδιά", "el", 1), ("zapomnieć", "pl", 1),
    ],
)  # fmt: skip
def test_stress_is_where_the_language_has_it(word, language, stressed):
    (found,) = sung_words(word, language)
    assert [place for place, stress in enumerate(found.stresses) if stress] == [stressed]


def test_estimates_are_said_to_be_some_and_pointed_text_is_counted():
    assert "Arabic" in estimate_warning("يا ليل يا عين")
    assert {"Arabic", "Hebrew", "Thai"} <= ESTIMATED
    assert estimate_warning("كَتَبَ") is None
    assert [len(word.pieces) for word in sung_words("كَتَبَ", "ar")] == [3]
    assert estimate_warning("La luna llena") is None
