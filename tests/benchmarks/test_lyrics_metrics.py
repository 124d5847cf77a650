"""The metrics of the words: each counts what it says, on lines written for the purpose."""

import pytest

from benchmarks.lyrics import metrics, table
from benchmarks.lyrics.compare import OWN, read_narratives
from harmonia_lab.errors import InvalidRequest


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("I walk alone at night", "and follow the light", "perfect"),
        ("It starts to rain,", "we wait for the trains!", "near"),
        ("She left her home", "and went alone", "near"),
        ("Here comes the rain", "and nothing but the rain", "none"),
        ("The table is orange", "a bird in the window", "none"),
        ("", "a bird", "none"),
    ],
)
def test_a_couplet_rhymes_by_its_last_words(first, second, kind):
    assert metrics.rhyme_kind((first, second)) == kind


def test_couplets_are_consecutive_lines_of_a_section_and_a_repeated_chorus_counts_once():
    chorus = ["a", "b", "c"]
    assert metrics.couplets([["x", "y", "z", "w"], chorus, chorus]) == [("x", "y"), ("z", "w"), ("a", "b")]


def test_syllables_are_counted_over_the_line():
    assert metrics.line_syllables("The fire burns until the morning") == 8
    assert metrics.syllable_difference(("The fire burns", "The fire burns until the morning")) == 5


def test_a_line_is_about_the_story_if_it_has_the_stem_of_one_of_its_content_words():
    story = "The fishermen were dancing on the pier."
    lines = ["We dance all night", "upon the piers", "and the sea is wide", "We dance all night"]
    assert metrics.story_share(lines, story) == (2, 3)


def test_stock_openings_are_whole_words_at_the_beginning():
    assert metrics.is_stock("In the heart of the city")
    assert metrics.is_stock("Oh, the night is long")
    assert metrics.is_stock("In twilight’s hallow we meet")
    assert not metrics.is_stock("In dreamscapes nobody meets")
    assert not metrics.is_stock("He lives in the heart of the city")


def test_lines_of_two_songs_are_compared_without_case_and_punctuation_and_a_chorus_of_one_is_no_matter():
    assert metrics.shared_lines([["Hello, sun!", "Hello, sun!"], ["hello sun", "rain"], ["snow"]]) == ["hello sun"]


@pytest.mark.parametrize(
    ("narrative", "names"),
    [
        ("Happy 40th birthday to my sister Priya! She loves her dog Biscuit.", ["Priya", "Biscuit"]),
        ("For her eighteenth birthday Nora got a telescope. In March she saw the rings of Saturn.", ["Nora", "Saturn"]),
        ("Dario grew up in a house full of shouting. Then he left.", ["Dario"]),
        ("A jingle for a pizza place called Luigi's Express: call now!", ["Luigi", "Express"]),
        ("The crow finds a mirror. It is hers.", []),
        ("Es war einmal ein kleines Mädchen, das trug immer eine rote Mütze.", []),
    ],
)
def test_names_are_found_where_no_list_of_them_is_given(narrative, names):
    assert metrics.names_of(narrative) == names


def test_a_name_counts_in_any_case_with_a_possessive_and_by_one_of_its_words():
    assert metrics.names_in(["Priya", "Odile Marchand", "Leo"], "PRIYA’s song\nfor Marchand") == [
        "Priya",
        "Odile Marchand",
    ]
    assert metrics.names_in(["Leo"], "the leopard") == []


@pytest.mark.parametrize(
    ("title", "narrative", "fault"),
    [
        ("", "upbeat 80s synthwave", "empty"),
        ("The S Sour Night", "upbeat 80s synthwave", "a single letter: s"),
        ("The Th Happy Th Sleigh", "Happy 40th birthday", "figures lost before th"),
        ("Of the", "a story", "function words only"),
        ("The Night Night", "a story", "a word twice"),
        ('The "Night', "a story", "marks left over"),
        ("A Song, ", "a story", "cut off"),
    ],
)
def test_broken_titles_are_found(title, narrative, fault):
    assert fault in metrics.title_faults(title, narrative)


@pytest.mark.parametrize(
    ("title", "narrative"),
    [
        ("80s Nights", "upbeat 80s synthwave"),
        ("Happy 40th, Priya", "Happy 40th birthday"),
        ("1979", "It was 1979."),
        ("What I Left on the Door", "a diary"),
        ("Station K", "at station K the train stops"),
        ("О снеге", "Зимой"),
    ],
)
def test_sound_titles_have_no_fault(title, narrative):
    assert metrics.title_faults(title, narrative) == []


def test_a_line_is_unsung_if_the_plan_sings_it_nowhere():
    assert metrics.unsung(["a", "b", "a", "c"], ["c", "a"]) == ["b"]


def test_the_narratives_are_our_own_at_least_fifty_and_of_many_kinds():
    stories = read_narratives(OWN)
    assert len({story["narrative"] for story in stories}) == len(stories) >= 50
    assert len({story["kind"] for story in stories}) >= 25
    assert sum(len(story["narrative"]) > 2000 for story in stories) >= 3
    assert len({story["language"] for story in stories}) >= 6
    for story in stories:
        assert metrics.names_in(story["names"], story["narrative"]) == story["names"]


def test_a_file_that_is_no_narratives_is_refused_by_name(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"kind": "fable"}\n')
    with pytest.raises(InvalidRequest, match=r"x\.jsonl holds no narratives"):
        read_narratives(tmp_path / "x.jsonl")


def song(lyrics, *, title="The Fox", seconds=4.0):
    metadata = {
        "title": title, "lyrics": lyrics, "genre": "folk", "mood": ["sad"], "bpm": 90, "key": "A minor",
        "instruments": [{"name": "piano", "role": "chords"}],
    }  # fmt: skip
    sung = [line for line in lyrics.splitlines() if line and not line.startswith("[")]
    return {
        "metadata": metadata, "sung": sung[:-1], "stage_1_s": seconds, "cpu_s": seconds, "first_token_s": 1.0,
        "tokens": 100,
    }  # fmt: skip


def test_the_table_puts_both_versions_beside_each_other():
    before = song("[Verse 1]\nIn the heart of the night\nthe fox is out of sight\nRain\nanother fox")
    after = song("[Verse 1]\nThe fox has seen the light\nand jumps all through the night", seconds=1.0)
    row = {"kind": "fable", "narrative": "A fox jumps.", "seed": 1, "seconds": 30, "load": 1.0, "names": []}
    rows = [row | {"songs": {"before": before, "after": after}}, row | {"seed": 2, "songs": {"before": {"error": "x"}}}]
    found = table.figures(rows)
    assert found["before"]["failed"] == 1
    assert found["before"]["rhyme_perfect"] == 0.5
    assert found["before"]["story_word"] == 0.5
    assert found["before"]["stock_songs"] == 1
    assert found["before"]["unsung"] == 0.25
    assert found["after"]["rhyme_perfect"] == found["after"]["story_word"] == 1
    assert found["after"]["unsung"] == 0.5
    text = table.report(rows)
    assert "| stage 1, s (median) | 4.00 | 1.00 | ≤ 0.5 × |" in text
    assert text.endswith("median of 1 pairs: 0.250")
