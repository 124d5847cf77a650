"""`RemoteServer`: another machine's server, as a lab uses it: one connection for commands and events, and HTTP.

Owns both, what a server must be and offer, and downloads that go on after a cut. `remote.py` owns the songs.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx

from harmonia_lab.backends.remote_address import RemoteAddress
from harmonia_lab.client import Backoff, BlockingClient
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, InvalidRequest, Refused, error_of
from harmonia_lab.protocol.events import FamilyEvent, ServerHello
from harmonia_lab.protocol.wire_model import PROTOCOL_VERSION
from harmonia_lab.storage import cached_digest, storage_errors
from harmonia_lab.waiting import join

__all__ = ["RemoteServer"]

CONNECT_S = 8.0
ANSWER_S = 30.0
"""For an answer to a command, or the next bytes of a download."""
STOP_S = 5.0
BACKOFF = Backoff(0.2, 5.0)

NEEDED = ("replay", "start-generation", "song-archives")
"""Features without which no song comes home."""

_log = logging.getLogger(__name__)


class RemoteServer:
    """Methods may be called from any thread, but for `connect` and `close`, one at a time."""

    def __init__(
        self,
        address: RemoteAddress,
        *,
        on_event: Callable[[FamilyEvent], None],
        on_lost: Callable[[HarmoniaError], None],
    ) -> None:
        """on_event: gets each event of what is joined, in order, in one thread. on_lost: called in that thread with the
        reason when the connection was given up; `connect` makes another."""
        self.address, self.url = address, address.url
        self._on_event, self._on_lost = on_event, on_lost
        self._tls = address.tls
        self._sounds: dict[str, str] = {}
        """SHA-256 of each file that was uploaded → the sound's id."""
        self._client: BlockingClient | None = None
        self._reader: threading.Thread | None = None
        self.stopping = threading.Event()
        """Set when no answer is wanted any more."""
        self._http = httpx.Client(
            base_url=self.url,
            verify=self._tls if self._tls is not None else True,
            trust_env=address.proxied,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        )

    @property
    def client(self) -> BlockingClient:
        """The connection. Raises Disconnected if there is none, and none is being made."""
        if self._client is None:
            raise Disconnected(f"There is no connection to {self.url}.", hint="Make the lab again.")
        return self._client

    @property
    def connected(self) -> bool:
        """Whether there is a connection, or it is being restored."""
        return self._client is not None

    def connect(self) -> None:
        """Connect, unless that was done. Raises Disconnected, Refused for a bad token, InvalidRequest for a server that
        can't be used."""
        if self._client is not None:
            return
        path = f"{urlsplit(self.url).path}/socket.io".lstrip("/")
        client = BlockingClient(
            self.url,
            path=path,
            ack_timeout_s=ANSWER_S,
            connect_timeout_s=CONNECT_S,
            backoff=BACKOFF,
            session=self._session,
        )
        try:
            client.connect(self.address.token)
            self._check(client.hello)
        except BaseException as error:
            client.disconnect()
            if isinstance(error, Disconnected) and (why := self._distrust()):
                raise InvalidRequest(
                    f"The certificate of {self.url} is not trusted: {why}.",
                    hint="Name the file of the authority that signed it, or of a certificate that signs itself: ca=,"
                    " --ca or HARMONIA_CA.",
                    details={"fields": ["ca"]},
                ) from None
            if isinstance(error, HarmoniaError):
                raise self.explained(error) from None
            raise
        self._client = client
        events = client.everything()
        # A daemon: a program that ends without closing its lab must not wait for the network.
        self._reader = threading.Thread(target=self._read, args=(client, events), name="harmonia-remote", daemon=True)
        self._reader.start()

    def _distrust(self) -> str:
        """Return why the server's certificate isn't trusted, which Socket.IO's client doesn't say; "" if it is."""
        if self._tls is None:
            return ""
        try:
            self._http.get("/healthz", timeout=CONNECT_S)
        except httpx.HTTPError as error:
            why: BaseException | None = error
            while why is not None and not isinstance(why, ssl.SSLCertVerificationError):
                why = why.__cause__ or why.__context__
            return "" if why is None else why.verify_message
        return ""

    def explained(self, error: HarmoniaError) -> HarmoniaError:
        """Return the error of a connection, with what to do about it."""
        if error.code == ErrorCode.UNAUTHORIZED:
            return Refused(
                f"{self.url} does not take the token: {error.message}",
                hint="Get a new one (on the server's machine: harmonia token NAME), and give it as token=, or in"
                " HARMONIA_TOKEN. Songs that were begun there go on, and are found again.",
            )
        if error.code == ErrorCode.NETWORK_TEMPORARY:
            said = error.message if self.url in error.message else f"{self.url}: {error.message}"
            return Disconnected(
                said, hint=f"Is the server running? `harmonia doctor --url {self.url}` looks step by step."
            )
        return error

    def engines(self) -> dict[str, Any]:
        """Return what the songs are made with, by stage, as a record names it; and, as "options", the type of each
        setting of the audio engine that a song can have for itself, by name."""
        answer = self.ask("/api/engines")
        found = {"options": answer.get("audioOptions", {}), **answer["engines"]}
        if not all(isinstance(found.get(part), dict) for part in ("metadata", "audio", "options")):
            raise _no_harmonia(self.url)
        return found

    def upload(self, path: Path) -> str:
        """Return the id of a sound at the server with the file's content. It is sent unless it was sent before, and is
        there still. Raises the server's error, StorageError, or Disconnected."""
        with storage_errors(path):
            digest = cached_digest(path)
        sent = self._sounds.get(digest)
        if sent is not None and any(sound.get("soundId") == sent for sound in self.ask("/api/sounds")["sounds"]):
            return sent
        with self._errors(), storage_errors(path), path.open("rb") as file:
            answer = self._http.post("/api/sounds", content=file, headers=self._headers())
        self._raise_for(answer)
        sound_id = self._sounds[digest] = str(answer.json()["soundId"])
        return sound_id

    def rows(self, generation_id: str) -> list[dict[str, Any]]:
        """Return the rows of the server's run log, one for each attempt at the generation."""
        rows = self.ask(f"/api/generations/{generation_id}/rows").get("rows")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def ask(self, path: str) -> dict[str, Any]:
        """Return the answer's JSON object. Raises the server's error, or Disconnected."""
        with self._errors():
            answer = self._http.get(path, headers=self._headers())
        self._raise_for(answer)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise _no_harmonia(self.url)
        return found

    def download(self, path: str, to: Path) -> None:
        """Write what the server sends for `path` into the file `to`, from where an earlier try left it, this process's
        or another's. A cut is waited out, however long it lasts.

        Raises the server's error, StorageError, or Disconnected once `stopping` is set.
        """
        waits = BACKOFF.waits()
        while True:
            before = _size(to)
            try:
                if self._download_rest(path, to):
                    return
            except HarmoniaError as error:
                if not _passing(error):
                    raise
                if _size(to) > before:
                    waits = BACKOFF.waits()
                wait_s = max(next(waits), float(error.details.get("retryAfter") or 0.0))
                if self.stopping.wait(wait_s):
                    raise
            if self.stopping.is_set():
                raise Disconnected(f"The download from {self.url} was stopped.")

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self.stopping.set()
        self._leave()
        reader = self._reader
        if reader is not None and reader is not threading.current_thread():
            join(reader, STOP_S)
        self._http.close()

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()

    def _read(self, client: BlockingClient, events: Iterator[FamilyEvent]) -> None:
        why: HarmoniaError = Disconnected(f"The connection to {self.url} ended.")
        try:
            for event in events:
                try:
                    self._on_event(event)
                except Exception:  # noqa: BLE001 - one event's defect must not keep the others from their listeners
                    _log.exception("%s of generation %s could not be handed on.", event.name, event.generation_id)
        except HarmoniaError as error:
            why = error
        if self.stopping.is_set() or self._client is not client:
            return
        self._leave()
        _log.warning("%s", self.explained(why))
        self._on_lost(self.explained(why))

    def _check(self, hello: ServerHello | None) -> None:
        """Raise InvalidRequest for a server that isn't Harmonia Lab's, or of another protocol."""
        if hello is None:
            raise _no_harmonia(self.url)
        if hello.protocol_version.partition(".")[0] != PROTOCOL_VERSION.partition(".")[0]:
            raise InvalidRequest(
                f"{self.url} speaks version {hello.protocol_version} of the protocol, and this lab {PROTOCOL_VERSION}.",
                hint="Install the same version of Harmonia Lab on both sides.",
                details={"fields": ["server"]},
            )
        if missing := [name for name in NEEDED if name not in hello.features]:
            raise InvalidRequest(
                f"{self.url} is older than this lab: it lacks {', '.join(missing)}.",
                hint="Update Harmonia Lab on the server.",
                details={"fields": ["server"]},
            )

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=True if self._tls is None else self._tls)
        return aiohttp.ClientSession(connector=connector, trust_env=self.address.proxied)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.address.token()}"}

    def _download_rest(self, path: str, to: Path) -> bool:
        """Return whether the file is whole. Raises Disconnected for a cut, after writing what came before it."""
        stamp = to.with_suffix(".etag")
        have = _size(to) if stamp.exists() else 0
        headers = self._headers() | {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": stamp.read_text(encoding="ascii", errors="replace")}
        with self._errors(), self._http.stream("GET", path, headers=headers) as answer:
            if answer.status_code == 416:  # nothing is left of it; or the server has another file now
                whole: bool = answer.headers.get("Content-Range") == f"bytes */{have}"
                if not whole:
                    stamp.unlink(missing_ok=True)
                return whole
            if answer.status_code not in (200, 206):
                answer.read()
                self._raise_for(answer)
                raise _no_harmonia(self.url)
            with storage_errors(to), to.open("ab" if answer.status_code == 206 else "wb") as file:
                stamp.write_text(answer.headers.get("ETag", ""), encoding="ascii", errors="replace")
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    if self.stopping.is_set():
                        return False
        return True

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise Disconnected(
                f"{self.url} does not answer: {error or type(error).__name__}.",
                hint=f"`harmonia doctor --url {self.url}` looks step by step.",
            ) from None
        except RuntimeError:  # it was closed meanwhile
            raise Disconnected(f"The connection to {self.url} was closed.") from None

    def _raise_for(self, answer: httpx.Response) -> None:
        """Raise the protocol's error in an answer, if it is one."""
        if answer.status_code < 300:
            return
        try:
            found = answer.json()["error"]
            error = error_of(str(found["code"]), str(found["message"]), details=found.get("details"))
        except (ValueError, KeyError, TypeError):
            if answer.status_code in (502, 503, 504):  # a proxy's, while the server starts again
                raise Disconnected(f"{self.url} answers with {answer.status_code}.") from None
            raise _no_harmonia(self.url) from None
        raise self.explained(error) if error.code == ErrorCode.UNAUTHORIZED else error


def _passing(error: HarmoniaError) -> bool:
    """Return whether a download goes on after the error, when it has waited."""
    return error.code in (ErrorCode.NETWORK_TEMPORARY, ErrorCode.RATE_LIMITED)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _no_harmonia(url: str) -> InvalidRequest:
    return InvalidRequest(
        f"What answers at {url} is no Harmonia Lab server that a lab can use.",
        hint=f"`harmonia doctor --url {url}` looks step by step.",
        details={"fields": ["server"]},
    )
