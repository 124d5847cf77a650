"""What is known of a song's sound: what of the plan it follows, and the tempo and key that were measured in it.

Owns both types, and the words in which people read them. The meter is in `audio_engines/listening/`; an engine itself
says what it follows (`engines/base.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, get_args

from pydantic import Field

from harmonia_lab.protocol.text import Told
from harmonia_lab.protocol.wire_model import WireModel

__all__ = ["FOLLOWED", "Followed", "Measured", "given_note"]

Followed = Literal["notes", "chroma", "tempo", "key", "prompt", "lyrics"]
"""What of a plan a song's sound follows.

notes: every note, and so sections, chords, tempo, key and the lines' times. chroma: the leading pitch class of each
moment, as a guide. tempo, key, prompt (genre, mood and instruments): asked for in words or numbers, which a model may
miss. lyrics: the words are sung, at times that the plan doesn't know.
"""

FOLLOWED: tuple[Followed, ...] = get_args(Followed)

TOLERANCE = 0.04
"""Relative difference up to which a tempo counts as another's half or double."""


class Measured(WireModel):
    """Tempo and key as they were measured in the song, by a meter that knows nothing of the plan."""

    bpm: Annotated[float | None, Field(gt=0)] = None
    """Beats a minute; none if no beat is clear."""
    bpm_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0…1, that there is a beat."""
    key: Told | None = None
    """As "A minor"; none if no key is clear."""
    key_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0…1, that there is this key."""

    def beside(self, bpm: float, key: str) -> str:
        """Return tempo and key in words, each beside the one that was asked for.

        >>> measured.beside(120, "A minor")
        'about 118 bpm (asked 120), A minor (asked A minor)'
        """
        heard_key = self.key or "no clear key"
        return f"{self._tempo_beside(bpm)}, {heard_key} (asked {key})"

    def _tempo_beside(self, asked: float) -> str:
        if self.bpm is None:
            return f"no clear beat (asked {asked:g} bpm)"
        for times, words in ((2, "twice the asked"), (0.5, "half the asked")):
            if abs(self.bpm / (times * asked) - 1) <= TOLERANCE:
                return f"about {self.bpm:.0f} bpm ({words} {asked:g})"
        return f"about {self.bpm:.0f} bpm (asked {asked:g})"


_GIVEN: tuple[tuple[Followed, str], ...] = (
    ("prompt", "genre, mood and instruments"),
    ("tempo", "tempo"),
    ("key", "key"),
    ("chroma", "melody and chords as a guide"),
    ("lyrics", "the words"),
)


def given_note(follows: Collection[str]) -> str:
    """Return what the sound has of the plan, as a sentence; "" where it plays every note."""
    if "notes" in follows:
        return ""
    given = [words for name, words in _GIVEN if name in follows]
    told = f"{', '.join(given[:-1])} and {given[-1]}" if given[1:] else "".join(given) or "nothing"
    words = "when the words are sung is not known" if "lyrics" in follows else "no words are sung"
    return f"The audio engine was given {told} of the plan: notes and sections are its own, and {words}."
