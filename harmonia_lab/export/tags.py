"""What an exported file says about its song, whatever its format.

Owns the values, from the song's record and metadata. How they are written is in `id3.py`, `vorbis.py` and `riff.py`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.audio_stage import LICENCE_NOTE
from harmonia_lab.protocol.models import SongMetadata

__all__ = ["Picture", "SongTags", "read_picture", "song_tags"]

_MOST_PICTURE_BYTES = 8 * 2**20
"""A FLAC block holds 16 MiB, and players load the whole picture."""


@dataclass(frozen=True)
class Picture:
    """A cover. mime: image/png or image/jpeg. width, height: pixels. depth: bits a pixel."""

    data: bytes
    mime: str
    width: int
    height: int
    depth: int


@dataclass(frozen=True)
class SongTags:
    """key: as "A minor". bpm: quarter notes a minute. Of a sound that doesn't follow the plan's notes, both are as
    measured, None if unclear, and there are no lyrics. language: a BCP 47 tag or None. date: ISO 8601.

    software: the version that made the song. origin: name → text, what only this package knows: seed, generation id,
    engines, models, and the SHA-256 of `song.flac`.
    """

    title: str
    genre: str
    mood: str
    bpm: int | None
    key: str | None
    lyrics: str
    language: str | None
    date: str
    software: str
    comment: str
    origin: Mapping[str, str] = field(default_factory=dict)
    artist: str | None = None
    album: str | None = None
    picture: Picture | None = None

    @property
    def short_key(self) -> str:
        """The key as DJ software and ID3's TKEY write it: "Am", "F#"."""
        tonic, _, mode = (self.key or "").partition(" ")
        return f"{tonic}{'m' if mode == 'minor' else ''}"

    def of_stem(self, name: str, what: str) -> SongTags:
        """Return the tags of one stem. what: a sentence on how it was made."""
        return replace(self, title=f"{self.title}: {name}", comment=f"{what} {self.comment}")


def song_tags(record: Mapping[str, Any], metadata: SongMetadata) -> SongTags:
    """Return the tags of a recorded song, without artist, album and picture.

    Raises HarmoniaError (RECORD_DAMAGED) for a record that lacks an id or a seed.
    """
    engines = record["engines"]
    try:
        origin = {
            "HARMONIA_GENERATION_ID": record["generationId"],
            "HARMONIA_SEED": str(record["seeds"]["request"]),
            "HARMONIA_SONG_SHA256": record["files"]["song.flac"]["sha256"],
        }
    except KeyError as error:
        raise HarmoniaError(
            f"The record is damaged: it has no {error.args[0]}.",
            code=ErrorCode.RECORD_DAMAGED,
            hint="`harmonia verify` says what else is missing.",
        ) from error
    for name, stage in (("METADATA", "metadata"), ("AUDIO", "audio")):
        origin[f"HARMONIA_{name}_ENGINE"] = engines[stage]["engine"]
        if model := engines[stage].get("model"):
            origin[f"HARMONIA_{name}_MODEL"] = model
    follows, measured = record.get("follows", ["notes"]), record.get("measured", {})
    played = "notes" in follows
    bpm, key = (metadata.bpm, metadata.key) if played else (measured.get("bpm"), measured.get("key"))
    lyrics = metadata.lyrics.strip() if played or "lyrics" in follows else ""
    return SongTags(
        title=metadata.title,
        genre=metadata.genre,
        mood=", ".join(metadata.mood),
        bpm=round(bpm) if bpm is not None else None,
        key=key,
        lyrics=lyrics,
        language=metadata.sung_language if lyrics else None,
        date=record.get("startedAt", "")[:10],
        software=f"Harmonia Lab {record.get('versions', {}).get('harmonia-lab', '')}".strip(),
        comment=LICENCE_NOTE.partition(" See ")[0],
        origin=origin,
    )


def read_picture(path: Path) -> Picture:
    """Return a PNG or JPEG as a cover. Raises InvalidRequest for another file, or one of more than 8 MiB."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - loads where a picture is read

    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            mime = {"PNG": "image/png", "JPEG": "image/jpeg"}[str(image.format)]
            depth = 8 * len(image.getbands())
            width, height = image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no PNG and no JPEG"
        raise InvalidRequest(f"{path} can't be the cover: {why}.", hint="Name a .png or .jpg file.") from error
    if len(data) > _MOST_PICTURE_BYTES:
        raise InvalidRequest(
            f"{path} has {len(data) / 2**20:.0f} MiB; a cover has 8 at most.", hint="Make the picture smaller."
        )
    return Picture(data, mime, width, height, depth)
