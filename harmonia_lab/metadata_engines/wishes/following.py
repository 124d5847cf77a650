"""What follows from wishes: the request with them filled in, and the metadata that obey them.

Owns the order (explicit options beat wishes, wishes beat the model), what can't be done, and the sentences that say so
(not which words are wishes: `reading.py`, nor the changes of a band: `bands.py`). Pure functions, and idempotent: a
strategy and stage 1 follow the same wishes one after the other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from harmonia_lab.metadata_engines.wishes.bands import Band, band_of, is_family
from harmonia_lab.metadata_engines.wishes.reading import Found, Reading, read
from harmonia_lab.metadata_engines.wishes.words import OTHER_GENRES, OTHER_INSTRUMENTS
from harmonia_lab.music.genres import GENRE_STYLES, nearest_genre
from harmonia_lab.music.moods import suggest_features
from harmonia_lab.protocol.models import Instrument, SongMetadata, SongRequest, Wish
from harmonia_lab.protocol.vocabulary import GENRES, INSTRUMENTS

__all__ = ["Understanding", "tempo_band", "understand", "with_wished_length"]

WishOutcome = Literal["followed", "overruled", "impossible"]

MOST_MOODS = 5
MOST_SECONDS = 600.0
LONGEST_STATUS = 200
"""Characters of the line that says what was understood."""
LONGEST_TAG = 3
"""Letters of a language's tag; invented languages go by their names."""

_BANDS = {
    "very slow": (0.5, 0.68), "slow": (0.66, 0.84), "moderate": (0.9, 1.1), "fast": (1.12, 1.4),
    "very fast": (1.32, 1.7), "not fast": (0.7, 1.0), "not slow": (0.95, 1.3),
}  # fmt: skip
"""Tempo word → slowest and fastest, as factors of the middle of the genre's usual range: a slow reggae and a slow waltz
have different tempos. Our choice; about a third below and above is what listeners call slow and fast of a style."""

_SLOW_LIMIT = {"very slow": 72, "slow": 96}
"""bpm that a slow song of any genre keeps below."""

_VOICES = {
    "female": "a woman's voice", "male": "a man's voice", "child": "a child's voice", "duet": "a duet", "rap": "rap",
    "spoken": "a spoken voice", "a cappella": "voices alone",
}  # fmt: skip

_LIKE_SAD = {"sad": ("sad", "melancholic", "lonely"), "joyful": ("joyful", "playful"), "dark": ("dark", "tense")}
_INSTEAD = {"sad": "hopeful", "joyful": "calm", "dark": "calm", "funny": "tender"}


def tempo_band(word: str, genre: str) -> tuple[int, int]:
    """Return the slowest and the fastest bpm, 40…220, of a tempo word in a genre."""
    slow, fast = GENRE_STYLES[nearest_genre(genre)].tempo
    low, high = (round((slow + fast) / 2 * factor) for factor in _BANDS[word])
    high = min(high, _SLOW_LIMIT.get(word, 220), 220)
    return max(40, min(low, high - 4)), max(44, high)


