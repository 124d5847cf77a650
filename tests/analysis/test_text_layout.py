"""Text breaks between words, and blocks on a time axis never meet."""

import itertools

import pytest

from harmonia_lab.analysis.text_layout import lanes, rows_of_lanes, wrapped


def measure(text):
    return 10.0 * len(text)


def rows(text, width):
    return [row for row, _ in wrapped(text, width, measure)]


def test_rows_are_no_wider_than_asked_and_say_all_words_in_order():
    text = "the river runs wild and the wind is cold tonight"
    for width in (90, 130, 250, 1000):
        found = wrapped(text, width, measure)
        assert " ".join(row for row, _ in found) == text
        assert all(own == measure(row) <= width for row, own in found)
    assert rows(text, 1000) == [text]


def test_a_word_that_is_too_long_stands_alone_and_whole():
    assert rows("a Donaudampfschifffahrt b", 60) == ["a", "Donaudampfschifffahrt", "b"]


def test_han_and_kana_break_anywhere_but_before_a_closing_mark_or_after_an_opening_one():
    assert rows("夜の海、静か", 30) == ["夜の", "海、静", "か"]
    assert rows("「夜」の", 10) == ["「夜」", "の"]
    assert rows("강물은 흐른다", 30) == ["강물은", "흐른다"]


@pytest.mark.parametrize("count", [1, 7, 40, 150])
def test_no_two_blocks_of_a_lane_meet_and_none_crosses_the_edge(count):
    texts = [(1400 * number / count, "hold on to the light " * (1 + number % 3)) for number in range(count)]
    stack = lanes(texts, 1464, 16, measure, (1464, 400, 200, 120))
    blocks = sorted((block for lane in stack for block in lane), key=lambda block: block.number)
    assert [" ".join(block.rows) for block in blocks] == [text.strip() for _, text in texts]
    for lane in stack:
        for before, after in itertools.pairwise(lane):
            assert before.right + 16 <= after.left
    for block, (at, _) in zip(blocks, texts, strict=True):
        assert block.right <= 1464
        assert at - 120 <= block.left <= at


def test_the_lowest_stack_is_taken():
    texts = [(float(at), "hold on to the light tonight") for at in range(0, 1200, 150)]
    widths = (1464, 200, 120)
    heights = [rows_of_lanes(lanes(texts, 1464, 16, measure, (width,))) for width in widths]
    assert rows_of_lanes(lanes(texts, 1464, 16, measure, widths)) == min(heights)


def test_a_word_wider_than_the_whole_picture_is_broken_and_lost_nowhere():
    [[block]] = lanes([(0.0, "W" * 400)], 1464, 16, measure, (1464, 100))
    assert "".join(block.rows) == "W" * 400
    assert block.right <= 1464


def test_no_text_needs_no_rows():
    assert rows_of_lanes(lanes([], 1464, 16, measure, (100,))) == 0
    assert wrapped("", 100, measure) == []
