"""Words of a story that point to a genre or a mood: a small, readable lexicon beside the language model's judgement.

Owns the lists (`cues.txt`). How much they count against the model's scores is decided, and measured, in `labels.py`.
The words are ours, chosen for settings, instruments and feelings.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from harmonia_lab.metadata_engines.prompting.words import stem

__all__ = ["GENRE_CUES", "MOODS_OF_GENRE", "MOOD_CUES"]


def _read(kind: str) -> dict[str, list[str]]:
    text = resources.files(__package__).joinpath("cues.txt").read_text(encoding="utf-8")
    rows = (row.split("|") for row in text.splitlines() if "|" in row)
    return {label.strip(): words.split() for found, label, words in rows if found.strip() == kind}


GENRE_CUES: Mapping[str, frozenset[str]] = {
    genre: frozenset(map(stem, words)) for genre, words in _read("genre").items()
}
MOOD_CUES: Mapping[str, frozenset[str]] = {mood: frozenset(map(stem, words)) for mood, words in _read("mood").items()}

MOODS_OF_GENRE: Mapping[str, frozenset[str]] = {genre: frozenset(moods) for genre, moods in _read("home").items()}
"""Which moods a genre is at home in: it tips the balance between genres that the story leaves open."""
