"""The small model's strategy: wishes replace its questions, and are no part of what it reads."""

import asyncio

from harmonia_lab.metadata_engines.prompting import stepwise
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer
from harmonia_lab.metadata_engines.prompting.stepwise import write_song
from harmonia_lab.metadata_engines.prompting.verses import form_for
from harmonia_lab.protocol.models import parse_request

LINES = (
    "Lamp in the Storm\n"
    "The keeper walks along the wall. The storm is rising from the sea. A ship is sailing home tonight. "
    "She holds the burning lamp so high. The wind is calling out her name. The lantern glows above the door."
)
WALTZ = (
    "A dark waltz in D minor with solo cello and piano, 80 bpm, about an old keeper. "
    "She watches the storm and keeps the lamp burning for a lost ship."
)


class Model:
    """A dialogue with a model that always writes the same lines."""

    max_top_logprobs = 20
    max_story_characters = 2000
    model_digest = None

    def __init__(self):
        self.questions, self.notes = [], []

    async def ask(self, question, on_text=None):
        self.questions.append(question)
        return Answer(LINES, complete=True)

    async def ask_several(self, question, count):
        return [await self.ask(question) for _ in range(count)]

    def report(self, fraction, step, status, **partial):
        assert 0 <= fraction <= 1

    def note(self, **facts):
        self.notes.append(facts)

    def repairing(self, failure):
        self.repairs = [*getattr(self, "repairs", []), failure.details["plan"]]


def write(narrative, **options):
    model = Model()
    return asyncio.run(write_song(model, parse_request(narrative=narrative, seconds=8, **options), seed=1)), model


def test_wishes_replace_the_questions_for_mood_and_genre():
    song, model = write(WALTZ)
    assert (song.genre, song.mood, song.bpm, song.key) == ("waltz", ["dark"], 80, "D minor")
    assert [instrument.name for instrument in song.instruments] == ["cello", "piano"]
    purposes = [question.purpose for question in model.questions]
    assert not any(purpose.startswith(("mood", "genre")) for purpose in purposes)


def test_the_model_reads_the_story_without_the_wish():
    _, model = write(WALTZ)
    read = " ".join(message.content for question in model.questions for message in question.messages)
    assert "An old keeper. She watches the storm" in read
    assert "D minor" not in read
    assert "80 bpm" not in read


def test_without_wishes_the_model_is_asked():
    song, model = write(WALTZ, wishes=False)
    purposes = [question.purpose for question in model.questions]
    assert any(purpose.startswith("mood") for purpose in purposes)
    assert song.wishes == []


def test_an_instrumental_gets_a_title_and_no_words():
    song, _ = write("Instrumental, please. An old keeper watches the storm and keeps the lamp burning.")
    assert song.lyrics == ""
    assert song.title == "Lamp in the Storm"


def test_a_text_that_is_nothing_but_a_wish_becomes_a_song():
    song, _ = write("lofi slow bpm")
    assert song.genre == "lofi"
    assert song.bpm < 78


def test_the_form_is_planned_at_the_tempo_that_a_wish_gives_the_song(monkeypatch):
    planned = []

    def watched(seconds, bar_seconds):
        planned.append(240 / bar_seconds)
        return form_for(seconds, bar_seconds)

    monkeypatch.setattr(stepwise, "form_for", watched)
    song, _ = write("lofi, slow, chill electronic. She keeps the lamp burning for a lost ship.")
    assert [round(bpm) for bpm in planned] == [song.bpm]
