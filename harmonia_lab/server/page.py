"""The page at `/`: its files, the headers that keep it from doing anything else, its link, and what its player shows.

Owns these. The page is a client like any other (its source is the folder `page/`, and `make page` builds it): anybody
may load it, and it shows nothing without a token, which the link has in its fragment, so that no server, log or
`Referer` sees it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from harmonia_lab.server.http_rules import encoded

__all__ = ["LINK_TTL_S", "PageRoutes", "page_link", "player_answer"]

FILES = Path(__file__).with_name("page_files")

LINK_TTL_S = 12 * 3600.0
"""Seconds that the token of a printed link works: a day at a desk."""

KINDS = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy. `'self'` of connect-src has the websocket of the same host in it (CSP 3, 6.7.2.8). The page
sets no markup, so no policy of trusted types may be made."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


class PageFile(NamedTuple):
    plain: bytes
    gzipped: bytes
    etag: str


def page_link(url: str, token: str) -> str:
    """Return the page's address with a token in the fragment, from which the page takes it."""
    return f"{url.rstrip('/')}/#token={token}"


def player_answer(folder: Path) -> bytes:
    """Return the answer with what a player shows of a song beside its sound, without paths of ours. Takes a tenth of a
    second for a minute of sound, whose waveform is read.

    Raise HarmoniaError if the folder's record is missing or damaged.
    """
    from harmonia_lab.player.song import song_in_folder  # noqa: PLC0415 - numpy loads with the first player

    song = song_in_folder(folder)
    about = [row for row in song["about"] if row[0] != "Folder"]
    return encoded({"ok": True, "song": song | {"about": about}})


class PageRoutes:
    """`routes()` are those of the page."""

    def __init__(self, socket_path: str, *, compress: bool, count_call: Callable[[web.Request], None]) -> None:
        """socket_path: Socket.IO's, which the page is told. count_call: raises Refused for one call too many."""
        self._socket_path, self._compress, self._count_call = socket_path, compress, count_call

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", functools.partial(self._send, "index.html")),
            *(web.get(f"/{name}", functools.partial(self._send, name)) for name in KINDS if name != "index.html"),
        ]

    async def _send(self, name: str, request: web.Request) -> web.Response:
        self._count_call(request)
        file = _read(name, self._socket_path if name == "index.html" else "")
        headers = HEADERS | {"ETag": f'"{file.etag}"'}
        if any(known.value in (file.etag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        gzipped = self._compress and "gzip" in request.headers.get("Accept-Encoding", "")
        headers |= {"Content-Encoding": "gzip"} if gzipped else {}
        body = file.gzipped if gzipped else file.plain
        return web.Response(body=body, content_type=KINDS[name], charset="utf-8", headers=headers)


@functools.cache
def _read(name: str, socket_path: str) -> PageFile:
    """Read a file once for all servers of the process. socket_path: takes the place of the one in the file."""
    text = (FILES / name).read_text(encoding="utf-8")
    if socket_path:
        text = text.replace('content="socket.io"', f'content="{escape(socket_path.strip("/"))}"')
    plain = text.encode()
    return PageFile(plain, gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()[:32])
