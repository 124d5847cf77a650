"""MusicGen's text prompts, made from a song's metadata.

Owns the text. MusicGen was trained on captions followed by fields, such as "bpm: 92. key: A minor" (audiocraft's
`augment_music_info_description`; Copet et al., "Simple and Controllable Music Generation", 2023), so prompts have that
form. They have no lyrics: MusicGen doesn't sing words, and lyrics would outweigh the description of the sound. Imports
nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.vocabulary import Role

if TYPE_CHECKING:
    from harmonia_lab.protocol.models import Instrument, SongMetadata

__all__ = ["ARRANGEMENTS", "MAX_PROMPT", "Arrangement", "check_prompt", "prompt"]

Arrangement = Literal["full", "stems"]
"""full: one prompt for the whole mix, as MusicGen was trained. stems: one prompt per instrument."""

ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)

MAX_PROMPT = 1000
"""Characters. The captions in MusicGen's training data have a few dozen words; more text dilutes the prompt."""

_PLAYS: dict[Role, str] = {
    "lead": "playing the melody",
    "chords": "playing the chords",
    "bass": "playing the bass line",
    "pad": "holding long soft chords",
    "drums": "playing a steady beat",
    "mix": "playing alone",
}


def prompt(metadata: SongMetadata, instrument: Instrument | None = None, description: str | None = None) -> str:
    """Return the prompt for the whole mix (`instrument` None), or for one instrument alone.

    A sentence with moods, genre and instruments, then the fields `bpm` and `key` (drums have no key). description: the
    user's own text in place of the moods and the genre; for the whole mix, it is the whole prompt.

    >>> prompt(metadata)
    'A nostalgic folk song with piano and flute. bpm: 96. key: A minor'
    >>> prompt(metadata, metadata.instruments[1])
    'Solo flute playing the melody, nostalgic folk. instrument: flute. bpm: 96. key: A minor'

    Raise InvalidRequest if the prompt is longer than `MAX_PROMPT` characters.
    """
    own = " ".join(description.split()).rstrip(".") if description else ""
    style = own or f"{', '.join(metadata.mood)} {metadata.genre}"
    fields = [f"bpm: {metadata.bpm}"]
    if instrument is None:
        if own:
            return check_prompt(own)
        article = "An" if style[0].lower() in "aeiou" else "A"
        *others, last = (each.name for each in metadata.instruments)
        names = f"{', '.join(others)} and {last}" if others else last
        sentence = f"{article} {style} song with {names}"
    else:
        sentence = f"Solo {instrument.name} {_PLAYS[instrument.role]}, {style}"
        fields.insert(0, f"instrument: {instrument.name}")
    if instrument is None or instrument.role != "drums":
        fields.append(f"key: {metadata.key}")
    return check_prompt(". ".join([sentence, *fields]))


def check_prompt(text: str) -> str:
    """Return `text` on one line. Raise InvalidRequest if it is too long or holds control characters."""
    if len(text) > MAX_PROMPT:
        raise InvalidRequest(
            f"The prompt for MusicGen has {len(text):,} characters; at most {MAX_PROMPT:,} are allowed.",
            hint="Describe the sound in a sentence or two: genre, mood, instruments.",
            details={"fields": ["prompt"]},
        )
    words = " ".join(text.split())
    if not words.isprintable():
        raise InvalidRequest(
            "The prompt for MusicGen holds control characters.",
            hint="Write plain text.",
            details={"fields": ["prompt"]},
        )
    return words
