"""The sources of a panel's events, which also take its commands: this kernel's lab, or a server.

Owns the two event sources, which offer a panel the same: a store that follows one generation, two commands, and the
files of the finished song. What a panel shows of them is decided by `view_model.py`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from harmonia_lab.client import BlockingClient
from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.store import GenerationAccess, State, Store
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.record_schema import file_inside
from harmonia_lab.protocol.events import AudioPreview, FamilyEvent
from harmonia_lab.protocol.models import Share
from harmonia_lab.store.journal_core import JournalCore

__all__ = ["EventSource", "Files", "LabEvents", "PanelLab", "ServerEvents", "files_in", "reached"]

DOWNLOAD_S = 30.0

SOCKET_PATH = "socket.io"
"""Where a server speaks Socket.IO, below its URL."""

Files = dict[str, Callable[[], bytes]]
"""Name → function that reads the file (raises StorageError or OSError), `song.flac` first."""


class PanelLab(Protocol):
    """The part of `lab.Lab` that a panel uses."""

    events: Fanout

    @property
    def journal(self) -> JournalCore: ...

    def cancel(self, generation_id: str) -> None: ...

    def retry(self, generation_id: str) -> object: ...


class EventSource(Protocol):
    """The events of one generation, in order. local: whether this process makes the song."""

    generation_id: str
    local: bool

    @property
    def store(self) -> Store: ...

    def start(self, changed: Callable[[State], None], preview: Callable[[AudioPreview], None]) -> None:
        """Call `changed` with every new state from now on, in order, and `preview` with audio previews, in any thread.

        Raises HarmoniaError if there is no such generation, or no server.
        """

    def sharing(self) -> GenerationAccess | None:
        """Return who may use the generation, as far as is known. Raises HarmoniaError."""

    def cancel(self) -> None: ...

    def retry(self) -> None: ...

    def files(self) -> Files:
        """Return the finished song's files. Waits for a disk or a network. Raises HarmoniaError or OSError."""

    def folder(self) -> Path | None:
        """Return the finished song's folder; None where it is not on this machine, or the song is not done."""

    def stop(self) -> None:
        """End the calls. Idempotent."""


class LabEvents:
    """The events of a lab in this process: first those in the journal, then live ones."""

    local = True

    def __init__(self, lab: PanelLab, generation_id: str) -> None:
        self.generation_id = generation_id
        self.store = Store()
        self._lab = lab
        self._lock = threading.Lock()
        self._preview: Callable[[AudioPreview], None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[State], None], preview: Callable[[AudioPreview], None]) -> None:
        if self._lab.journal.state(self.generation_id) is None:
            raise Refused(f"There is no generation {self.generation_id}.", code=ErrorCode.NOT_FOUND)
        self.store.observe(changed)
        self._preview = preview
        # The lock makes live events wait for the journal's: the store drops an event that isn't the next.
        with self._lock:
            self._unsubscribe = self._lab.events.subscribe(self._observe)
            for event in self._lab.journal.history(self.generation_id):
                self.store(event)

    def _observe(self, event: FamilyEvent) -> None:
        if event.generation_id != self.generation_id:
            return
        with self._lock:
            self.store(event)
        if isinstance(event, AudioPreview) and self._preview is not None:
            self._preview(event)

    def sharing(self) -> GenerationAccess | None:
        shares = self._lab.journal.shares.of(self.generation_id)
        return GenerationAccess("owner", tuple(Share(user_id=user, role=role) for user, role in shares.items()))

    def cancel(self) -> None:
        self._lab.cancel(self.generation_id)

    def retry(self) -> None:
        self._lab.retry(self.generation_id)

    def folder(self) -> Path | None:
        state = self._lab.journal.state(self.generation_id)
        return None if state is None or state.song_path is None else state.song_path.parent

    def files(self) -> Files:
        folder = self.folder()
        if folder is None:
            raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
        return files_in(folder)

    def stop(self) -> None:
        self._unsubscribe()