@dataclass(frozen=True)
class Understanding:
    """A request, and the wishes of its narrative. Nothing is changed where the request has `wishes=False`."""

    given: SongRequest
    reading: Reading

    @cached_property
    def _by_field(self) -> Mapping[str, tuple[Found, ...]]:
        fields = dict.fromkeys(found.field for found in self.reading.found)
        return {name: tuple(found for found in self.reading.found if found.field == name) for name in fields}

    def values(self, field: str, *, negated: bool = False) -> list[str]:
        """Return the values of a field; with `negated`, those that shall not be."""
        values = [found.value for found in self._by_field.get(field, ())]
        return [v.removeprefix("no ") for v in values if v.startswith("no ") == negated]

    @cached_property
    def request(self) -> SongRequest:
        """The request with what can be filled in before stage 1, and with a narrative of which the wishes are taken
        out; where nothing is left, a sentence of its genre and moods."""
        if not self.reading.found:
            return self.given
        filled: dict[str, Any] = {"narrative": self.reading.story or self._material()}
        if self.given.genre is None and self.genre:
            filled["genre"] = self.genre
        figures = self._figures()
        if self.given.bpm is None and figures:
            filled["bpm"] = figures[0]
        keys = [key for key in self.values("key") if " " in key]
        if self.given.key is None and keys:
            filled["key"] = keys[0]
        languages = [tag for tag in self.values("language") if len(tag) <= LONGEST_TAG]
        if self.given.language is None and languages:
            filled["language"] = languages[0]
        lengths = self._lengths()
        if "seconds" not in self.given.model_fields_set and lengths:
            filled["seconds"] = lengths[0]
        return self.given.model_copy(update=filled)

    @cached_property
    def genre(self) -> str | None:
        """The genre to play; None if none is wished for."""
        wished = [_name_of(found) for found in self._by_field.get("genre", ()) if not found.value.startswith("no ")]
        playable = [OTHER_GENRES.get(name, name) for name in dict.fromkeys(wished)]
        genre = " ".join(dict.fromkeys(playable[:2]))[:40]
        if self.values("meter")[:1] == ["3/4"] and not _has_metre(genre, 3):
            genre = f"{genre} waltz".strip()[:40]
        return genre or None

    @cached_property
    def moods(self) -> list[str]:
        """The moods that are wished for, or that follow from humour and audience; empty if there are none."""
        moods = list(dict.fromkeys(self.values("mood")))[:MOST_MOODS]
        if not moods and self.values("humour"):
            moods = ["playful"]
        if not moods and self.values("audience"):
            moods = ["tender"] if {"slow", "very slow"} & set(self.values("tempo")) else ["playful"]
        return moods

    @property
    def instrumental(self) -> bool:
        """Whether the song shall have no words."""
        return "instrumental" in self.values("voice")

    @property
    def status(self) -> str:
        """The wishes in a line for people; empty if there are none."""
        said = [_said(found) for found in self.reading.found]
        line = f"Wishes: {', '.join(dict.fromkeys(said))}" if said else ""
        return textwrap.shorten(line, LONGEST_STATUS, placeholder=" …")

    @property
    def told(self) -> list[str]:
        """The wishes that `request` has no field for, as sentences for a language model."""
        lines = []
        if self.values("mood"):
            lines.append(f"The mood is given: {', '.join(self.moods)}.")
        lines += [f"It must not be {mood}." for mood in self.values("mood", negated=True)]
        if self.values("humour"):
            lines.append("It shall be funny.")
        if self.values("humour", negated=True):
            lines.append("It must not be funny.")
        if self.values("audience"):
            lines.append("It is for a child: simple words, nothing frightening.")
        if self.request.bpm is None:
            lines += [f"The tempo is given: {word}." for word in self.values("tempo") if word in _BANDS]
        if self.request.key is None:
            lines += [f"The key is given: {mode}." for mode in self.values("key")]
        if self.given.instruments is None:
            lines += self._told_of_the_band()
        return lines

    def _told_of_the_band(self) -> list[str]:
        without = self.values("instruments", negated=True)
        named = [name for name in self.values("instruments") if name in INSTRUMENTS]
        only = ", and no others" if self._only else ""
        lines = [f"These instruments are wished for: {', '.join(named)}{only}."] if named else []
        return lines + ([f"There must be no {' and no '.join(without)}."] if without else [])

    @property
    def _only(self) -> bool:
        return "only" in self.values("instruments")

    def _figures(self) -> list[int]:
        return [min(220, max(40, int(v.split(maxsplit=1)[0]))) for v in self.values("tempo") if v.endswith("bpm")]

    def _lengths(self) -> list[float]:
        return [min(MOST_SECONDS, max(1.0, float(v.split(maxsplit=1)[0]))) for v in self.values("length")]

    def _material(self) -> str:
        """Return what the song can be about where the text is nothing but a wish: its moods and its genre."""
        moods = " and ".join(self.values("mood")) or next(iter(self.moods), "")
        kind = self.genre or next((name for name in self.values("instruments") if name != "only"), "")
        return " ".join(["A", *filter(None, [moods, kind]), "song."])

    def followed_by(self, metadata: SongMetadata) -> SongMetadata:
        """Return the metadata with every wish followed that no explicit option overrules, and with `wishes` and
        `warnings` set. Metadata that obey already come back equal."""
        if not self.reading.found:
            return metadata
        request = self.given
        genre = request.genre or self.genre or self._other_genre(metadata)
        band = request.instruments or band_of(metadata.instruments, self._band, self._usual(metadata, genre))
        changed: dict[str, Any] = {
            "genre": genre,
            "mood": self._mood(metadata.mood),
            "bpm": request.bpm or self.bpm_for(metadata.bpm, genre),
            "key": request.key or self._key(metadata.key),
            "instruments": list(band),
            "lyrics": "" if self.instrumental else metadata.lyrics,
        }
        made = metadata.model_copy(update=changed)
        wishes = [self._wish(found, made) for found in self.reading.found]
        warnings = [*metadata.warnings, *self._warnings(wishes, made)]
        update = {"wishes": wishes[:40], "warnings": list(dict.fromkeys(warnings))[:20]}
        return SongMetadata.model_validate(made.model_copy(update=update).model_dump())

    @cached_property
    def _band(self) -> Band:
        named = [name for name in self.values("instruments") if name != "only"]
        playable = [name if name in INSTRUMENTS else OTHER_INSTRUMENTS.get(name, "") for name in named]
        percussion = any(not OTHER_INSTRUMENTS.get(name, "-") for name in named)
        return Band(
            tuple(dict.fromkeys(filter(None, playable))),
            tuple(self.values("instruments", negated=True)),
            self._only,
            percussion,
        )

    def _usual(self, metadata: SongMetadata, genre: str) -> Sequence[Instrument]:
        return suggest_features(genre, metadata.mood, len(metadata.title)).instruments

    def _other_genre(self, metadata: SongMetadata) -> str:
        unwanted = self.values("genre", negated=True)
        if nearest_genre(metadata.genre) not in unwanted:
            return metadata.genre
        return next(genre for genre in ("folk", *GENRES) if genre not in unwanted)

    def _mood(self, moods: Sequence[str]) -> list[str]:
        unwanted = {like for mood in self.values("mood", negated=True) for like in _LIKE_SAD.get(mood, (mood,))}
        kept = [mood for mood in (self.moods or moods) if mood not in unwanted]
        instead = next((_INSTEAD[mood] for mood in self.values("mood", negated=True) if mood in _INSTEAD), "calm")
        return kept or [instead]

    def bpm_for(self, bpm: int, genre: str) -> int:
        """Return the tempo of a song of `genre` that would have `bpm` without a wish."""
        figures = self._figures()
        word = next((value for value in self.values("tempo") if value in _BANDS), None)
        if figures or word is None:
            return figures[0] if figures else bpm
        low, high = tempo_band(word, genre)
        if low <= bpm <= high:
            return bpm
        slow, fast = GENRE_STYLES[nearest_genre(genre)].tempo
        return round(low + (high - low) * min(1.0, max(0.0, (bpm - slow) / (fast - slow))))

    def _key(self, key: str) -> str:
        full = [value for value in self.values("key") if " " in value]
        mode = next(iter(self.values("key")), None)
        return full[0] if full else f"{key.split(maxsplit=1)[0]} {mode}" if mode else key

    def _wish(self, found: Found, made: SongMetadata) -> Wish:
        return Wish(
            field=found.field, text=found.text[:200], value=_said(found)[:80], outcome=self._outcome(found, made)
        )

    def _outcome(self, found: Found, made: SongMetadata) -> WishOutcome:
        judges: dict[str, Callable[[Found, SongMetadata], WishOutcome]] = {
            "tempo": self._tempo_outcome,
            "key": lambda found, made: "followed" if made.key.endswith(found.value) else "overruled",
            "meter": _metre_outcome,
            "genre": self._genre_outcome,
            "instruments": self._instrument_outcome,
            "voice": lambda found, _: "impossible" if found.value in _VOICES else "followed",
            "length": self._length_outcome,
            "language": self._language_outcome,
        }
        judge = judges.get(found.field)
        return judge(found, made) if judge else "followed"

    def _tempo_outcome(self, found: Found, made: SongMetadata) -> WishOutcome:
        if found.value.endswith("bpm"):
            asked = int(found.value.split(maxsplit=1)[0])
            return "followed" if made.bpm == asked else "overruled" if 40 <= asked <= 220 else "impossible"
        slow, fast = GENRE_STYLES[nearest_genre(made.genre)].tempo
        low, high = _BANDS[found.value]
        # Beside a figure, "slow" and "fast" are descriptions: they agree with it or not.
        agrees = low * 0.8 <= made.bpm / ((slow + fast) / 2) <= high * 1.25
        return "followed" if agrees or self.given.bpm is None else "overruled"

    def _language_outcome(self, found: Found, made: SongMetadata) -> WishOutcome:
        if self.given.language and self.given.language.lower().split("-")[0] != found.value:
            return "overruled"
        written = (made.language or found.value).lower().split("-")[0]
        return "followed" if len(found.value) <= LONGEST_TAG and written == found.value else "impossible"

    def _length_outcome(self, found: Found, _made: SongMetadata) -> WishOutcome:
        asked_s = _first_number(found)
        if not 1 <= asked_s <= MOST_SECONDS:
            return "impossible"
        return "followed" if self.request.seconds == asked_s else "overruled"

    def _genre_outcome(self, found: Found, made: SongMetadata) -> WishOutcome:
        if found.value.startswith("no "):
            return "followed" if nearest_genre(made.genre) != found.value.removeprefix("no ") else "overruled"
        if found.value in OTHER_GENRES:
            return "impossible"
        if self.given.genre and nearest_genre(self.given.genre) != nearest_genre(found.value):
            return "overruled"
        return "followed"

    def _instrument_outcome(self, found: Found, made: SongMetadata) -> WishOutcome:
        name = found.value.removeprefix("no ")
        playing = [instrument.name for instrument in made.instruments]
        if name != found.value:
            return "overruled" if any(is_family(name, other) for other in playing) else "followed"
        if name != "only" and name not in INSTRUMENTS:
            return "impossible"
        return "followed" if self.given.instruments is None or name in playing else "overruled"

    def _warnings(self, wishes: Sequence[Wish], made: SongMetadata) -> Iterator[str]:
        """Yield a sentence for each wish that can't be done, or that is done in another way."""
        for found, wish in zip(self.reading.found, wishes, strict=True):
            if found.value == "choir" and wish.outcome == "followed":
                yield "The choir sings vowels, no words: no engine here sings."
            elif wish.outcome == "impossible" and not (found.field == "language" and _of_language(made.warnings)):
                yield self._impossible(found, made)

    def _impossible(self, found: Found, made: SongMetadata) -> str:
        name = found.value
        beats = GENRE_STYLES[nearest_genre(made.genre)].beats_per_bar
        instead = OTHER_INSTRUMENTS.get(name)
        drums = any(instrument.role == "drums" for instrument in made.instruments)
        plays = f"; {_article(instead)} plays instead" if instead else "; the drums play instead" * drums
        return {
            "instruments": f"No engine here has {_article(name)}{plays}.",
            "genre": f"No engine here plays {name}; the song is {made.genre}.",
            "voice": f"No engine here sings: {_VOICES.get(name, name)} can't be had, an instrument plays the melody.",
            "meter": f"A metre of {name} can't be had here: the song is in {beats}/4.",
            "tempo": f"{name} is outside of 40 to 220 bpm: the song has {made.bpm} bpm.",
            "length": f"A length of {name} is outside of 1 to 600 s: the song has {self.request.seconds:g} s.",
            "language": f"The lyrics can't be in the language that was asked for ({found.text.strip()}).",
        }[found.field]


