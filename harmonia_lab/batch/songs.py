"""The songs that a batch's folder has: whether a song is whole, what its record says, and what killed runs left of it.

Owns reading those folders, and clearing them up. Songs are written by `generation/`.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harmonia_lab import storage
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.artifacts import read_record

_MEASURED = ("bpm", "bpmConfidence", "key", "keyConfidence")
"""Of the record's `measured`."""

__all__ = ["clear_leftovers", "engine_of", "leftovers", "song_of"]


def song_of(folder: Path, out: Path) -> dict[str, Any] | None:
    """Return the figures of the finished song in `folder`; None where there is no whole song.

    A song is whole if it has a record, metadata, and `song.flac` of the recorded size: a person may edit the lyrics or
    delete stems. Digests of all files are `harmonia verify`'s. directory: relative to `out`. seconds: as requested.
    audioOptions: settings of the audio engine for this song alone; None without. totalSeconds: the time it took to
    make; stageSeconds: by stage. loudness: LUFS, None for silence. follows, measured: what of the plan the sound
    follows, its tempo and key; None in a song of a version that didn't record them.
    """
    try:
        record = read_record(folder)
        if (folder / "song.flac").stat().st_size != record["files"]["song.flac"]["bytes"]:
            return None
        metadata = json.loads((folder / "metadata.json").read_bytes())
        timings, measured = record["timings"], record.get("measured")
        return {
            "generationId": record["generationId"],
            "directory": folder.relative_to(out).as_posix(),
            "title": str(metadata["title"]),
            **{name: metadata[name] for name in ("genre", "mood", "bpm", "key")},
            "seed": record["request"]["seed"],
            "seconds": float(record["request"]["seconds"]),
            "audioOptions": record["request"].get("audioOptions"),
            "engines": {stage: _engine(record["engines"][stage]) for stage in ("metadata", "audio")},
            "totalSeconds": timings["total"],
            "stageSeconds": {stage: float(timings[stage]) for stage in ("metadata", "audio") if stage in timings},
            "loudness": record["measurements"]["loudness_lufs"],
            "checksum": record["files"]["song.flac"]["sha256"],
            "follows": record.get("follows"),
            "measured": {name: measured[name] for name in _MEASURED if name in measured} if measured else None,
        }
    except (HarmoniaError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def engine_of(song: Mapping[str, Any], stage: str) -> str:
    """Return the name of the engine that made a stage of the song, without its model's."""
    return str(song["engines"][stage]).partition(" (")[0]


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield the folders in which runs that were killed, or failed, left parts of the song that belongs in `folder`."""
    for prefix in (".", ""):
        yield from folder.parent.glob(f"{prefix}{glob.escape(folder.name)}.partial-*")


def clear_leftovers(folder: Path) -> None:
    """Delete them, once the song itself is whole."""
    for part in list(leftovers(folder)):
        storage.remove_tree(part)


def _engine(record: dict[str, Any]) -> str:
    """Return the engine's name, with its model's if it has one."""
    model = record.get("model")
    return f"{record['engine']} ({model})" if model else str(record["engine"])
