"""What moods do to music: from mood words to valence and arousal, from those to mode, tempo, register, loudness, touch.

Owns the mapping and the suggestion that stage 1 asks for (`suggest`: tempo, key, instruments). The genre table is in
`genres.py`; writing notes is `composing/`.

Sources. Moods are points on the circumplex of J. A. Russell, "A circumplex model of affect", Journal of Personality
and Social Psychology 39/6 (1980): valence to the right, arousal upwards; words that he does not place are placed by us
between their neighbours. The cues, their directions and their order of weight (mode, tempo, register, dynamics,
articulation, timbre), and that they add up linearly without interactions, are from T. Eerola, A. Friberg and
R. Bresin, "Emotional expression in music: contribution, linearity, and additivity of primary musical cues", Frontiers
in Psychology 4:487 (2013). The slopes are ours, scaled so that each cue spans a range that stays musical.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harmonia_lab.music.genres import GENRE_STYLES, GenreStyle, nearest_genre
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.models import Instrument
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, TONICS, Role, find_instrument

__all__ = ["MOOD_AFFECT", "Affect", "Expression", "Suggestion", "affect", "expression", "nearest_genre", "suggest"]


class Affect(NamedTuple):
    """valence: −1 unpleasant … 1 pleasant. arousal: −1 asleep … 1 excited."""

    valence: float
    arousal: float


class Expression(NamedTuple):
    """The cues that an affect asks for.

    tempo: 0 the genre's slowest … 1 its fastest. register: semitones that the lead moves up. loudness: MIDI velocity
    of an ordinary note. articulation: sounding part of a note's length, 0.55 detached … 1 legato.
    brightness: 0 soft … 1 bright sounds.
    """

    tempo: float
    register: int
    loudness: int
    articulation: float
    brightness: float


class Suggestion(NamedTuple):
    """bpm: 40…220 quarter notes a minute. key: as "A minor". instruments: one to five, one a role."""

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
"""One row for each of `protocol.vocabulary.MOODS`."""

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
_MOOD_OF = {word: mood for mood, words in _SYNONYMS.items() for word in words.split()}


def affect(moods: Sequence[str]) -> Affect:
    """Where the moods lie together: their mean, the first one counting twice. Words without a place are left out.

    A word is looked up as it is, then in a small list of synonyms, then by the words inside it ("deeply sad"). No word
    placed: neutral, (0, 0).
    """
    found = [MOOD_AFFECT[mood] for word in moods for mood in [_mood(word)] if mood]
    if not found:
        return Affect(0.0, 0.0)
    weighted = [found[0], *found]
    return Affect(sum(a.valence for a in weighted) / len(weighted), sum(a.arousal for a in weighted) / len(weighted))


def _mood(word: str) -> str | None:
    parts: list[str] = re.findall(r"[\w-]+", word.lower())
    for part in (word.lower().strip(), *reversed(parts)):
        if part in MOOD_AFFECT:
            return part
        if part in _MOOD_OF:
            return _MOOD_OF[part]
    return None


def expression(feeling: Affect) -> Expression:
    """The musical cues for an affect, each a clipped linear function of valence and arousal (Eerola et al. 2013).

    Happy and scary were heard in fast, loud, detached music, sad and peaceful in slow, soft, legato music; a high
    register leaned to happy and peaceful, a low one to sad and scary.
    """
    valence, arousal = feeling
    return Expression(
        tempo=_clip(0.5 + 0.42 * arousal + 0.12 * valence, 0.0, 1.0),
        register=round(_clip(3.0 * valence + 1.0 * arousal, -4.0, 4.0)),
        loudness=round(_clip(80 + 16 * arousal, 60, 98)),
        articulation=_clip(0.88 - 0.16 * arousal - 0.06 * valence, 0.55, 1.0),
        brightness=_clip(0.5 + 0.35 * arousal + 0.1 * valence, 0.0, 1.0),
    )


def suggest(genre: str, moods: Sequence[str], seed: int, *, narrative: str = "") -> Suggestion:
    """Tempo, key and instruments for a song of this genre and these moods; the same arguments give the same answer.

    genre: any text, see `nearest_genre`. narrative: an instrument that the story names ("an old violin") joins the
    band and takes its usual role.
    """
    style = GENRE_STYLES[nearest_genre(genre)]
    feeling = affect(moods)
    cues = expression(feeling)
    rng = random.Random(derive_seed(seed, "style"))  # noqa: S311 - music, not secrets
    slow, fast = style.tempo
    bpm = round(slow + (fast - slow) * _clip(cues.tempo + rng.uniform(-0.12, 0.12), 0.0, 1.0))
    minor = feeling.valence - style.gloom < 0
    fifths = rng.choice(style.fifths)
    key = f"{TONICS[(7 * fifths + (9 if minor else 0)) % 12]} {'minor' if minor else 'major'}"
    return Suggestion(bpm, key, _band(style, cues.brightness, rng, narrative))


def _band(style: GenreStyle, brightness: float, rng: random.Random, narrative: str) -> tuple[Instrument, ...]:
    chosen: dict[Role, str] = {}
    for role, options in style.instruments.items():
        where = _clip(brightness + rng.uniform(-0.3, 0.3), 0.0, 0.999)
        free = [name for name in options if name not in chosen.values()] or list(options)
        chosen[role] = free[int(where * len(free))]
    for name in _named_instruments(narrative):
        role = INSTRUMENTS[name].role
        if name not in chosen.values():
            chosen[role] = name
    return tuple(Instrument(name=name, role=role) for role, name in chosen.items() if name)


_AMBIGUOUS = frozenset(
    (
        "bass",
        "organ",
        "organs",
        "keys",
        "keyboard",
        "pad",
        "pads",
        "horn",
        "horns",
        "vocals",
        "synth",
        "brass",
        "strings",
    )
)
"""Words that a story mostly uses for a fish, a heart, a door, a ship …"""


def _named_instruments(narrative: str) -> list[str]:
    """At most two, in the order of the story, each of another role."""
    words = re.findall(r"[^\W\d_]+", narrative.lower())
    found: dict[Role, str] = {}
    position = 0
    while position < len(words) and len(found) < 2:
        pair = " ".join(words[position : position + 2])
        single = words[position]
        name = find_instrument(pair) or (None if single in _AMBIGUOUS else find_instrument(single))
        if name:
            found.setdefault(INSTRUMENTS[name].role, name)
        position += 1
    return list(found.values())


def _clip(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
