"""Lyrics from a scripted model."""

import asyncio
from dataclasses import replace

import pytest

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, GeneratedToken
from harmonia_lab.metadata_engines.prompting.lyrics import REPAIRS, LyricWriter, as_text, predicts_pause, sung_part
from harmonia_lab.metadata_engines.prompting.story import read_story
from tests.metadata_engines.prompting.test_lines import STORY, context, one_line

FORM = [("verse", 2), ("chorus", 2)]
GOOD = (
    "The keeper walks along the wall. The storm is rising from the sea. "
    "A ship is sailing home tonight. She holds the burning lamp so high."
)
MORE = (
    "The wind is calling out her name. The lantern glows above the door. "
    "My heart is waiting for the dawn. The night is cold and full of rain."
)


def answer(text, others=()):
    """An answer whose last word might have been another one."""
    *words, last = text.split(" ")
    tokens = [GeneratedToken(word if not i else f" {word}", -1.0) for i, word in enumerate(words)]
    tokens += [GeneratedToken(f" {last.rstrip('.')}", -0.5, tuple(others)), GeneratedToken(".", -0.1)]
    return Answer(text, complete=True, tokens=tokens)


class Script:
    """A dialogue that answers with each text in turn, then always with the last one; `after` follows every line."""

    model_digest = None
    max_top_logprobs = 20

    def __init__(self, *texts, after=","):
        self.texts, self.after = list(texts), after
        self.questions, self.notes, self.reports = [], [], []

    async def ask(self, question, on_text=None):
        self.questions.append(question)
        if question.purpose.startswith("ending"):
            return Answer(self.after, complete=False, tokens=[GeneratedToken(self.after, -0.1, ((self.after, -0.1),))])
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return text if isinstance(text, Answer) else Answer(text, complete=True)

    async def ask_several(self, question, count):
        return [await self.ask(replace(question, purpose=f"{question.purpose}-{number}")) for number in range(count)]

    def note(self, **facts):
        self.notes.append(facts)

    def repairing(self, failure):
        self.repairs = [*getattr(self, "repairs", []), failure.details["plan"]]

    def report(self, fraction, step, status, **partial):
        self.reports.append((fraction, partial))


def write(script, form=FORM):
    writer = LyricWriter(script, read_story(STORY), context(), genre="folk")
    return asyncio.run(writer.write(form)), writer


def test_the_form_is_filled_with_the_models_own_lines():
    script = Script(GOOD)
    sections, _ = write(script)
    assert [(kind, len(lines)) for kind, lines in sections] == FORM
    texts = [line.text for _, lines in sections for line in lines]
    assert len(set(texts)) == 4
    assert all(text.replace("Anna", "She") in GOOD for text in texts)  # the story's "her" is Anna
    done = [fraction for fraction, _ in script.reports]
    assert done == sorted(done)
    assert script.reports[0][1] == {"genre": "folk"}
    assert script.reports[-1][1]["lyrics"].count("\n") == 3


def test_the_chorus_is_written_once_and_sung_again():
    sections, _ = write(Script(GOOD, MORE), [("verse", 2), ("chorus", 2), ("verse", 2), ("chorus", 2)])
    assert sections[1] == sections[3]
    assert sections[0] != sections[2]


def test_a_sample_begins_with_a_title_whose_words_the_chorus_prefers():
    sections, writer = write(Script("A Ship Tonight\n\n" + GOOD))
    assert {title for _, title in writer.titles} == {"A Ship Tonight"}
    assert any("ship" in line.words for line in sections[1][1])


def test_a_story_with_a_name_is_sung_with_it():
    sections, _ = write(Script(GOOD + " The lamp is low, and Anna knows the sea."), [("verse", 2)])
    assert any("anna" in line.words for line in sections[0][1])


def test_lines_for_which_the_song_has_no_room_are_left_out():
    sections, _ = write(Script(GOOD, MORE), [("verse", 4), ("chorus", 2)])
    kept = sung_part(sections, 12.0, 2.0)
    assert sung_part(sections, 60.0, 2.0) == sections
    assert 0 < sum(len(lines) for _, lines in kept) < 6


@pytest.mark.parametrize(("after", "sung"), [(",", "light"), ("house", "dark")])
def test_a_last_word_is_replaced_by_a_rhyme_only_if_the_model_would_pause_there(after, sung):
    script = Script(
        answer("The lamp is burning in the dark.", [(" light", -1.0)]), "The keeper watches in the night.", after=after
    )
    sections, _ = write(script, [("verse", 2)])
    assert {line.words[-1] for line in sections[0][1]} == {sung, "night"}
    assert sum(question.purpose.startswith("ending") for question in script.questions) == 1


def test_too_few_lines_are_repaired_twice_and_then_the_song_is_shorter():
    script = Script("The keeper walks along the wall. The storm is rising from the sea.")
    sections, _ = write(script)
    assert [note["repair"] for note in script.notes] == list(range(1, REPAIRS + 1))
    assert sum(len(lines) for _, lines in sections) == 2


def test_no_line_at_all_is_an_error_with_the_reasons():
    with pytest.raises(MetadataError) as caught:
        write(Script("The verse is burning in the xqzt. I do it."))
    assert caught.value.code == ErrorCode.METADATA_INVALID
    assert "not in the dictionary" in caught.value.message


def test_every_exchange_has_a_purpose_of_its_own():
    script = Script(answer("The lamp is burning in the dark.", [(" light", -1.0)]), "The keeper watches in the night.")
    write(script)
    purposes = [question.purpose for question in script.questions]
    assert len(set(purposes)) == len(purposes)


@pytest.mark.parametrize(
    ("others", "pauses"),
    [
        (((",", -0.7), (" sea", -1.0)), True),
        ((("\n", -0.2),), True),
        (((" sea", -0.1), (".", -3.0)), False),
        ((("house", -0.1),), False),
    ],
)
def test_a_pause_is_punctuation_a_line_end_or_a_conjunction(others, pauses):
    assert predicts_pause(Answer("x", complete=False, tokens=[GeneratedToken(others[0][0], -0.1, others)])) is pauses


def test_a_server_without_log_probabilities_is_trusted():
    assert predicts_pause(Answer("", complete=True))


def test_sections_are_printed_with_their_names():
    line = one_line("The keeper walks along the wall")
    printed = as_text([("verse", [line]), ("chorus", [line]), ("verse", [line]), ("bridge", [line])])
    assert [row for row in printed.split("\n") if row.startswith("[")] == [
        "[Verse 1]",
        "[Chorus]",
        "[Verse 2]",
        "[Bridge]",
    ]
