"""A song's files, sent: whole or by range, with their SHA-256 as ETag.

Owns the names that can be asked for (those in the song's own record, no other) and the HTTP of files. Who may ask is
`http.py`'s.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import hdrs, web

from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import read_record

__all__ = ["SongFile", "SongFiles", "send_file"]

CHUNK = 256 * 1024
KEPT_RECORDS = 100

TYPES = {".flac": "audio/flac", ".mid": "audio/midi", ".png": "image/png"}
"""What is served; a record names more."""


@dataclass(frozen=True)
class SongFile:
    """sha256: hex."""

    path: Path
    size: int
    sha256: str

    @property
    def content_type(self) -> str:
        return TYPES[self.path.suffix]


class SongFiles:
    """Finds files by the names in a song's record. Its methods read the disk."""

    def __init__(self) -> None:
        self._records: OrderedDict[Path, dict[str, SongFile]] = OrderedDict()

    def stems(self, standing: GenerationState) -> list[str]:
        """Their file names. Raises Refused (NOT_FOUND) while there is no song."""
        return [name.removeprefix("stems/") for name in self._of(standing) if name.startswith("stems/")]

    def find(self, standing: GenerationState, name: str) -> SongFile:
        """name: as in the record, `song.flac` or `stems/1-piano.flac`. Raises Refused (NOT_FOUND)."""
        file = self._of(standing).get(name)
        if file is None or not file.path.is_file():
            raise Refused("There is no such file.", code=ErrorCode.NOT_FOUND)
        return file

    def _of(self, standing: GenerationState) -> dict[str, SongFile]:
        if standing.song_path is None:
            raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
        folder = standing.song_path.parent
        if folder not in self._records:
            files = read_record(folder)["files"]
            self._records[folder] = {
                name: SongFile(folder / name, int(file["bytes"]), str(file["sha256"]))
                for name, file in files.items()
                if Path(name).suffix in TYPES
            }
            while len(self._records) > KEPT_RECORDS:
                self._records.popitem(last=False)
        return self._records[folder]


async def send_file(request: web.Request, file: SongFile) -> web.StreamResponse:
    """200, 206, 304 or 416 (RFC 9110, 13 and 14). One range; a request for several gets the whole."""
    etag = f'"{file.sha256}"'
    headers = {
        hdrs.ETAG: etag,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CACHE_CONTROL: "private, max-age=0, must-revalidate",
        hdrs.CONTENT_DISPOSITION: f'inline; filename="{_saved_as(file.path)}"',
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(request.headers.get(hdrs.IF_NONE_MATCH), etag):
        return web.Response(status=304, headers=headers)
    start, stop, status = 0, file.size, 200
    if hdrs.RANGE in request.headers and request.headers.get(hdrs.IF_RANGE, etag) == etag:
        found = _range(request, file.size)
        if found == "unsatisfiable":
            return web.Response(status=416, headers=headers | {hdrs.CONTENT_RANGE: f"bytes */{file.size}"})
        if isinstance(found, tuple):
            start, stop, status = *found, 206
            headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{file.size}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = file.content_type
    response.content_length = stop - start
    opened = await asyncio.to_thread(file.path.open, "rb")
    try:
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _copy(opened, response, start, stop)
        await response.write_eof()
    finally:
        opened.close()
    return response


def _saved_as(path: Path) -> str:
    """The name that a browser gives its copy: plain, whatever the owner calls his folders."""
    name = path.name if path.parent.name == "stems" else f"{path.parent.name}-{path.name}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


async def _copy(source: BinaryIO, response: web.StreamResponse, start: int, stop: int) -> None:
    source.seek(start)
    while start < stop:
        chunk = await asyncio.to_thread(source.read, min(CHUNK, stop - start))
        if not chunk:
            return  # the file was cut meanwhile; the client sees that by the length
        start += len(chunk)
        await response.write(chunk)


def _matches(header: str | None, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or tags == ["*"]


def _range(request: web.Request, size: int) -> tuple[int, int] | str | None:
    """(start, stop); "unsatisfiable"; or None where the header is none that we serve, and is to be ignored."""
    try:
        asked = request.http_range
    except ValueError:
        return None
    start, stop = asked.start, asked.stop
    if start is None and stop is None:
        return None
    if start is not None and start < 0:  # the last so many bytes
        return (max(0, size + start), size) if size else "unsatisfiable"
    start = start or 0
    stop = size if stop is None else min(stop, size)
    return (start, stop) if start < stop else "unsatisfiable"
