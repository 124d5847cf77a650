"""What MusicGen is told: text prompts from a song's metadata.

Owns the wording. MusicGen was trained on a caption with fields after it, such as "bpm: 92. key: A minor" (audiocraft's
`augment_music_info_description`; Copet et al., "Simple and Controllable Music Generation", 2023), so prompts have that
form. Lyrics are left out: it does not sing words, and they would push out what matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.models import Instrument, SongMetadata
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["ARRANGEMENTS", "MAX_PROMPT", "Arrangement", "check_prompt", "prompt"]

Arrangement = Literal["full", "stems"]
"""full: one prompt for the whole mix, which is what MusicGen was trained on. stems: one prompt per instrument."""

ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)

MAX_PROMPT = 1000
"""Characters. The captions of its training have a few dozen words; more text only waters them down."""

_PLAYS: dict[Role, str] = {
    "lead": "playing the melody",
    "chords": "playing the chords",
    "bass": "playing the bass line",
    "pad": "holding long soft chords",
    "drums": "playing a steady beat",
    "mix": "playing alone",
}


def prompt(metadata: SongMetadata, instrument: Instrument | None = None, wording: str | None = None) -> str:
    """The prompt for the whole mix (`instrument` None), or for one instrument alone.

    It says moods, genre and instruments in a sentence, then the fields `bpm` and `key` (drums have no key). wording: a
    description of your own in place of the moods and the genre; for the whole mix it is taken as it stands.

    >>> prompt(metadata)
    'A nostalgic folk song with piano and flute. bpm: 96. key: A minor'
    >>> prompt(metadata, metadata.instruments[1])
    'Solo flute playing the melody, nostalgic folk. instrument: flute. bpm: 96. key: A minor'

    Raises InvalidRequest where it would be longer than `MAX_PROMPT` characters.
    """
    own = " ".join(wording.split()).rstrip(".") if wording else ""
    style = own or f"{', '.join(metadata.mood)} {metadata.genre}"
    fields = [f"bpm: {metadata.bpm}"]
    if instrument is None:
        if own:
            return check_prompt(own)
        article = "An" if style[0].lower() in "aeiou" else "A"
        sentence = f"{article} {style} song with {_listed([i.name for i in metadata.instruments])}"
    else:
        sentence = f"Solo {instrument.name} {_PLAYS[instrument.role]}, {style}"
        fields.insert(0, f"instrument: {instrument.name}")
    if instrument is None or instrument.role != "drums":
        fields.append(f"key: {metadata.key}")
    return check_prompt(". ".join([sentence, *fields]))


def check_prompt(text: str) -> str:
    """`text`, on one line. Raises InvalidRequest for one that is too long or holds what is no text."""
    if len(text) > MAX_PROMPT:
        raise InvalidRequest(
            f"The prompt for MusicGen has {len(text):,} characters; at most {MAX_PROMPT:,} are read.",
            hint="Describe the sound in a sentence or two: genre, mood, instruments.",
            details={"fields": ["prompt"]},
        )
    words = " ".join(text.split())
    if not words.isprintable():
        raise InvalidRequest(
            "The prompt for MusicGen holds control characters: it is no text.", details={"fields": ["prompt"]}
        )
    return words


def _listed(names: Sequence[str]) -> str:
    """As in: piano; piano and flute; piano, flute and drums."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
