"""Text is cut where a singer breathes, and a line that can't be sung is refused for a reason."""

import pytest

from harmonia_lab.metadata_engines.prompting.cutting import cut_into_lines, with_hero
from harmonia_lab.metadata_engines.prompting.dialogue_types import GeneratedToken
from harmonia_lab.metadata_engines.prompting.examples import EXAMPLES
from harmonia_lab.metadata_engines.prompting.lines import StoryContext, refusal, score
from harmonia_lab.metadata_engines.prompting.words import content_stems, hero_of, persons, plain, proper_names
from harmonia_lab.syllables import words_of

STORY = "An old keeper named Anna watches the storm from her lighthouse and keeps the lamp burning for a lost ship."


def context(story=STORY, mood_conflicts=frozenset()):
    names = frozenset(word for word in words_of(story) if word[0].isupper())
    plain_text = " ".join(map(plain, words_of(story)))
    return StoryContext(
        frozenset(content_stems(story)),
        names,
        plain_text,
        persons(story),
        mood_conflicts,
        tuple(proper_names(story)),
        hero_of(story),
    )


def lines_of(text, *, complete=True, tokens=()):
    return cut_into_lines(text, 0, complete=complete, tokens=tokens)


def texts(text, **options):
    return [line.text for line in lines_of(text, **options)]


def one_line(text):
    return next(line for line in lines_of(text) if len(line.words) == len(words_of(text)))


def test_a_sentence_is_cut_at_punctuation_and_before_prepositions():
    found = texts("The storm comes rolling in, the lamp is burning bright with all her hope.")
    assert "The storm comes rolling in" in found  # at the comma
    assert "The lamp is burning bright" in found  # before "with"
    assert "The lamp is burning bright with all her hope" in found
    assert "With all her hope" not in found  # too short to be sung


def test_lines_have_a_singable_length():
    for line in lines_of("She sings. " + "The wind is blowing over the hills and over the sea and over the land. " * 2):
        assert 4 <= len(line.words) <= 9
        assert 5 <= line.syllables <= 11


def test_no_line_crosses_a_sentence_or_a_line_end():
    assert not [text for text in texts("The lamp is burning low\nThe ship is far away.") if "low the" in text.lower()]


def test_the_last_clause_of_a_text_that_was_cut_off_is_left_out():
    text = "The lamp is burning through the night, the ship is sailing to the"
    assert any("ship" in one for one in texts(text, complete=True))
    assert not any("ship" in one for one in texts(text, complete=False))


def test_neighbouring_lines_have_neighbouring_clauses():
    first, second = [
        line
        for line in lines_of("The lamp is burning through the night, the ship is coming home.")
        if line.text in {"The lamp is burning through the night", "The ship is coming home"}
    ]
    assert second.start == first.end + 1
    assert (first.opens, first.closes, second.opens, second.closes) == (True, True, True, True)


def test_other_last_words_come_from_the_models_alternatives():
    others = ((" night", -0.5), (" light", -1.5), ("ness", -1.0), (" of", -1.2), (" Xqzt", -2.0), (" sight", -9.0))
    words = ["The", " lamp", " is", " burning", " through", " the"]
    tokens = [
        *(GeneratedToken(word, -1.0) for word in words),
        GeneratedToken(" night", -0.5, others),
        GeneratedToken(".", -0.1),
    ]
    own, swapped = [
        line for line in lines_of("The lamp is burning through the night.", tokens=tokens) if len(line.words) == 7
    ]
    assert (own.text, own.swapped) == ("The lamp is burning through the night", False)
    assert own.fluency == pytest.approx(-6.5 / 7)
    assert (swapped.text, swapped.swapped, swapped.drop) == ("The lamp is burning through the light", True, 1.0)
    assert swapped.fluency < own.fluency


