"""The names that requests and metadata may use: keys, instruments with their roles, genres, moods.

Owns names only. What a mood or a genre does to the music is decided in `music/moods.py` and `music/genres.py`.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = [
    "GENRES",
    "INSTRUMENTS",
    "MOODS",
    "PITCH_CLASSES",
    "TONICS",
    "InstrumentInfo",
    "Role",
    "find_instrument",
    "normalise_key",
]

Role = Literal["lead", "chords", "bass", "drums", "pad", "mix"]

TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
"""The twelve tonics by pitch class 0…11, as they are printed."""

PITCH_CLASSES = {
    letter + accidental: (TONICS.index(letter) + semitones) % 12
    for letter in "ABCDEFG"
    for accidental, semitones in (("", 0), ("#", 1), ("b", -1))
}
"""The pitch class of each note name, enharmonic ones (E#, Cb, …) included."""

GENRES = (
    "pop", "rock", "folk", "country", "jazz", "blues", "soul", "electronic", "house", "ambient", "hip hop", "classical",
    "indie", "metal", "bossa nova", "reggae", "waltz", "cinematic",
)  # fmt: skip

MOODS = (
    "joyful", "hopeful", "romantic", "peaceful", "calm", "playful", "triumphant", "energetic", "epic", "dreamy",
    "nostalgic", "bittersweet", "melancholic", "sad", "lonely", "mysterious", "tense", "dark", "angry", "tender",
)  # fmt: skip


class InstrumentInfo(NamedTuple):
    """program: General MIDI program 0…127 (General MIDI 1 sound set); for drums, the kit number.
    role: the part that it plays unless the request says otherwise."""

    program: int
    role: Role


INSTRUMENTS: dict[str, InstrumentInfo] = {
    "piano": InstrumentInfo(0, "chords"),
    "electric piano": InstrumentInfo(4, "chords"),
    "harpsichord": InstrumentInfo(6, "chords"),
    "music box": InstrumentInfo(10, "lead"),
    "vibraphone": InstrumentInfo(11, "lead"),
    "marimba": InstrumentInfo(12, "chords"),
    "organ": InstrumentInfo(16, "pad"),
    "accordion": InstrumentInfo(21, "chords"),
    "harmonica": InstrumentInfo(22, "lead"),
    "acoustic guitar": InstrumentInfo(25, "chords"),
    "nylon guitar": InstrumentInfo(24, "chords"),
    "electric guitar": InstrumentInfo(27, "chords"),
    "distorted guitar": InstrumentInfo(30, "chords"),
    "double bass": InstrumentInfo(32, "bass"),
    "bass guitar": InstrumentInfo(33, "bass"),
    "synth bass": InstrumentInfo(38, "bass"),
    "violin": InstrumentInfo(40, "lead"),
    "cello": InstrumentInfo(42, "lead"),
    "harp": InstrumentInfo(46, "chords"),
    "strings": InstrumentInfo(48, "pad"),
    "choir": InstrumentInfo(52, "pad"),
    "trumpet": InstrumentInfo(56, "lead"),
    "trombone": InstrumentInfo(57, "lead"),
    "french horn": InstrumentInfo(60, "pad"),
    "brass": InstrumentInfo(61, "pad"),
    "saxophone": InstrumentInfo(66, "lead"),
    "oboe": InstrumentInfo(68, "lead"),
    "clarinet": InstrumentInfo(71, "lead"),
    "flute": InstrumentInfo(73, "lead"),
    "pan flute": InstrumentInfo(75, "lead"),
    "synth lead": InstrumentInfo(81, "lead"),
    "synth pad": InstrumentInfo(89, "pad"),
    "banjo": InstrumentInfo(105, "chords"),
    "sitar": InstrumentInfo(104, "lead"),
    "kalimba": InstrumentInfo(108, "lead"),
    "drums": InstrumentInfo(0, "drums"),
    "brush kit": InstrumentInfo(40, "drums"),
    "drum machine": InstrumentInfo(25, "drums"),
}

_ALIASES = {
    "guitar": "acoustic guitar", "bass": "bass guitar", "upright bass": "double bass", "synth": "synth pad",
    "synthesizer": "synth pad",
    "keyboard": "electric piano", "keys": "electric piano", "rhodes": "electric piano", "percussion": "drums",
    "drum kit": "drums",
    "sax": "saxophone", "fiddle": "violin", "string section": "strings", "orchestra": "strings",
    "contrabass": "double bass",
    "horn": "french horn", "horns": "brass", "classical guitar": "nylon guitar", "808": "drum machine",
    "vocals": "choir", "pad": "synth pad",
}  # fmt: skip


def find_instrument(name: str) -> str | None:
    """Return the name in `INSTRUMENTS` that `name` means, in any case, plural or common alias, or None."""
    word = " ".join(name.lower().replace("-", " ").replace("_", " ").split())
    for candidate in (word, word.removesuffix("s")):
        if candidate in INSTRUMENTS:
            return candidate
        if candidate in _ALIASES:
            return _ALIASES[candidate]
    return None


_KEY = re.compile(r"^\s*([A-Ga-g])\s*([#♯b♭]?)\s*-?\s*(major|maj|minor|min|m|M)?\s*$")


def normalise_key(text: str) -> str | None:
    """Return `"A minor"` for `"a min"`, `"C# major"` for `"Db"`, `"F# minor"` for `"F♯m"`; None if `text` is no key."""
    match = _KEY.match(text)
    if not match:
        return None
    letter, accidental, quality = match.groups()
    pitch_class = PITCH_CLASSES.get(letter.upper() + accidental.replace("♯", "#").replace("♭", "b"))
    if pitch_class is None:
        return None
    minor = quality is not None and quality in ("m", "min", "minor")
    return f"{TONICS[pitch_class]} {'minor' if minor else 'major'}"
