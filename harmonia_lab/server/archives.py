"""A song's whole folder as one tar, made while it is sent: the same bytes at each request, so that a range goes on.

Owns which files are in it (`run.json`, then those that the record names), and their order. `downloads.py` has the HTTP
of it, ranges included.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import file_digest, read_record
from harmonia_lab.generation.record_schema import file_inside

__all__ = ["SongArchive", "find_archive", "song_archive"]

RECORD = "run.json"


@dataclass(frozen=True)
class SongArchive:
    """parts: bytes, or a file and how many of its bytes. sha256: hex, of what decides the archive's bytes; not of these
    themselves. It has the names of `downloads.SongFile`."""

    name: str
    parts: tuple[bytes | tuple[Path, int], ...] = field(repr=False)
    sha256: str
    content_type: str = "application/x-tar"

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(_length, self.parts))

    def open(self) -> BinaryIO:
        return io.BufferedReader(_Parts(self.parts))


def find_archive(state: GenerationState) -> SongArchive:
    """Return the archive of a generation's song. Raise Refused (NOT_FOUND) if there is no song, or a file is gone."""
    if state.song_path is None:
        raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
    return song_archive(state.song_path.parent)


def song_archive(folder: Path) -> SongArchive:
    """Return the archive of the song in a folder. Raise Refused (NOT_FOUND) if a file is gone."""
    files = read_record(folder)["files"]
    parts: list[bytes | tuple[Path, int]] = []
    stamp = hashlib.sha256(file_digest(folder / RECORD).encode())
    for name in (RECORD, *sorted(files)):
        path = file_inside(folder, name)
        if path is None or not path.is_file():
            raise Refused(f"The song is not whole on the server: {name} is missing.", code=ErrorCode.NOT_FOUND)
        size = path.stat().st_size
        stamp.update(f"{name}\0{size}\0{files.get(name, {}).get('sha256')}\n".encode())
        parts += [_header(name, size), (path, size), bytes(-size % tarfile.BLOCKSIZE)]
    parts.append(bytes(2 * tarfile.BLOCKSIZE))  # the end of an archive
    return SongArchive(f"{folder.name}.tar", tuple(parts), stamp.hexdigest())


def _header(name: str, size: int) -> bytes:
    """Return a member's header: of nobody, of no time, so that it is the same each time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def _length(part: bytes | tuple[Path, int]) -> int:
    return len(part) if isinstance(part, bytes) else part[1]


class _Parts(io.RawIOBase):
    """The parts, one after the other, as one file. A file that was truncated meanwhile ends the archive there."""

    def __init__(self, parts: tuple[bytes | tuple[Path, int], ...]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(map(_length, parts))]
        self._at = 0
        self._file: BinaryIO | None = None
        self._number = -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._at >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._at) - 1
        start, end = self._at - self._starts[number], self._starts[number + 1] - self._at
        part = self._parts[number]
        wanted = min(len(view), end)
        data = part[start : start + wanted] if isinstance(part, bytes) else self._read(number, part[0], start, wanted)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()

    def _read(self, number: int, path: Path, start: int, wanted: int) -> bytes:
        if self._file is None or number != self._number:
            if self._file is not None:
                self._file.close()
            self._file, self._number = path.open("rb"), number
        self._file.seek(start)
        return self._file.read(wanted)