def _of_language(warnings: Sequence[str]) -> bool:
    """Return whether the engine has said already which languages it can write."""
    return any("language" in warning or "English" in warning for warning in warnings)


def _first_number(found: Found) -> float:
    return float(found.value.split(maxsplit=1)[0])


def _metre_outcome(found: Found, made: SongMetadata) -> WishOutcome:
    beats, unit = found.value.split("/")
    if unit != "4" or all(style.beats_per_bar != int(beats) for style in GENRE_STYLES.values()):
        return "impossible"
    return "followed" if _has_metre(made.genre, int(beats)) else "overruled"


def _said(found: Found) -> str:
    """Return what was understood, in words for people."""
    if found.field == "genre" and not found.value.startswith("no "):
        return _name_of(found)
    if found.field == "instruments" and found.value == "only":
        return "no other instruments"
    if found.field == "length":
        return f"{found.value} long"
    if found.field in ("language", "meter", "voice", "audience"):
        return f"{found.field}: {found.value}"
    return f"{found.value} key" if found.value in ("minor", "major") else found.value


def _name_of(found: Found) -> str:
    """Return a genre by the words of the text, where they lead to the same genre, else by our name."""
    words = [w for w in found.text.lower().split() if w not in ("song", "songs", "music", "track", "tune", "beat")]
    name = " ".join(words)
    return name if nearest_genre(name) == found.value and name.isascii() else found.value


def _article(name: str) -> str:
    if name.endswith("s") or name.startswith("the "):
        return name
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def _has_metre(genre: str, beats: int) -> bool:
    return bool(genre) and GENRE_STYLES[nearest_genre(genre)].beats_per_bar == beats


@lru_cache(maxsize=64)
def _read(narrative: str) -> Reading:
    return read(narrative)


def understand(request: SongRequest) -> Understanding:
    """Return the request with the wishes of its narrative; with none where it has `wishes=False` or metadata."""
    if not request.wishes or request.metadata is not None:
        return Understanding(request, Reading((), request.narrative))
    return Understanding(request, _read(request.narrative))


def with_wished_length(request: SongRequest) -> SongRequest:
    """Return the request, with the length that its narrative wishes for if the caller gave none."""
    if "seconds" in request.model_fields_set:
        return request
    seconds = understand(request).request.seconds
    return request if seconds == request.seconds else request.model_copy(update={"seconds": seconds})