class ServerEvents:
    """The events of a server, this kernel's or another machine's, over a connection of their own."""

    local = False

    def __init__(self, url: str, token: Token, generation_id: str, *, path: str = SOCKET_PATH) -> None:
        """url, path: as for `Client`."""
        self.generation_id = generation_id
        self._token = token
        self._url, self._path = url, path
        self._client = BlockingClient(url, path=path)
        self.store: Store = self._client.store

    def start(self, changed: Callable[[State], None], preview: Callable[[AudioPreview], None]) -> None:
        self._client.connect(self._token)
        try:
            self.store.observe(changed)
            self._client.join(self.generation_id)
            self._client.subscribe_to_job(self.generation_id)
        except BaseException:
            self._client.disconnect()
            raise
        threading.Thread(target=self._previews, args=(preview,), name="harmonia-previews", daemon=True).start()

    def _previews(self, preview: Callable[[AudioPreview], None]) -> None:
        with contextlib.suppress(HarmoniaError):  # the store knows why the connection ended
            for event in self._client.events():
                if isinstance(event, AudioPreview) and event.generation_id == self.generation_id:
                    preview(event)

    def sharing(self) -> GenerationAccess | None:
        return self.store.state.sharing.get(self.generation_id)

    def cancel(self) -> None:
        self._client.cancel(self.generation_id)

    def retry(self) -> None:
        self._client.retry(self.generation_id)

    def folder(self) -> Path | None:
        return None

    def files(self) -> Files:
        result = self.store.state.completed_generations.get(self.generation_id)
        if result is None:
            raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
        files: Files = {"song.flac": partial(self._fetch, result.audio_url)}
        if isinstance(self._token, str):  # the signed URL opens the song alone; the other files need the token
            song_url = urlsplit(result.audio_url)._replace(query="")
            folder_url = song_url._replace(path=song_url.path.removesuffix("audio")).geturl()
            for stem in json.loads(self._fetch(f"{folder_url}stems", self._token))["stems"]:
                files[f"stems/{stem['name']}"] = partial(self._fetch, stem["url"])
            song = self.store.state.generations[self.generation_id].song
            if song is None or song.follows is None or "notes" in song.follows:
                files["song.mid"] = partial(self._fetch, f"{folder_url}midi", self._token)
            files["overview.png"] = partial(self._fetch, f"{folder_url}overview", self._token)
        return files

    def _fetch(self, link: str, token: str | None = None) -> bytes:
        """Return what the server sends for one of its links. Raises Disconnected."""
        return _fetch(reached(link, self._url, self._path), token)

    def stop(self) -> None:
        self._client.disconnect()


def reached(link: str, url: str, path: str) -> str:
    """Return a server's `link` as a client reaches it that was given `url` and Socket.IO's `path`.

    A server behind a proxy may not know the proxy's address, and names its own; and the proxy may want its own token,
    which then is in the query of `url`.
    """
    ours, parts = urlsplit(url), urlsplit(link)
    prefix = "/" + path.strip("/").removesuffix(SOCKET_PATH).rstrip("/")
    if prefix == "/" and not ours.query:
        return link
    prefix = prefix.rstrip("/")
    inside = parts.path if parts.path.startswith(f"{prefix}/") else prefix + parts.path
    query = "&".join(filter(None, [parts.query, ours.query]))
    return parts._replace(scheme=ours.scheme, netloc=ours.netloc, path=inside, query=query).geturl()


def files_in(folder: Path) -> Files:
    """Return the files of the song in `folder`. Raises HarmoniaError if it holds no song."""
    names = sorted(read_record(folder)["files"], key=_song_first)
    return {name: path.read_bytes for name in names if (path := file_inside(folder, name)) is not None}


def _fetch(url: str, token: str | None = None) -> bytes:
    """Return what the server sends for `url`. Raises Disconnected."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the address is our own server's
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_S) as response:  # noqa: S310 - as above
            data: bytes = response.read()
            return data
    except (urllib.error.URLError, TimeoutError) as error:
        raise Disconnected(f"{Path(urlsplit(url).path).name} cannot be fetched: {error}.") from error


def _song_first(name: str) -> tuple[bool, bool, str]:
    return name != "song.flac", not name.startswith("stems/"), name
