"""Many songs as a data set: a folder in the layout that Hugging Face `datasets` calls AudioFolder.

    dataset/
        README.md
        data/<song>.flac        as in the song's folder, byte for byte
        data/metadata.jsonl     a line for each song, `file_name` first

`load_dataset("audiofolder", data_dir="dataset")` reads it, and so does the Hub. Owns the columns.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.export.source import SourceSong
from harmonia_lab.storage import storage_errors, write_bytes

__all__ = ["Dataset", "export_audiofolder"]

_CARD = """---
task_categories: [text-to-audio]
tags: [music, synthetic, harmonia-lab]
configs:
- config_name: default
  data_dir: data
---

# Songs made by machine

{count} songs, made with Harmonia Lab. `load_dataset("audiofolder", data_dir=…)` reads the folder. Models, sound banks
and their licences are named in each song's record, of which `record_sha256` is the digest. A value that is not known is
null.

`lyrics`, `bpm`, `key` and `instruments` are what was asked for. `follows` says what of it the sound follows: with
`notes`, all of it; without, tempo and key may differ, and no words are sung unless it has `lyrics`. `measured_bpm` and
`measured_key` are measured in the sound.

| audio engine and model | metadata engine and model | songs |
|---|---|---|
{engines}
"""


class Dataset(list[dict[str, Any]]):
    """The rows of `metadata.jsonl`. notes: sentences on songs that were left out."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []


def export_audiofolder(folders: Sequence[Path], out: Path) -> Dataset:
    """Write the songs in `folders` as a data set in `out`, a new or empty folder.

    Songs that aren't as recorded are left out, since their rows would lie. Raises InvalidRequest if `out` isn't empty
    or no song is left, HarmoniaError for a folder without a song, StorageError.
    """
    with storage_errors(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InvalidRequest(f"{out} is not empty.", hint="Name a new or an empty folder with --out.")
    dataset, songs = Dataset(), []
    for folder in folders:
        song = SourceSong.read(folder)
        if song.altered:
            dataset.notes.append(f"{folder} was left out: {', '.join(song.altered)} is not as recorded.")
            continue
        songs.append(song)
    if not songs:
        raise InvalidRequest("No song is left to export.", hint=" ".join(dataset.notes))
    with storage_errors(out / "data"):
        (out / "data").mkdir(parents=True)
    for song, name in zip(songs, _names(songs), strict=True):
        with storage_errors(out / "data" / name):
            shutil.copyfile(song.file("song.flac"), out / "data" / name)
        dataset.append({"file_name": name, **_columns(song)})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in dataset)
    write_bytes(out / "data" / "metadata.jsonl", lines.encode())
    write_bytes(out / "README.md", _card(dataset).encode())
    return dataset


def _names(songs: Sequence[SourceSong]) -> list[str]:
    """Return a file name for each song: its folder's, with the generation's id where two folders have one name."""
    plain = [song.name for song in songs]
    return [
        f"{name}.flac" if plain.count(name) == 1 else f"{name}-{song.record['generationId']}.flac"
        for name, song in zip(plain, songs, strict=True)
    ]


def _columns(song: SourceSong) -> dict[str, Any]:
    """Return the same columns for every song, so that a reader finds one type in each."""
    record, metadata = song.record, song.metadata
    engines, request, measured = record["engines"], record["request"], record.get("measurements", {})
    heard = record.get("measured", {})
    return {
        "title": metadata.title,
        "narrative": request.get("narrative", ""),
        "lyrics": metadata.lyrics,
        "language": metadata.language,
        "genre": metadata.genre,
        "mood": metadata.mood,
        "bpm": metadata.bpm,
        "key": metadata.key,
        "instruments": [instrument.name for instrument in metadata.instruments],
        "seconds": request.get("seconds"),
        "seed": record.get("seeds", {}).get("request"),
        "generation_id": record.get("generationId"),
        "metadata_engine": engines["metadata"]["engine"],
        "metadata_model": engines["metadata"].get("model"),
        "audio_engine": engines["audio"]["engine"],
        "audio_model": engines["audio"].get("model"),
        "follows": record.get("follows"),
        "measured_bpm": heard.get("bpm"),
        "measured_key": heard.get("key"),
        "loudness_lufs": measured.get("loudness_lufs"),
        "true_peak_dbtp": measured.get("true_peak_dbtp"),
        "started_at": record.get("startedAt"),
        "harmonia_lab": record.get("versions", {}).get("harmonia-lab"),
        "song_sha256": record["files"]["song.flac"]["sha256"],
        "record_sha256": record.get("recordSha256"),
    }


def _card(dataset: Dataset) -> str:
    counts: dict[str, int] = {}
    for row in dataset:
        sides = [f"{row[f'{stage}_engine']} {row[f'{stage}_model'] or ''}".strip() for stage in ("audio", "metadata")]
        line = " | ".join(side.replace("|", "/") for side in sides)
        counts[line] = counts.get(line, 0) + 1
    engines = "\n".join(f"| {line} | {count} |" for line, count in sorted(counts.items()))
    return _CARD.format(count=len(dataset), engines=engines)
