"""Wishes are found in 635 labelled sentences, and stories with the same words hold none."""

import json
from collections import Counter
from pathlib import Path

import pytest

from harmonia_lab.metadata_engines.wishes.reading import read
from harmonia_lab.metadata_engines.wishes.words import LULLABY
from harmonia_lab.protocol.models import MAX_NARRATIVE

SENTENCES = [
    json.loads(line) for line in Path(__file__).with_name("sentences.jsonl").read_text(encoding="utf-8").splitlines()
]
TESTS = Path(__file__).parents[2]

ENOUGH = 20
"""Positives of a field, from which on its precision counts by itself."""


def items(text):
    """What was found, as the labels have it: a lullaby is folk."""
    return {(f.field, "folk" if f.value == LULLABY else f.value) for f in read(text).found}


def expected(row):
    return {(field, value) for field, values in row["expected"].items() for value in values}


def counts(rows):
    right, wrong, missed = Counter(), Counter(), Counter()
    for row in rows:
        found, wanted = items(row["text"]), expected(row)
        right.update(field for field, _ in found & wanted)
        wrong.update(field for field, _ in found - wanted)
        missed.update(field for field, _ in wanted - found)
    return right, wrong, missed


def test_the_labels_are_many_and_half_of_them_are_traps():
    kinds = Counter(row["kind"] for row in SENTENCES)
    assert sum(kinds.values()) >= 400
    assert kinds["trap"] >= sum(kinds.values()) / 2
    assert all(bool(row["expected"]) == (row["kind"] == "wish") for row in SENTENCES)
    assert len({row["text"] for row in SENTENCES}) == len(SENTENCES)


@pytest.mark.parametrize("split", ["dev", "held-out"])
def test_precision_and_recall_over_all_fields(split):
    right, wrong, missed = counts(row for row in SENTENCES if row["split"] == split)
    assert right.total() / (right.total() + wrong.total()) >= 0.97
    assert right.total() / (right.total() + missed.total()) >= 0.90


def test_precision_in_each_field_that_the_rules_were_not_written_on():
    right, wrong, missed = counts(row for row in SENTENCES if row["split"] == "held-out")
    fields = [field for field in right if right[field] + missed[field] >= ENOUGH]
    assert len(fields) >= 8
    assert min(right[field] / (right[field] + wrong[field]) for field in fields) >= 0.90


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "A slow waltz in D minor with solo cello and piano, 80 bpm",
            {
                ("tempo", "slow"), ("tempo", "80 bpm"), ("genre", "waltz"), ("key", "D minor"),
                ("instruments", "only"), ("instruments", "cello"), ("instruments", "piano"),
            },
        ),
        (
            "a reggae song in G major at 75 bpm with no drums",
            {("genre", "reggae"), ("key", "G major"), ("tempo", "75 bpm"), ("instruments", "no drums")},
        ),
        (
            "fast thrash metal, 180 bpm, E minor",
            {("tempo", "fast"), ("tempo", "180 bpm"), ("genre", "metal"), ("key", "E minor")},
        ),
        ("lofi slow bpm", {("tempo", "slow"), ("genre", "hip hop")}),
    ],
)  # fmt: skip
def test_the_wishes_that_started_it(text, wanted):
    assert items(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "the house",
        "her soul",
        "a key to the door",
        "he rocked the cradle",
        "Slow.",
        "One bone. Fast. The sea.",
        "Put the drums into the shed.",
        "Room 174, Tuesday.",
    ],
)
def test_a_story_of_a_few_words_holds_no_wish(text):
    alone = text == "Slow."  # by itself, a word is all that there is to go by
    assert bool(items(text)) == alone


def test_other_stories_of_these_tests_hold_no_wish():
    stories = [row["narrative"] for row in json.loads((TESTS / "narratives.json").read_text(encoding="utf-8"))]
    assert len(stories) >= 10
    assert [story for story in stories if items(story)] == []


@pytest.mark.parametrize(
    ("text", "story"),
    [
        (
            "A slow waltz in D minor with solo cello and piano, 80 bpm, about an old ballroom that will be torn down.",
            "An old ballroom that will be torn down.",
        ),
        ("Fast thrash metal, 180 bpm. A soldier refuses to fire.", "A soldier refuses to fire."),
        ("The mill closed. Make it slow, please. The geese came back.", "The mill closed. The geese came back."),
        (
            "My father played drums in a wedding band. No drums in the song though: just piano, 68 bpm.",
            "My father played drums in a wedding band.",
        ),
        ("lofi slow bpm", ""),
        ("Rain on tin.\n\nNobody  came.", "Rain on tin.\n\nNobody  came."),
        ("Please sing this in Spanish: my grandmother sold flowers.", "My grandmother sold flowers."),
    ],
)
def test_a_wish_is_taken_out_and_the_story_stays(text, story):
    assert read(text).story == story


@pytest.mark.parametrize(
    "row", [row for row in SENTENCES if row["kind"] == "trap"][::9], ids=lambda row: row["text"][:30]
)
def test_a_story_without_wishes_stays_as_it_is(row):
    found = read(row["text"])
    assert found.story == row["text"] or found.found


@pytest.mark.parametrize(
    "text", ["", " ", "!!!", "1:" * 3000, "(" * MAX_NARRATIVE, "no " * 6000, "🎵", "a" * MAX_NARRATIVE]
)
def test_any_text_can_be_read(text):
    assert read(text).story == text.strip() or read(text).found or not any(map(str.isalnum, text))
