"""Genre and mood: from the model's scores and the cue words, on stories that were labelled by hand."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from harmonia_lab.metadata_engines.prompting import labels
from harmonia_lab.metadata_engines.prompting.cues import GENRE_CUES, MOOD_CUES, MOODS_OF_GENRE
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, GeneratedToken
from harmonia_lab.protocol.vocabulary import GENRES, MOODS

LABELLED = json.loads((Path(__file__).parent / "labelled.json").read_text())


def test_every_label_has_cues_and_every_genre_its_moods():
    assert set(GENRE_CUES) == set(MOODS_OF_GENRE) == set(GENRES)
    assert set(MOOD_CUES) == set(MOODS)
    assert all(moods <= set(MOODS) for moods in MOODS_OF_GENRE.values())


def test_cue_words_alone_name_a_fitting_mood_and_genre_for_most_labelled_stories():
    moods = [labels.choose_moods(story["narrative"], {}, []) for story in LABELLED]
    genres = [labels.choose_genre(story["narrative"], m, {}, []) for story, m in zip(LABELLED, moods, strict=True)]
    assert sum(m[0] in story["moods"] for story, m in zip(LABELLED, moods, strict=True)) >= 30
    assert sum(g in story["genres"] for story, g in zip(LABELLED, genres, strict=True)) >= 30
    assert len(set(genres)) >= 10
    assert len({m[0] for m in moods}) >= 10


def test_the_second_mood_fits_the_first():
    scores = dict.fromkeys(MOODS, -9.0) | {"joyful": 0.0, "angry": -0.5, "playful": -1.0}
    assert labels.choose_moods("", scores, []) == ["joyful", "playful"]


def test_the_table_of_neutral_scores_is_of_these_prompts():
    table = json.loads(files(labels.__package__).joinpath("neutral.json").read_text(encoding="utf-8"))
    assert table["prompts"] == labels.prompts_digest(), "measure the neutral stories again"
    (digest,) = table["models"]
    assert labels.known_neutral(digest, "Mood").keys() == set(MOODS)
    assert labels.known_neutral("another model", "Mood") is None


def test_half_of_what_a_neutral_story_scores_is_subtracted():
    scores = dict.fromkeys(MOODS, -9.0) | {"sad": -1.0, "epic": -2.0}
    neutral = [dict.fromkeys(MOODS, -9.0) | {"sad": -1.0, "epic": -4.0}] * 3
    assert labels.choose_moods("", scores, [])[0] == "sad"
    assert labels.choose_moods("", scores, neutral)[0] == "epic"


def test_the_moods_tip_the_balance_where_the_story_points_to_no_genre():
    assert not labels.has_genre_cue("Somebody thinks of something.")
    assert labels.choose_genre("Somebody thinks of something.", ["angry", "dark"], {}, []) in {
        "metal",
        "rock",
        "hip hop",
    }
    assert labels.choose_genre("Somebody thinks of something.", ["calm", "peaceful"], {}, []) in {
        "ambient",
        "classical",
        "bossa nova",
        "reggae",
    }


def test_labels_are_scored_by_the_tokens_that_begin_them():
    answer = Answer(
        " joy", complete=False, tokens=[GeneratedToken(" joy", -1.0, ((" joy", -1.0), (" s", -2.0), (" sad", -3.0)))]
    )
    scores = labels.label_scores(answer, ["joyful", "sad", "epic"])
    assert scores == {"joyful": -1.0, "sad": -3.0, "epic": -3.0}


@pytest.mark.parametrize(("text", "best"), [(" joyful", "joyful"), ("Joy", "joyful"), (" nothing", None), ("", None)])
def test_a_server_without_log_probabilities_gives_the_label_that_it_answers(text, best):
    scores = labels.label_scores(Answer(text, complete=False), MOODS)
    assert [mood for mood, value in scores.items() if value == 0.0] == ([best] if best else [])


def test_a_question_stays_within_the_servers_limit_of_log_probabilities():
    assert labels.label_question("Mood", "A story.", "mood", 20).top_logprobs == 20
    assert labels.label_question("Mood", "A story.", "mood", 50_000).top_logprobs == labels.TOP_LOGPROBS
