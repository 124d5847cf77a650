"""A lexicon of cue words: words of a story that point to a genre or a mood.

Owns the word lists (`cues.txt`), written by us for settings, instruments and feelings. `labels.py` weighs them against
the model's scores.
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


def _stems(kind: str) -> dict[str, frozenset[str]]:
    return {label: frozenset(map(stem, words)) for label, words in _read(kind).items()}


GENRE_CUES: Mapping[str, frozenset[str]] = _stems("genre")
MOOD_CUES: Mapping[str, frozenset[str]] = _stems("mood")

MOODS_OF_GENRE: Mapping[str, frozenset[str]] = {genre: frozenset(moods) for genre, moods in _read("home").items()}
"""Moods that are typical of a genre: they decide between genres when the story has no cue word."""
