"""A song's files, sent whole or by range, with their SHA-256 as ETag.

Owns which names can be requested (only those in the song's own record), and the HTTP of files. `http.py` checks that
the user may have them, and `archives.py` makes the whole folder one file.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import hdrs, web

from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.record_schema import file_inside
from harmonia_lab.server.archives import SongArchive

__all__ = ["SongFile", "find_file", "send_file", "stem_names"]

CHUNK = 256 * 1024
"""Bytes that are read and sent at once."""

WRITE_S = 60.0
"""Seconds in which a client must take a chunk."""

CONTENT_TYPES = {".flac": "audio/flac", ".mid": "audio/midi", ".png": "image/png"}
"""The files that are served, by suffix. A record names others too."""


@dataclass(frozen=True)
class SongFile:
    """size: bytes. sha256: hex."""

    path: Path
    size: int
    sha256: str

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self.path.suffix]

    @property
    def name(self) -> str:
        """The name of a copy of it."""
        return self.path.name if self.path.parent.name == "stems" else f"{self.path.parent.name}-{self.path.name}"

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def stem_names(state: GenerationState) -> list[str]:
    """Return the stems' file names, from the song's record. Raise Refused (NOT_FOUND) if there is no song yet."""
    return [name.removeprefix("stems/") for name in _files_of(state) if name.startswith("stems/")]


def find_file(state: GenerationState, name: str) -> SongFile:
    """name: as in the record, `song.flac` or `stems/1-piano.flac`. Raise Refused (NOT_FOUND) for any other."""
    files = _files_of(state)
    file = files.get(name)
    if file is None or not file.path.is_file():
        why = (
            " The sound follows no notes: those that were planned are not sent." if files.keys() & {"plan.mid"} else ""
        )
        raise Refused(f"There is no such file.{why if name == 'song.mid' else ''}", code=ErrorCode.NOT_FOUND)
    return file


def _files_of(state: GenerationState) -> dict[str, SongFile]:
    if state.song_path is None:
        raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
    folder = state.song_path.parent
    return {
        name: SongFile(folder / name, int(file["bytes"]), str(file["sha256"]))
        for name, file in read_record(folder)["files"].items()
        if Path(name).suffix in CONTENT_TYPES and file_inside(folder, name)
    }


async def send_file(request: web.Request, file: SongFile | SongArchive) -> web.StreamResponse:
    """Answer with 200, 206, 304 or 416 (RFC 9110, 13 and 14). Only one range is served; a request for several gets the
    whole file."""
    etag = f'"{file.sha256}"'
    headers = {
        hdrs.ETAG: etag,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CACHE_CONTROL: "private, max-age=0, must-revalidate",
        hdrs.CONTENT_DISPOSITION: f'inline; filename="{_download_name(file.name)}"',
        "X-Content-Type-Options": "nosniff",
    }
    if any(known.value in (file.sha256, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    part, status = range(file.size), 200
    if hdrs.RANGE in request.headers and request.headers.get(hdrs.IF_RANGE, etag) == etag:
        if re.fullmatch(r"bytes=-0+", request.headers[hdrs.RANGE]):  # no bytes; a slice would take it for all
            part, status = range(0), 206
        with contextlib.suppress(ValueError):  # a range that is not supported is ignored
            part, status = part[request.http_range], 206
        if not part and status == 206:
            return web.Response(status=416, headers=headers | {hdrs.CONTENT_RANGE: f"bytes */{file.size}"})
        if status == 206:
            headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.stop - 1}/{file.size}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = file.content_type
    response.content_length = len(part)
    with await asyncio.to_thread(file.open) as opened:
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _copy(opened, response, part)
        await response.write_eof()
    return response


def _download_name(name: str) -> str:
    """Return the name that a browser gives its copy, in characters that are safe in a header."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


async def _copy(source: BinaryIO, response: web.StreamResponse, part: range) -> None:
    source.seek(part.start)
    for start in part[::CHUNK]:
        # A file that was truncated meanwhile gives less than asked; the client notices by the length.
        chunk = await asyncio.to_thread(source.read, min(CHUNK, part.stop - start))
        try:
            async with asyncio.timeout(WRITE_S):
                await response.write(chunk)
        except TimeoutError:  # the file and the connection are wanted elsewhere
            raise ConnectionResetError("the client reads nothing") from None