@pytest.mark.parametrize(("pause", "ends"), [(-0.5, True), (-4.0, False)])
def test_a_line_also_ends_where_the_model_might_have_paused(pause, ends):
    tokens = [GeneratedToken(word, -1.0) for word in ["The", " lamp", " is", " burning", " here"]]
    tokens += [GeneratedToken(" alone", -1.0, ((" alone", -1.0), (",", pause))), GeneratedToken(".", -0.1)]
    assert ("The lamp is burning here" in texts("The lamp is burning here alone.", tokens=tokens)) is ends


def test_the_hero_is_named_instead_of_the_pronoun_that_means_them():
    story = "Nora got a telescope. On a clear night she saw the rings of Saturn. He waited in Leeds."
    assert proper_names(story) == ["Nora", "Saturn", "Leeds"]
    assert hero_of(story) == ("Nora", "She")
    line = with_hero(one_line("She looks into the burning sky"), hero_of(story))
    assert (line.text, line.syllables, "nora" in line.words) == ("Nora looks into the burning sky", 9, True)
    assert with_hero(one_line("He looks into the burning sky"), hero_of(story)) is None
    assert hero_of("Two brothers build a boat. He sails away.") is None
    assert refusal(line, context(story)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The lamp is burning through the night", None),
        ("I wait for Anna by the lamp", None),
        ("The lamp is brxning through the night", "not in the dictionary"),
        ("The LAMP is burning through the night", "not plain text"),
        ("I wait for Emily by the lamp", "a name that the story lacks"),
        ("Jack, the lamp is burning bright", "a name that the story lacks"),
        ("Here is the chorus of the storm", "talks about the task"),
        ("A story of a burning lamp", "talks about the task"),
        ("The lamp is burning for the", "hangs in the air"),
        ("Of all the lamps that burned tonight", "hangs in the air"),
        ("The storm, the lamp, the storm again", "repeats or says nothing"),
        ("Again and again it was gone", "repeats or says nothing"),
        ("Lamp, keeper, storm, ship", "a list"),
        ("From her lighthouse and keeps the lamp burning for", "hangs in the air"),
        ("Watches the storm from her lighthouse", "copied from the story"),
        (EXAMPLES[0].lines[0].rstrip(","), "copied from an example"),
        ("The dawn is cold, the boat won't wait", "copied from an example"),
    ],
)
def test_a_line_is_refused_for_a_reason(text, reason):
    assert refusal(one_line(text), context()) == reason


def test_a_word_for_texts_is_fine_in_a_story_that_has_it():
    line = one_line("The sailor sings a song at night")
    assert refusal(line, context()) == "talks about the task"
    assert refusal(line, context("A sailor sings his song.")) is None


def test_a_line_about_the_story_scores_higher():
    about, other = one_line("The storm is coming to the lamp"), one_line("The garden opens to the sun")
    assert score(about, context()).value > score(other, context()).value


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("The lamp is burning in the storm", "The lamp, a tapestry of storm"),
        ("She walks into the burning storm", "He walks into the burning storm"),
        ("She walks into the burning storm", "And walks into the burning storm"),
    ],
)
def test_cliches_other_persons_and_conjunctions_at_the_beginning_lower_the_score(better, worse):
    assert score(one_line(better), context()).value > score(one_line(worse), context()).value


@pytest.mark.parametrize("stock", ["In the heart of the burning storm", "As the night falls on the burning storm"])
def test_a_stock_opening_costs_more_than_a_second_word_of_the_story_gains(stock):
    assert score(one_line(stock), context()).value < score(one_line("A stranger walks into the storm"), context()).value


def test_words_that_contradict_the_mood_lower_the_score():
    line = one_line("The children laugh beside the lamp")
    assert score(line, context(mood_conflicts=frozenset({"laugh"}))).value < score(line, context()).value


def test_a_line_has_a_place_in_the_story():
    early, late = one_line("The keeper walks along the wall"), one_line("A ship is sailing on the sea")
    assert context().place(early) < 0.5 < context().place(late)
