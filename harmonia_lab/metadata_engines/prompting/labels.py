"""Genre and mood of a story, from a small model's scores for the labels and from cue words.

Owns the few-shot prompts, the calibration and the weights of both sources (not the cue words: `cues.py`).

A model of 135 M parameters gives no useful answer when it is asked for a mood in words. The log-probability of each
label as the next token is informative, once the same score for neutral stories is subtracted (T. Zhao et al.,
"Calibrate Before Use", ICML 2021; we subtract half of it, which measured best).

Measured on 40 labelled stories (`tests/metadata_engines/prompting/labelled.json`; the author of the cue words wrote
the acceptable labels beforehand, so the cue words' figures are optimistic): the first mood was acceptable in 30 with
the model alone, in 33 with cue words alone, in 35 with both; the genre in 21 with the model alone, in 35 with cue words
and mood, in 35 with all three. So the mood uses both sources, and the genre uses the model only if the story has no
cue word for a genre.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources

from harmonia_lab.metadata_engines.prompting.cues import GENRE_CUES, MOOD_CUES, MOODS_OF_GENRE
from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer, ChatMessage, Question
from harmonia_lab.metadata_engines.prompting.words import content_stems
from harmonia_lab.music.moods import MOOD_AFFECT
from harmonia_lab.protocol.vocabulary import GENRES, MOODS

__all__ = [
    "NEUTRAL_STORIES",
    "choose_genre",
    "choose_moods",
    "has_genre_cue",
    "known_neutral",
    "label_question",
    "label_scores",
    "prompts_digest",
]

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
"""The part of the neutral stories' mean score that is subtracted."""

CUE_WEIGHT = {"Genre": 2.0, "Mood": 1.0}
"""Weight of one cue word, in nats."""

TOP_LOGPROBS = 3000
"""Log-probabilities to ask for; the rarest label needs that many. A server may return fewer."""


def label_question(head: str, story: str, purpose: str, max_top_logprobs: int) -> Question:
    """Return the question whose answer is the first token of the label. head: Genre or Mood."""
    shots = "".join(f"Story: {text}\n{head}: {label}\n\n" for text, label in SHOTS[head]) + "Story:"
    return Question(
        purpose,
        (
            ChatMessage("user", f"Write the {head.lower()} of the song for each story."),
            ChatMessage("assistant", f"{shots} {story}\n{head}:"),
        ),
        {"temperature": 0.0, "repeat_penalty": 1.0, "num_predict": 1},
        top_logprobs=min(TOP_LOGPROBS, max_top_logprobs),
        static=len(shots),
    )


def known_neutral(digest: str | None, head: str) -> dict[str, float] | None:
    """Return the neutral stories' mean scores of the model with this digest, or None if they aren't known."""
    return _neutral_table().get(digest or "", {}).get(head)


@functools.lru_cache(maxsize=1)
def _neutral_table() -> dict[str, dict[str, dict[str, float]]]:
    """Return {digest: {head: {label: score}}}; nothing if the prompts have changed since the scores were measured."""
    text = resources.files(__package__).joinpath("neutral.json").read_text(encoding="utf-8")
    measured = json.loads(text)
    table: dict[str, dict[str, dict[str, float]]] = measured["models"]
    return table if measured["prompts"] == prompts_digest() else {}


def prompts_digest() -> str:
    """Return a digest of all that the neutral stories' scores depend on, the model apart."""
    heads = [[m.content for m in label_question(head, "", "", 0).messages] for head in SHOTS]
    return hashlib.sha256(repr((heads, NEUTRAL_STORIES, MOODS, GENRES)).encode()).hexdigest()[:16]


def label_scores(answer: Answer, labels: Sequence[str]) -> dict[str, float]:
    """Return the log-probability of each label's longest listed prefix; for other labels, the lowest listed one.

    If the server returns no alternatives, the label that the answer begins with gets 0 and the others −3.
    """
    listed: dict[str, float] = {}
    for text, logprob in answer.tokens[0].alternatives if answer.tokens else ():
        listed.setdefault(text, logprob)
    if not listed:
        word = answer.text.strip().lower()
        return {label: 0.0 if len(word) > 1 and label.startswith(word) else -3.0 for label in labels}
    least = min(listed.values())
    prefixes = {label: [f" {label}"[:length] for length in range(len(label) + 1, 1, -1)] for label in labels}
    return {label: next((listed[start] for start in prefixes[label] if start in listed), least) for label in labels}


def choose_moods(story: str, scores: Mapping[str, float], neutral: Sequence[Mapping[str, float]]) -> list[str]:
    """Return two moods, the stronger one first; the second is the best one whose affect is near the first's."""
    values = _combine("Mood", story, MOOD_CUES, scores, neutral)
    first = max(MOODS, key=lambda mood: values[mood])

    def near_first(mood: str) -> float:
        # Distance on the plane of valence and arousal, each −1…1.
        return values[mood] - 2.0 * max(0.0, math.dist(MOOD_AFFECT[first], MOOD_AFFECT[mood]) - 0.5)

    return [first, max((mood for mood in MOODS if mood != first), key=near_first)]


def has_genre_cue(story: str) -> bool:
    """Return whether a word of the story points to a genre."""
    return not frozenset(content_stems(story)).isdisjoint(frozenset[str]().union(*GENRE_CUES.values()))


def choose_genre(
    story: str, moods: Sequence[str], scores: Mapping[str, float], neutral: Sequence[Mapping[str, float]]
) -> str:
    """Return the genre by cue words, moods and the model's scores; empty scores if the model was not asked."""
    values = _combine("Genre", story, GENRE_CUES, scores, neutral)
    for genre, typical in MOODS_OF_GENRE.items():
        values[genre] += sum(weight for mood, weight in zip(moods, (1.0, 0.5), strict=False) if mood in typical)
    return max(GENRES, key=lambda genre: values[genre])


def _combine(
    head: str,
    story: str,
    cues: Mapping[str, frozenset[str]],
    scores: Mapping[str, float],
    neutral: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    stems = frozenset(content_stems(story))
    values = {}
    for label, words in cues.items():
        usual = sum(other[label] for other in neutral) / len(neutral) if neutral else 0.0
        values[label] = scores.get(label, 0.0) - CALIBRATION * usual + CUE_WEIGHT[head] * len(stems & words)
    return values
