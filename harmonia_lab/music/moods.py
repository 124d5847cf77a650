"""From moods to music: mood words → valence and arousal → musical cues (tempo, register, loudness, articulation …).

Owns these two mappings, and `suggest_features`, by which stage 1 chooses tempo, key and instruments. The genre table is
in `genres.py`; `composing/` writes the notes.

Sources. Moods are points on the circumplex of J. A. Russell, "A circumplex model of affect", Journal of Personality
and Social Psychology 39/6 (1980): valence is the horizontal axis, arousal the vertical one; we placed the words that he
does not place, between their neighbours. The cues, their directions and their order of weight (mode, tempo, register,
dynamics, articulation, timbre), and that they add up linearly without interactions, are from T. Eerola, A. Friberg and
R. Bresin, "Emotional expression in music: contribution, linearity, and additivity of primary musical cues", Frontiers
in Psychology 4:487 (2013). We chose the slopes so that each cue spans a musically usable range.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from harmonia_lab.music.genres import GENRE_STYLES, GenreStyle, nearest_genre
from harmonia_lab.music.seeds import derive_rng
from harmonia_lab.protocol.models import Instrument
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, TONICS, Role, find_instrument

__all__ = ["MOOD_AFFECT", "Affect", "MusicalCues", "MusicalFeatures", "mean_affect", "musical_cues", "suggest_features"]


class Affect(NamedTuple):
    """A point on Russell's circumplex. valence: −1 unpleasant … 1 pleasant. arousal: −1 asleep … 1 excited."""

    valence: float
    arousal: float


class MusicalCues(NamedTuple):
    """The musical cues that express an affect.

    tempo: 0 the genre's slowest … 1 its fastest. register: semitones by which the lead is raised. loudness: MIDI
    velocity of an ordinary note. articulation: sounding share of a note's length, 0.55 detached … 1 legato.
    brightness: 0 soft … 1 bright instruments.
    """

    tempo: float
    register: int
    loudness: int
    articulation: float
    brightness: float


class MusicalFeatures(NamedTuple):
    """bpm: 40…220 quarter notes a minute. key: such as "A minor". instruments: one to five, one for each role."""

    bpm: int
    key: str
    instruments: tuple[Instrument, ...]


MOOD_AFFECT: Mapping[str, Affect] = {
    "joyful": Affect(0.9, 0.5), "hopeful": Affect(0.6, 0.15), "romantic": Affect(0.6, -0.1),
    "peaceful": Affect(0.6, -0.65), "calm": Affect(0.45, -0.75), "playful": Affect(0.8, 0.55),
    "triumphant": Affect(0.7, 0.75), "energetic": Affect(0.5, 0.9), "epic": Affect(0.3, 0.8),
    "dreamy": Affect(0.35, -0.5), "nostalgic": Affect(0.05, -0.3), "bittersweet": Affect(-0.15, -0.15),
    "melancholic": Affect(-0.6, -0.4), "sad": Affect(-0.8, -0.4), "lonely": Affect(-0.65, -0.5),
    "mysterious": Affect(-0.35, 0.05), "tense": Affect(-0.55, 0.65), "dark": Affect(-0.7, 0.2),
    "angry": Affect(-0.75, 0.85), "tender": Affect(0.5, -0.4),
}  # fmt: skip
"""One point for each of `protocol.vocabulary.MOODS`."""

_SYNONYMS = {
    "joyful": "happy cheerful joy merry upbeat bright jubilant euphoric glad festive celebratory fun",
    "hopeful": "uplifting inspiring optimistic hope inspirational encouraging warm",
    "romantic": "love loving passionate sensual intimate longing yearning",
    "peaceful": "serene tranquil gentle peace soft meditative restful",
    "calm": "relaxed relaxing chill mellow soothing quiet laid-back sleepy",
    "playful": "whimsical quirky funny humorous light lighthearted mischievous",
    "triumphant": "victorious heroic proud glorious empowering",
    "energetic": "exciting excited driving dynamic lively danceable powerful intense",
    "epic": "grand majestic cinematic dramatic adventurous",
    "dreamy": "ethereal hazy floating surreal magical",
    "nostalgic": "wistful reflective sentimental contemplative reminiscent thoughtful",
    "bittersweet": "poignant mixed resigned",
    "melancholic": "melancholy blue somber sombre pensive sorrowful mournful",
    "sad": "grief heartbroken tragic tearful depressed sorrow",
    "lonely": "isolated solitary desolate empty alone",
    "mysterious": "eerie enigmatic haunting strange suspenseful",
    "tense": "anxious nervous urgent restless fearful scary uneasy",
    "dark": "gloomy ominous brooding sinister menacing bleak",
    "angry": "aggressive furious rebellious rage defiant fierce",
    "tender": "sweet caring affectionate delicate soulful",
}
_MOOD_OF = {word: mood for mood, synonyms in _SYNONYMS.items() for word in (mood, *synonyms.split())}


