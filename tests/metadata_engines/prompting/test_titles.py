"""Titles are cleaned, must be about the story, and the better ones rank higher."""

from dataclasses import replace

import pytest

from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, GeneratedToken
from harmonia_lab.metadata_engines.prompting.titles import numerals, phrases, rank, rank_attempt, title_of
from tests.metadata_engines.prompting.test_lines import context, one_line


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("The Last Lamp", "The Last Lamp"),
        ("the keeper of the lamp\nand more", "The Keeper of the Lamp"),
        ('Title: "Storm Light" (a ballad)', "Storm Light"),
        ("The Lamp: A Tale of Two Ships", "The Lamp"),
        ("Storm, a song of the sea", "Storm"),
        ("**Keeper's Night**", "Keeper's Night"),
        ("Night-Fog", "Night-Fog"),
        ("", ""),
        ("1984 :)", "1984"),
        ("Back to the 80s", "Back to the 80s"),
        ("happy 40th, Priya!", "Happy 40th, Priya"),
        ("The summer of 1979.", "The Summer of 1979"),
        ("The 5:15 Train", "The 5:15 Train"),
        ("Salt & Pepper", "Salt & Pepper"),
        ("24/7", "24/7"),
        ("***", ""),
    ],
)
def test_a_title_is_taken_out_of_an_answer(answer, title):
    assert title_of(answer) == title


@pytest.mark.parametrize("title", ["The Keeper's Lamp", "Storm", "Anna and the Storm", "A Ship in the Storm"])
def test_titles_about_the_story_have_a_rank(title):
    assert rank(title, context()) is not None


@pytest.mark.parametrize(
    "title",
    [
        "The Garden of Love",  # something else
        "The Song",  # of no story
        "The Lamp of the",  # hangs in the air
        "Storm, Lamp, Ship",  # a list
        "The Lamp and the Lamp",
        "The Lamp Brxn",
        "Verse One of the Lamp",
        "The Old Keeper Who Keeps the Lamp Burning All Night",
        "",
    ],
)
def test_other_titles_have_none(title):
    assert rank(title, context()) is None


def test_a_number_belongs_to_a_title_if_the_story_has_it():
    story = context("In the summer of 1979 Priya danced the 80s away")
    story = replace(story, names=story.names | numerals("In the summer of 1979 Priya danced the 80s away"))
    assert rank("Summer of 1979", story) is not None
    assert rank("Summer of 1985", story) is None
    assert rank("Dancing in the 80s", story) > rank("Dancing in the Summer Garden", story)


def test_a_name_of_the_story_ranks_higher():
    story = replace(context("One summer Priya danced"), names=frozenset({"Priya"}))
    assert rank("Priya's Summer", story) is not None
    assert rank("Priya Danced", story) > rank("Summer Danced", story)


def test_without_a_story_to_compare_with_any_good_title_has_a_rank():
    unknown = context("")
    assert rank("The Garden of Love", unknown) is not None


def test_more_of_the_story_and_fewer_cliches_rank_higher():
    assert rank("The Keeper's Lamp", context()) > rank("The Garden Lamp", context())
    assert rank("The Storm Ship", context()) > rank("The Storm Symphony", context())


def test_likely_attempts_rank_higher():
    likely, unlikely = (
        Answer("Storm Lamp", complete=True, tokens=[GeneratedToken("Storm", p), GeneratedToken(" Lamp", p)])
        for p in (-0.5, -3.0)
    )
    assert rank_attempt(likely, context())[0] > rank_attempt(unlikely, context())[0]
    assert rank_attempt(Answer("", complete=True), context()) is None


def test_lyrics_hold_phrases_that_could_be_titles():
    found = phrases([one_line("She keeps a lantern by the broken door")])
    assert "A Lantern" in found
    assert "The Broken Door" in found
    assert not any(title.endswith((" By", " The")) for title in found)
