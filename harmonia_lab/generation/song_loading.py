"""A finished song as its folder tells it: for whoever did not make it himself.

Owns the way from the record back to a `Song`. The record's format is `artifacts.py`'s.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.protocol.models import Song, SongMetadata, StemFile

__all__ = ["read_song"]


def read_song(folder: Path, *, duration: float) -> Song:
    """The song in `folder`, as who made it got it. duration: seconds of audio.

    Raises HarmoniaError (NOT_FOUND) where the folder holds none, or one that an earlier version made.
    """
    record = read_record(folder)
    try:
        audio = record["files"]["song.flac"]
        return Song(
            generation_id=record["generationId"],
            song_id=record["songId"],
            metadata=SongMetadata.model_validate_json((folder / "metadata.json").read_bytes()),
            directory=str(folder),
            audio_path=str(folder / "song.flac"),
            duration=duration,
            file_size=audio["bytes"],
            checksum=audio["sha256"],
            stems=[
                StemFile(
                    name=stem["name"],
                    role=stem["role"],
                    path=str(folder / stem["file"]),
                    sample_rate=stem["sampleRate"],
                )
                for stem in record["stems"]
            ],
            engines={stage: engine["engine"] for stage, engine in record["engines"].items()},
            timings=record["timings"],
            seed=record["seeds"]["request"],
        )
    except (OSError, KeyError, TypeError, ValidationError) as error:
        raise HarmoniaError(
            f"{folder} does not hold a whole song: {type(error).__name__}: {error}.",
            code=ErrorCode.NOT_FOUND,
            hint="`harmonia verify` says what is missing.",
            details={"path": str(folder)},
        ) from error
