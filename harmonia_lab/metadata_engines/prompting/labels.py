"""Genre and mood of a story, from a small model's scores for the labels and from cue words.

Owns the few-shot prompts, the calibration and the way both sources are weighed. The cue words are in `cues.py`.

A model of 135 M parameters can't be asked for a mood in words, but the log-probability of each label as the next token
says something, once the same for a story that says nothing is subtracted (T. Zhao et al., "Calibrate Before Use", ICML
2021; half of it here, which measured best).

Measured on 40 labelled stories (`tests/metadata_engines/prompting/labelled.json`; acceptable labels were written down before, by
the same person as the cue words, so the cue words' figures flatter): first mood acceptable with the model alone in 30,
cue words alone in 33, both in 35; genre with the model alone in 21, cue words and mood in 35, all three in 35. So the
mood takes both, and the genre asks the model only where the story has no cue word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harmonia_lab.metadata_engines.prompting.cues import GENRE_CUES, MOOD_CUES, MOODS_OF_GENRE
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, Message, Question
from harmonia_lab.metadata_engines.prompting.words import content_stems
from harmonia_lab.music.moods import MOOD_AFFECT
from harmonia_lab.protocol.vocabulary import GENRES, MOODS

__all__ = ["NEUTRAL_STORIES", "choose_genre", "choose_moods", "has_genre_cue", "label_question", "label_scores"]

SHOTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "Genre": (
        ("A girl leaves her small town on a train at dawn and waves to her mother.", "folk"),
        ("Friends race their old cars along the coast road.", "rock"),
        ("A scientist in Antarctica listens to the ice at night.", "ambient"),
        ("Strangers dance until morning under the strobe lights.", "electronic"),
        ("A widow talks to the moon in a smoky bar.", "blues"),
        ("A cowboy rides home to his ranch.", "country"),
    ),
    "Mood": (
        ("A girl leaves her small town on a train at dawn and waves to her mother.", "bittersweet"),
        ("Friends race their old cars along the coast road.", "energetic"),
        ("A scientist in Antarctica listens to the ice at night.", "calm"),
        ("A team wins the cup after years of losing.", "triumphant"),
        ("Someone follows her home through the fog.", "tense"),
        ("An old man looks at photographs of his youth.", "nostalgic"),
    ),
}

NEUTRAL_STORIES = ("A person does something.", "Someone somewhere thinks about things.", "There is a story.")

CALIBRATION = 0.5
"""How much of the neutral stories' mean score is subtracted."""

CUE = {"Genre": 2.0, "Mood": 1.0}
"""What a cue word is worth, in nats."""

ALTERNATIVES = 3000
"""Tokens whose log-probabilities are wanted; the rarest label needs that many. Servers give what they can."""


def label_question(head: str, story: str, purpose: str, alternatives: int) -> Question:
    """Asks for the first token of the label. head: Genre or Mood."""
    shots = "".join(f"Story: {text}\n{head}: {label}\n\n" for text, label in SHOTS[head])
    return Question(
        purpose,
        (
            Message("user", f"Write the {head.lower()} of the song for each story."),
            Message("assistant", f"{shots}Story: {story}\n{head}:"),
        ),
        {"temperature": 0.0, "repeat_penalty": 1.0, "num_predict": 1},
        alternatives=min(ALTERNATIVES, alternatives),
    )


def label_scores(answer: Answer, labels: Sequence[str]) -> dict[str, float]:
    """Log-probability of each label's beginning; the least one listed for those that are not.

    Where the server tells no alternatives, the label that the answer begins with gets 0 and the others −3.
    """
    listed: dict[str, float] = {}
    for text, logprob in answer.tokens[0].others if answer.tokens else ():
        listed.setdefault(text, logprob)
    if not listed:
        word = answer.text.strip().lower()
        return {label: 0.0 if len(word) > 1 and label.startswith(word) else -3.0 for label in labels}
    least = min(listed.values())
    return {
        label: next((listed[start] for start in _beginnings(f" {label}") if start in listed), least) for label in labels
    }


def _beginnings(text: str) -> Sequence[str]:
    return [text[:length] for length in range(len(text), 1, -1)]


def choose_moods(told: str, scores: Mapping[str, float], neutral: Sequence[Mapping[str, float]]) -> list[str]:
    """Two moods, the stronger first, that one song can have: the second is the best one not far from the first."""
    values = _combine("Mood", told, MOOD_CUES, scores, neutral)
    first = max(MOODS, key=lambda mood: values[mood])
    rest = [mood for mood in MOODS if mood != first]
    return [first, max(rest, key=lambda mood: values[mood] - 2.0 * max(0.0, _distance(first, mood) - 0.5))]


def has_genre_cue(told: str) -> bool:
    """Whether a word of the story points to a genre."""
    return any(_hits(told, GENRE_CUES).values())


def choose_genre(
    told: str, moods: Sequence[str], scores: Mapping[str, float], neutral: Sequence[Mapping[str, float]]
) -> str:
    """The genre by cue words and moods, and by the model's scores where they are given (empty: it was not asked)."""
    values = _combine("Genre", told, GENRE_CUES, scores, neutral)
    for genre, at_home in MOODS_OF_GENRE.items():
        values[genre] += sum(weight for mood, weight in zip(moods, (1.0, 0.5), strict=False) if mood in at_home)
    return max(GENRES, key=lambda genre: values[genre])


def _combine(
    head: str,
    told: str,
    cues: Mapping[str, frozenset[str]],
    scores: Mapping[str, float],
    neutral: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    hits = _hits(told, cues)
    values = {}
    for label, found in hits.items():
        usual = sum(other[label] for other in neutral) / len(neutral) if neutral else 0.0
        values[label] = scores.get(label, 0.0) - CALIBRATION * usual + CUE[head] * found
    return values


def _hits(told: str, cues: Mapping[str, frozenset[str]]) -> dict[str, int]:
    stems = set(content_stems(told))
    return {label: len(stems & words) for label, words in cues.items()}


def _distance(one: str, other: str) -> float:
    """On the plane of valence and arousal, each −1…1."""
    return math.dist(MOOD_AFFECT[one], MOOD_AFFECT[other])
