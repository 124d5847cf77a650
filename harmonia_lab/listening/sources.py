"""The songs that a listening test compares: of a study, of a batch, or of folders, with what each of them is.

Owns what a song's condition and its block are. A condition is what is compared, such as a configuration of a study; a
block is what compared songs have in common: story, seed and length. The folders' own formats are `study/`'s, `batch/`'s
and `generation/`'s; only a study's `study.json` and `rows.jsonl`, which are published formats, are read here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.verify import song_folders
from harmonia_lab.storage import absolute
from harmonia_lab.store.run_log import RunLog

__all__ = ["ComparedSong", "Songs", "blocks_of", "candidates_in"]

Songs = Path | str | Mapping[str, Path | str | Sequence[Path | str]]
"""A study's or a batch's folder, a folder of songs, or the songs (folders, or folders of songs) of each condition."""

MAX_NAME = 60
"""Characters of a condition's name."""

_NO_DIFFERENCE = ("bytes", "sha256", "licence", "renderer", "versions", "weights", "provenance")
"""Values of an engine's record that name nothing that a person would call a condition."""


@dataclass(frozen=True)
class ComparedSong:
    """A song that may be heard. condition: what it is compared as. block: what it has in common with others."""

    condition: str
    block: str
    folder: Path

    @property
    def sound(self) -> Path:
        return self.folder / "song.flac"


def candidates_in(source: Songs, by: str | None = None) -> list[ComparedSong]:
    """Return the songs of a source. by: the field of the request that is the condition, such as seed or bpm, where the
    songs don't differ in engines or settings; a study's conditions are its configurations.

    Raises InvalidRequest if there are no conditions, HarmoniaError (NOT_FOUND, RECORD_DAMAGED) for what is no song.
    """
    if isinstance(source, Mapping):
        found = [
            (_name(name), folder)
            for name, given in source.items()
            for path in ([given] if isinstance(given, Path | str) else given)
            for folder in song_folders(absolute(path))
        ]
        records = [(name, folder, read_record(folder)) for name, folder in found]
        blocks = _block_names([record for *_, record in records], by=None)
        return [ComparedSong(n, block, folder) for (n, folder, _), block in zip(records, blocks, strict=True)]
    path = absolute(source)
    if (path / "study.json").exists():
        return _of_study(path)
    return _of_songs(path, by)


def blocks_of(candidates: Sequence[ComparedSong]) -> dict[str, dict[str, ComparedSong]]:
    """Return block → condition → song, in the order found, of the blocks in which several conditions have a song.

    Of two songs of one condition in a block, the first counts.
    """
    blocks: dict[str, dict[str, ComparedSong]] = {}
    for each in candidates:
        blocks.setdefault(each.block, {}).setdefault(each.condition, each)
    return {name: songs for name, songs in blocks.items() if len(songs) > 1}


def _of_study(path: Path) -> list[ComparedSong]:
    try:
        study = json.loads((path / "study.json").read_bytes())
        order = list(study["design"]["configurations"])
        told = {b["number"]: f"story {b['story']}, seed {b['seed']}, {b['seconds']:g} s" for b in study["blocks"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarmoniaError(
            f"{path / 'study.json'} can't be read ({type(error).__name__}: {error}).",
            code=ErrorCode.NOT_FOUND,
            hint="Name the folder that `harmonia study` wrote.",
        ) from error
    found: dict[tuple[int, str], ComparedSong] = {}
    for row in RunLog(path / "rows.jsonl").rows():
        block, name, folder = row.get("block"), row.get("configuration"), row.get("directory")
        if not isinstance(block, int) or not isinstance(name, str):
            continue
        if row.get("status") == "completed" and block in told and name in order and folder:
            songs = path / str(folder)
            if (songs / "song.flac").exists():
                found[block, name] = ComparedSong(name, told[block], songs)
    if not found:
        raise InvalidRequest(
            f"{path} is a study that has kept no songs.", hint="Make it with keep_songs = true, or name songs."
        )
    return [found[key] for key in sorted(found, key=lambda key: (key[0], order.index(key[1])))]


def _of_songs(path: Path, by: str | None) -> list[ComparedSong]:
    folders = song_folders(path)
    if not folders or not (folders[0] / "run.json").exists():
        raise InvalidRequest(
            f"{path} holds no songs.", hint="Name a folder that `harmonia study`, `batch` or `song` wrote."
        )
    records = [read_record(folder) for folder in folders]
    conditions = _conditions(records, by)
    blocks = _block_names(records, by)
    return [ComparedSong(c, b, f) for c, b, f in zip(conditions, blocks, folders, strict=True)]


def _conditions(records: Sequence[Mapping[str, Any]], by: str | None) -> list[str]:
    """Return each song's condition: what differs among the songs of engines, models and settings, or the field `by`."""
    if by is not None:
        if not any(by in record["request"] for record in records):
            raise InvalidRequest(f"No request of these songs has a field {by!r}.", hint="Such as seed, bpm or model.")
        return [_name(f"{by} {record['request'].get(by)}") for record in records]
    facts = [dict(_facts(record)) for record in records]
    names = list(dict.fromkeys(name for each in facts for name in each))
    differing = [name for name in names if len({each.get(name) for each in facts}) > 1]
    if not differing:
        raise InvalidRequest(
            "These songs have the same engines and settings, so there is nothing to compare.",
            hint='Name the field of their requests that is compared (--by seed, by="seed"), or several folders: '
            "harmonia listen NAME=DIR NAME=DIR.",
        )
    # A model or a setting may be called as it is; a number needs its name.
    shown = (", ".join(_said(name, each[name]) for name in differing if each.get(name) is not None) for each in facts)
    return [_name(text or "default") for text in shown]


def _said(name: str, value: object) -> str:
    return str(value) if name in ("engine", "model", "words") else f"{name} {value}"


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield name and value of what an audible difference may come from."""
    audio, words = record["engines"]["audio"], record["engines"]["metadata"]
    for name, value in audio.items():
        if isinstance(value, str | int | float | bool) and name not in _NO_DIFFERENCE:
            yield name, value
    for name, value in (record["request"].get("audioOptions") or {}).items():
        yield name, value if isinstance(value, str | int | float | bool) else json.dumps(value)
    yield "words", " ".join(filter(None, [words["engine"], words.get("model")]))


def _block_names(records: Sequence[Mapping[str, Any]], by: str | None) -> list[str]:
    """Return "story 1, seed 7, 20 s" for each song; the field that is compared isn't part of it."""
    stories: dict[str, int] = {}
    names = []
    for record in records:
        request = record["request"]
        story = str(request.get("narrative") or record["files"].get("metadata.json", {}).get("sha256", ""))
        parts = [f"story {stories.setdefault(story, len(stories) + 1)}"]
        parts += [] if by == "seed" else [f"seed {request.get('seed')}"]
        parts += [] if by == "seconds" else [f"{float(request.get('seconds') or 0):g} s"]
        names.append(", ".join(parts))
    return names


def _name(text: str) -> str:
    """Return a condition's name on one line, not too long for a table."""
    line = " ".join(str(text).split())
    if not line:
        raise InvalidRequest("A condition has no name.", hint="Name each: harmonia listen NAME=DIR NAME=DIR.")
    return line if len(line) <= MAX_NAME else f"{line[: MAX_NAME - 1]}…"
