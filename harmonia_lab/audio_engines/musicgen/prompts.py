"""MusicGen's text prompts, made from a song's metadata.

Owns the text. MusicGen was trained on captions followed by fields, such as "bpm: 92. key: A minor" (audiocraft's
`augment_music_info_description`; Copet et al., "Simple and Controllable Music Generation", 2023), so prompts have that
form. They have no lyrics: MusicGen doesn't sing words, and lyrics would outweigh the description of the sound. Imports
nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from harmonia_lab.audio_engines.text_prompts import MAX_PROMPT, caption, checked_prompt
from harmonia_lab.protocol.vocabulary import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harmonia_lab.protocol.models import Instrument, SongMetadata

__all__ = ["ARRANGEMENTS", "MAX_PROMPT", "Arrangement", "check_prompt", "prompt", "section_prompt"]

Arrangement = Literal["full", "stems"]
"""full: one prompt for the whole mix, as MusicGen was trained. stems: one prompt per instrument."""

ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)

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
        sentence = caption(metadata)
    else:
        sentence = f"Solo {instrument.name} {_PLAYS[instrument.role]}, {style}"
        fields.insert(0, f"instrument: {instrument.name}")
    if instrument is None or instrument.role != "drums":
        fields.append(f"key: {metadata.key}")
    return check_prompt(". ".join([sentence, *fields]))


_SECTIONS = {"solo": "instrumental solo", "outro": "ending"}
"""Words for the plan's sections whose names aren't words of captions."""

_SOFT, _FULL = 0.42, 0.7
"""Intensity up to which a section is called soft, and from which on full."""


def section_prompt(
    metadata: SongMetadata,
    section: str,
    intensity: float,
    playing: Sequence[Instrument],
    description: str | None = None,
) -> str:
    """Return the prompt for the whole mix in one section of the song, which has a name of the plan's.

    intensity: 0…1. playing: the instruments in this section. description: the user's own text, before the section.

    >>> section_prompt(metadata, "chorus", 0.85, metadata.instruments)
    'Full chorus of a nostalgic folk song with piano and flute. bpm: 96. key: A minor'
    >>> section_prompt(metadata, "outro", 0.4, metadata.instruments[:1], "warm lo-fi")
    'warm lo-fi, soft ending with piano'
    """
    strength = "soft " if intensity <= _SOFT else "full " if intensity >= _FULL else ""
    words = strength + _SECTIONS.get(section, section)
    said = caption(metadata.model_copy(update={"instruments": list(playing)}))
    own = " ".join(description.split()).rstrip(".") if description else ""
    if own:
        longer = f"{own}, {words} with{said.rpartition(' song with')[2]}"
        return check_prompt(longer if len(longer) <= MAX_PROMPT else own)
    sentence = f"{words[0].upper()}{words[1:]} of {said[0].lower()}{said[1:]}"
    return check_prompt(f"{sentence}. bpm: {metadata.bpm}. key: {metadata.key}")


def check_prompt(text: str) -> str:
    """Return `text` on one line. Raise InvalidRequest if it is too long, or no text as `protocol/text.py` knows it."""
    return checked_prompt(text, "MusicGen")
