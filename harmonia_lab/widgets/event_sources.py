"""Where a panel's events come from, and where its clicks go: this kernel's lab, or a server.

Owns the two event sources, alike to the panel: a store that follows one generation, three commands, and the files of
the finished song. What a panel looks like is `view_model.py`'s.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from harmonia_lab.client import BlockingClient
from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.store import State, Store
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.protocol.events import AudioPreview, FamilyEvent
from harmonia_lab.store.journal import Journal

__all__ = ["EventSource", "Files", "LabEvents", "PanelLab", "ServerEvents"]

DOWNLOAD_S = 30.0

Files = dict[str, Callable[[], bytes]]
"""The finished song's files by name, `song.flac` first; each is read when it is called (StorageError, OSError)."""


class PanelLab(Protocol):
    """What a panel needs of `lab.Lab`."""

    events: Fanout[FamilyEvent]

    @property
    def journal(self) -> Journal: ...

    def cancel(self, generation_id: str) -> None: ...

    def retry(self, generation_id: str) -> object: ...


class EventSource(Protocol):
    """The events of one generation, in order. local: whether this process makes it."""

    generation_id: str
    local: bool

    @property
    def store(self) -> Store: ...

    def start(self, changed: Callable[[State], None], preview: Callable[[AudioPreview], None]) -> None:
        """Begin to call `changed` with every new state, in order, and `preview` with audio that is being made, in any
        thread. Raises HarmoniaError where there is no such generation, or no server."""

    def cancel(self) -> None: ...

    def retry(self) -> None: ...

    def files(self) -> Files:
        """Return the finished song's files. May wait for a disk or a network; raises HarmoniaError or OSError."""

    def stop(self) -> None:
        """Idempotent."""


class LabEvents:
    """A generation of a lab in this process: the events that the journal kept, then the live ones."""

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
        # Live events wait for the journal's: the store drops an event that comes before its turn.
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

    def cancel(self) -> None:
        self._lab.cancel(self.generation_id)

    def retry(self) -> None:
        self._lab.retry(self.generation_id)

    def files(self) -> Files:
        state = self._lab.journal.state(self.generation_id)
        if state is None or state.song_path is None:
            raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
        folder = state.song_path.parent
        return {name: (folder / name).read_bytes for name in sorted(read_record(folder)["files"], key=_order)}

    def stop(self) -> None:
        self._unsubscribe()


class ServerEvents:
    """A generation of any server, this kernel's or another machine's, through one connection of its own."""

    local = False

    def __init__(self, url: str, token: Token, generation_id: str) -> None:
        self.generation_id = generation_id
        self._token = token
        self._client = BlockingClient(url)
        self._stopped = False

    @property
    def store(self) -> Store:
        return self._client.store

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
        with contextlib.suppress(HarmoniaError):  # the store says why the connection has ended
            for event in self._client.events():
                if isinstance(event, AudioPreview) and event.generation_id == self.generation_id:
                    preview(event)

    def cancel(self) -> None:
        self._client.cancel(self.generation_id)

    def retry(self) -> None:
        self._client.retry(self.generation_id)

    def files(self) -> Files:
        result = self.store.state.completed_generations.get(self.generation_id)
        if result is None:
            raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
        files: Files = {"song.flac": lambda: _fetch(result.audio_url)}
        if isinstance(self._token, str):  # the link opens the song alone; every other file is served for a token
            place = urlsplit(result.audio_url)._replace(query="")
            beside = place._replace(path=place.path.removesuffix("audio")).geturl()
            for stem in json.loads(_fetch(f"{beside}stems", self._token))["stems"]:
                files[f"stems/{stem['name']}"] = _fetcher(stem["url"])
            files["song.mid"] = _fetcher(f"{beside}midi", self._token)
            files["overview.png"] = _fetcher(f"{beside}overview", self._token)
        return files

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._client.disconnect()


def _fetcher(url: str, token: str | None = None) -> Callable[[], bytes]:
    return lambda: _fetch(url, token)


def _fetch(url: str, token: str | None = None) -> bytes:
    """Raises Disconnected."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the address is our own server's
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_S) as answer:  # noqa: S310 - as above
            data: bytes = answer.read()
            return data
    except (urllib.error.URLError, TimeoutError) as error:
        raise Disconnected(f"{Path(urlsplit(url).path).name} cannot be fetched: {error}.") from error


def _order(name: str) -> tuple[bool, bool, str]:
    return name != "song.flac", not name.startswith("stems/"), name