def mean_affect(moods: Sequence[str]) -> Affect:
    """Return the mean affect of the moods; the first counts twice, unknown ones are ignored. No known mood: (0, 0).

    A mood may be a word of `MOOD_AFFECT`, a synonym of one, or a phrase that contains either ("deeply sad").
    """
    found = [MOOD_AFFECT[mood] for mood in map(_known_mood, moods) if mood]
    if not found:
        return Affect(0.0, 0.0)
    weighted = [found[0], *found]
    return Affect(sum(a.valence for a in weighted) / len(weighted), sum(a.arousal for a in weighted) / len(weighted))


def _known_mood(word: str) -> str | None:
    parts: list[str] = re.findall(r"[\w-]+", word.lower())
    candidates = (word.lower().strip(), *reversed(parts))
    return next((_MOOD_OF[part] for part in candidates if part in _MOOD_OF), None)


def musical_cues(affect: Affect) -> MusicalCues:
    """Return the musical cues for an affect, each a clipped linear function of it (Eerola et al. 2013).

    Their listeners found fast, loud, detached music happy or scary, and slow, soft, legato music sad or peaceful; a
    high register sounded rather happy or peaceful, a low one sad or scary.
    """
    valence, arousal = affect
    return MusicalCues(
        tempo=_clip(0.5 + 0.42 * arousal + 0.12 * valence, 0.0, 1.0),
        register=round(_clip(3.0 * valence + 1.0 * arousal, -4.0, 4.0)),
        loudness=round(_clip(80 + 16 * arousal, 60, 98)),
        articulation=_clip(0.88 - 0.16 * arousal - 0.06 * valence, 0.55, 1.0),
        brightness=_clip(0.5 + 0.35 * arousal + 0.1 * valence, 0.0, 1.0),
    )


def suggest_features(genre: str, moods: Sequence[str], seed: int, *, narrative: str = "") -> MusicalFeatures:
    """Return tempo, key and instruments for a song of this genre and these moods; equal arguments give equal results.

    genre: any text, see `genres.nearest_genre`. narrative: an instrument that it names ("an old violin") gets its usual
    role in the band.
    """
    style = GENRE_STYLES[nearest_genre(genre)]
    affect = mean_affect(moods)
    cues = musical_cues(affect)
    rng = derive_rng(seed, "style")
    slow, fast = style.tempo
    bpm = round(slow + (fast - slow) * _clip(cues.tempo + rng.uniform(-0.12, 0.12), 0.0, 1.0))
    minor = affect.valence - style.minor_bias < 0
    fifths = rng.choice(style.fifths)
    key = f"{TONICS[(7 * fifths + (9 if minor else 0)) % 12]} {'minor' if minor else 'major'}"
    return MusicalFeatures(bpm, key, _band(style, cues.brightness, rng, narrative))


def _band(style: GenreStyle, brightness: float, rng: random.Random, narrative: str) -> tuple[Instrument, ...]:
    chosen: dict[Role, str] = {}
    for role, options in style.instruments.items():
        position = _clip(brightness + rng.uniform(-0.3, 0.3), 0.0, 0.999)
        free = [name for name in options if name not in chosen.values()] or list(options)
        chosen[role] = free[int(position * len(free))]
    for name in _named_instruments(narrative):
        role = INSTRUMENTS[name].role
        if name not in chosen.values():
            chosen[role] = name
    return tuple(Instrument(name=name, role=role) for role, name in chosen.items() if name)


_AMBIGUOUS = frozenset(
    "bass organ organs keys keyboard pad pads horn horns vocals synth brass strings".split()  # noqa: SIM905 - a word list
)
"""Instruments' names that mean something else in most stories: a fish, a part of the body, a door's keys …"""


def _named_instruments(narrative: str) -> list[str]:
    """Return the first two instruments of different roles that the narrative names."""
    words = re.findall(r"[^\W\d_]+", narrative.lower())
    found: dict[Role, str] = {}
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name = find_instrument(f"{word} {following}") or (None if word in _AMBIGUOUS else find_instrument(word))
        if name:
            found.setdefault(INSTRUMENTS[name].role, name)
    return list(found.values())[:2]


def _clip(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
