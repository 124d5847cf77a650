"""One song as files for other programs.

Owns which files are made, their names, and when a song is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.export.credentials import Signer, signed
from harmonia_lab.export.encoding import AudioFormat, encoded, encoded_file
from harmonia_lab.export.source import SourceSong
from harmonia_lab.export.stems import MixedStem, stems_as_mixed
from harmonia_lab.export.tags import SongTags
from harmonia_lab.storage import replace_bytes, storage_errors

__all__ = ["ExportOptions", "Exported", "StemKind", "export_song"]

StemKind = Literal["mixed", "rendered"]

_AS_RENDERED = "A stem as the engine rendered it, without level, place and reverb."


@dataclass(frozen=True)
class ExportOptions:
    """stems: which kinds. cover: a picture's file; None for the song's own, "" for none. signer: for content
    credentials. overwrite: whether files that are there are replaced."""

    formats: Sequence[AudioFormat] = ("mp3",)
    stems: Sequence[StemKind] = ()
    midi: bool = False
    cover: str | None = None
    artist: str | None = None
    album: str | None = None
    signer: Signer | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """files: what was written. notes: sentences on what the files lack."""

    folder: Path
    files: list[Path]
    notes: list[str]


def export_song(folder: Path, out: Path, options: ExportOptions, cancel: CancelToken | None = None) -> Exported:
    """Write the song in `folder` to `out`, which is made if it isn't there.

    Raises HarmoniaError: NOT_FOUND, RECORD_DAMAGED, AUDIO_ERROR, STORAGE_*; InvalidRequest if a file is there already,
    or for a signature under a song that isn't as recorded; Cancelled.
    """
    song = SourceSong.read(folder)
    if options.signer is not None and song.altered:
        raise InvalidRequest(
            f"{folder} is not as recorded ({', '.join(song.altered)}), and so isn't signed.",
            hint="`harmonia verify` says what was changed.",
        )
    notes = [f"{name} is not as it was recorded; the export has it as it is now." for name in song.altered]
    if song.metadata.lyrics.strip() and not song.tags("").lyrics:
        notes.append("The lyrics are not in the tags, since nobody sings them.")
    files = []
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for name, data in _contents(song, options, notes, cancel or CancelToken()):
        path = out / name
        _write(path, data, overwrite=options.overwrite)
        files.append(path)
    return Exported(folder, files, notes)


def _contents(
    song: SourceSong, options: ExportOptions, notes: list[str], cancel: CancelToken
) -> Iterator[tuple[str, bytes]]:
    """Yield each file's name and content; they are made one at a time."""
    tags = replace(song.tags(options.cover), artist=options.artist, album=options.album)
    for audio_format in options.formats:
        data = encoded_file(song.file("song.flac"), audio_format, tags)
        if options.signer is not None:
            data = signed(data, audio_format, options.signer, song.record, song.metadata)
        yield f"{song.name}.{audio_format}", data
    if options.midi:
        yield _midi(song, notes)
    stem_tags = replace(tags, picture=None, lyrics="")
    if "rendered" in options.stems:
        for stem in song.record.get("stems", []):
            for audio_format in options.formats:
                data = encoded_file(
                    song.file(stem["file"]), audio_format, stem_tags.of_stem(stem["name"], _AS_RENDERED)
                )
                yield f"{song.name}-stems-rendered/{Path(stem['file']).stem}.{audio_format}", data
    if "mixed" in options.stems:
        for mixed in stems_as_mixed(song, notes, cancel):
            for audio_format in options.formats:
                yield _mixed(song, mixed, audio_format, stem_tags, cancel)


def _midi(song: SourceSong, notes: list[str]) -> tuple[str, bytes]:
    """Return the MIDI file: of the sound's notes, or of those that were planned, with a note that they aren't heard."""
    if "plan.mid" not in song.record["files"]:
        return f"{song.name}.mid", song.file("song.mid").read_bytes()
    notes.append("The MIDI file has the notes that were planned: the sound doesn't follow them.")
    return f"{song.name}-plan.mid", song.file("plan.mid").read_bytes()


def _mixed(
    song: SourceSong, stem: MixedStem, audio_format: AudioFormat, tags: SongTags, cancel: CancelToken
) -> tuple[str, bytes]:
    data = encoded(stem.audio, stem.sample_rate, audio_format, tags.of_stem(stem.name, stem.what), cancel)
    return f"{song.name}-stems-mixed/{stem.file_stem}.{audio_format}", data


def _write(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file whole or not at all. Raises InvalidRequest if it is there and isn't to be replaced, StorageError."""
    with storage_errors(path):
        if path.exists() and not overwrite:
            raise InvalidRequest(
                f"{path} is there already.", hint="Name another folder with --out, or replace it by --overwrite."
            )
        path.parent.mkdir(exist_ok=True)
    replace_bytes(path, data)
