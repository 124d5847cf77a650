"""The HTTP routes: generations, their files and shares, tokens, health, metrics and the protocol's description.

Owns paths, and which user may call what; what is long is read and encoded in a thread. A command does the same as on
the socket (`gateway.py`); `downloads.py` sends files, and `http_rules.py` has what all calls have in common.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from harmonia_lab.engines.song_options import described_options
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.codec import check_text, decode, error_ack
from harmonia_lab.protocol.commands import ShareAck, ShareGeneration, StartGeneration, UnshareGeneration
from harmonia_lab.protocol.models import Job, SongRequest
from harmonia_lab.server.archives import SongArchive, find_archive
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.downloads import SongFile, find_file, send_file, stem_names
from harmonia_lab.server.gateway import Gateway, new_generation_id
from harmonia_lab.server.health import Health
from harmonia_lab.server.http_rules import HttpRules, current_call, encoded
from harmonia_lab.server.job_lists import page_size, read_page
from harmonia_lab.server.listening import ListeningRoutes
from harmonia_lab.server.origins import Origins, is_loopback, normal_origin
from harmonia_lab.server.page import PageRoutes, player_answer
from harmonia_lab.server.rate_limit import TokenBucket, cost_of
from harmonia_lab.server.served_lab import ServedLab
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.server.sounds import SoundRoutes
from harmonia_lab.store.metrics import CONTENT_TYPE

__all__ = ["HttpApi"]

FILES = {"audio": "song.flac", "midi": "song.mid", "overview": "overview.png"}
"""A song's files, by the last part of their path."""

_KINDS = {file: kind for kind, file in FILES.items()}

_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""Headers that proxies add. Some proxies add none; behind those, only `public_url` shows that there is a proxy."""


class HttpApi:
    """`application()` is the aiohttp application with all routes."""

    def __init__(
        self,
        lab: ServedLab,
        settings: ServerSettings,
        tokens: Tokens,
        urls: SignedUrls,
        gateway: Gateway,
        addresses: ClientAddresses,
        health: Health,
        origins: Origins,
    ) -> None:
        self._lab, self._settings, self._tokens = lab, settings, tokens
        self._urls, self._gateway, self._addresses, self.health = urls, gateway, addresses, health
        self.rules = HttpRules(settings, lab.metrics, gateway.audit, addresses, gateway.webhook, origins)
        self._json = self.rules.json
        self.calls = TokenBucket(*settings.rates.messages)
        self._open_calls = TokenBucket(*settings.rates.messages)
        """Of routes that anybody may call, by address."""
        self.sounds = SoundRoutes(lab.sounds, settings, tokens, self.rules, self._authenticate)
        page = PageRoutes(settings.path, compress=settings.http_compression, count_call=self._count_open_call)
        self._page_routes = page.routes() if settings.page else []
        self._listening = ListeningRoutes(
            lab.listening, settings, tokens, self.rules, self._authenticate, self._count_open_call
        )
        self._document: dict[str, bytes] = {}
        """The protocol's description, by encoding."""
        self._document_lock = asyncio.Lock()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=self._settings.max_message_bytes)
        self.rules.install(app)
        one = "/api/generations/{id:[A-Za-z0-9_-]{1,64}}"
        app.add_routes(
            [
                web.get("/api/generations", self._list),
                web.post("/api/generations", self._start),
                web.get(one, self._show),
                web.delete(one, self._cancel),
                web.get(f"{one}/{{file:{'|'.join(FILES)}}}", self._file),
                web.get(one + "/archive", self._archive),
                web.get(one + "/rows", self._rows),
                web.get(one + "/player", self._player),
                web.get(one + "/stems", self._stems),
                web.get(one + "/stems/{name}", self._stem),
                web.get(one + "/shares", self._shares),
                web.post(one + "/shares", self._share),
                web.delete(one + "/shares", self._unshare),
                web.get("/api/shared", self._shared),
                *self.sounds.routes(),
                *self._listening.routes(),
                web.get("/api/engines", self._engines),
                web.post("/api/tokens/revoke", self._revoke),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/asyncapi.json", self._asyncapi),
                *self._page_routes,
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        return await self._page(request, identity, partial(self._lab.journal.jobs, identity.user))

    async def _shared(self, request: web.Request) -> web.Response:
        """Answer with the jobs that other users share with this one."""
        identity = self._authenticate(request)
        return await self._page(request, identity, partial(self._lab.journal.shares.jobs_with, identity.user))

    async def _page(
        self, request: web.Request, identity: Identity, jobs: Callable[[int, str | None], list[Job]]
    ) -> web.Response:
        limit, base_url = page_size(request.query.get("limit")), self._gateway.base_url(request)

        def read() -> bytes:
            page = read_page(jobs, self._urls, base_url, identity, limit, request.query.get("cursor"))
            answer: dict[str, Any] = {"ok": True, "jobs": [job.to_wire() for job in page.jobs]}
            return encoded(answer | ({} if page.cursor is None else {"nextCursor": page.cursor}))

        return await self._read(identity, read)

    async def _start(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        body = await self._body(request, identity)
        async with self._gateway.slots.command(identity.user):
            self._tokens.check_not_revoked(identity)
            command = decode(StartGeneration.name, body)
            assert isinstance(command, StartGeneration)
            ack = await self._gateway.start(command, command.generation_id or new_generation_id(), identity)
        return self._json(ack.to_wire(), status=202, headers={"Location": f"/api/generations/{ack.generation_id}"})

    async def _show(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        state = await self._state(request, identity)
        snapshot = self._gateway.sharing.snapshot(state, identity)
        snapshot = snapshot.model_copy(update={"job": self._linked(request, state.kept_job, identity)})

        def read() -> bytes:
            return encoded({"ok": True, "generationId": state.kept_job.id, "snapshot": snapshot.to_wire()})

        answer = await self._read(identity, read)
        self._gateway.access.require(state.id, identity)  # it may have been taken back meanwhile
        return answer

    async def _cancel(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        generation_id = self._gateway.access.require_control(await self._load(request, identity), identity).id
        await asyncio.to_thread(self._lab.cancel, generation_id)
        return self._json({"ok": True, "generationId": generation_id})

    async def _shares(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        generation_id = await self._load(request, identity)
        shares = self._gateway.sharing.shares(generation_id, identity)
        return self._json(ShareAck(generation_id=generation_id, shares=shares).to_wire())

    async def _share(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        body = await self._body(request, identity)
        fields = body if isinstance(body, dict) else {}
        command = decode(ShareGeneration.name, fields | {"generationId": await self._load(request, identity)})
        assert isinstance(command, ShareGeneration)
        current_call().with_user = command.user_id
        return self._json((await self._gateway.sharing.share(command, identity)).to_wire())

    async def _unshare(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        fields = {"userId": request.query.get("userId"), "generationId": await self._load(request, identity)}
        command = decode(UnshareGeneration.name, fields)
        assert isinstance(command, UnshareGeneration)
        current_call().with_user = command.user_id
        return self._json((await self._gateway.sharing.unshare(command, identity)).to_wire())

    async def _revoke(self, request: web.Request) -> web.Response:
        """Revoke a user's tokens so far (`userId`), or one token by its id (`tokenId`), for an admin."""
        identity = self._authenticate(request)
        if not identity.is_admin:
            raise Refused("Only an admin may revoke tokens.")
        body = await self._body(request, identity)
        given = {name: body.get(name) for name in ("userId", "tokenId")} if isinstance(body, dict) else {}
        if not all(isinstance(value, str | None) for value in given.values()):
            raise InvalidRequest("userId and tokenId are texts.", details={"fields": list(given)})
        current_call().with_user = given.get("userId")
        await asyncio.to_thread(self._tokens.revoke, given.get("userId"), given.get("tokenId"))
        self._gateway.close_revoked()
        return self._json({"ok": True})

    async def _stems(self, request: web.Request) -> web.Response:
        identity = self._authenticate_download(request)
        state = await self._state(request, identity)
        names = await asyncio.to_thread(stem_names, state)
        base_url, folder = self._gateway.base_url(request), f"/api/generations/{state.kept_job.id}/stems/"
        stems = [{"name": name, "url": base_url + self._urls.sign(folder + name, identity)} for name in names]
        return self._json({"ok": True, "stems": stems})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return await self._download(request, FILES[request.match_info["file"]])

    async def _stem(self, request: web.Request) -> web.StreamResponse:
        return await self._download(request, f"stems/{request.match_info['name']}")

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        """Send the song's whole folder as a tar."""
        return await self._send(request, "archive", find_archive)

    async def _rows(self, request: web.Request) -> web.Response:
        """Answer with the run log's row of each of the generation's attempts, oldest first, without paths of ours."""
        identity = self._authenticate(request)
        generation_id = (await self._state(request, identity)).id

        def read() -> bytes:
            rows = self._lab.log.of_generation(generation_id)
            return encoded({"ok": True, "rows": [row | {"directory": None} for row in rows]})

        answer = await self._read(identity, read)
        self._gateway.access.require(generation_id, identity)
        return answer

    async def _player(self, request: web.Request) -> web.Response:
        """Answer with what a player shows of a song beside its sound, without paths of ours."""
        identity = self._authenticate(request)
        state = await self._state(request, identity)
        if state.song_path is None:
            raise Refused("The song is not done.", code=ErrorCode.NOT_FOUND)
        answer = await self._read(identity, partial(player_answer, state.song_path.parent))
        self._gateway.access.require(state.id, identity)
        return answer

    async def _engines(self, request: web.Request) -> web.Response:
        """Answer with what makes the songs here, as their records will name it: a name, a model, settings; and with the
        type of each setting of the audio engine that a song can have for itself."""
        identity = self._authenticate(request)

        def read() -> bytes:
            engines = self._lab.engines_for(SongRequest(narrative="."))
            options = described_options(getattr(self._lab.audio_engine, "song_options", ()))
            answer = {"ok": True, "engines": engines, "audioOptions": options}
            return encoded(json.loads(json.dumps(answer, default=str)))

        return await self._read(identity, read)

    async def _download(self, request: web.Request, name: str) -> web.StreamResponse:
        return await self._send(request, _KINDS.get(name, "stem"), partial(find_file, name=name))

    async def _send(
        self, request: web.Request, kind: str, find: Callable[[GenerationState], SongFile | SongArchive]
    ) -> web.StreamResponse:
        """kind: as the metrics count it."""
        reader = self._authenticate_download(request)
        state = await self._state(request, reader)
        file = await asyncio.to_thread(find, state)
        with self._gateway.sharing.downloads.sending(request, state.id, reader):
            # Revoked or taken back while the disk was read, it was not yet among those that are broken off.
            self._tokens.check_not_revoked(reader)
            self._gateway.access.require(state.id, reader)
            answer = await send_file(request, file)
        if answer.status < 300:
            self._lab.metrics.count("downloads_total", kind)
        return answer

    async def _health(self, request: web.Request) -> web.Response:
        self._count_open_call(request)
        return self._json({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        """Answer 200 if sockets can be served, else 503. Engines that are missing are told, and change nothing."""
        self._count_open_call(request)
        readiness, engines = await asyncio.to_thread(lambda: (self.health.readiness(), self.health.engines()))
        states = {each.stage: {"engine": each.engine, "state": each.state} for each in engines}
        found = {"checks": readiness.checks, "engines": states}
        if readiness.code is None:
            return self._json({"status": "ready"} | found)
        lacking = ", ".join(name for name, check in readiness.checks.items() if check != "ok")
        error = HarmoniaError(f"This server can't serve for now: {lacking}.", code=readiness.code)
        return self._json(error_ack(error) | {"status": "unavailable"} | found, status=503)

    async def _metrics(self, request: web.Request) -> web.Response:
        """Answer any request on loopback that came through no proxy and to a name of this machine, else only an
        admin's: to a page that has its own name lead here, the browser lets it read the answer."""
        self._count_open_call(request)
        proxied = self._settings.public_url is not None or any(name in request.headers for name in _PROXY_HEADERS)
        proxied = proxied or not is_loopback(_host_name(request))
        if (proxied or not self._settings.loopback) and not self._authenticate(request).is_admin:
            raise Refused("Only an admin may see the metrics.")
        text = await asyncio.to_thread(self._lab.metrics.text)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _asyncapi(self, request: web.Request) -> web.Response:
        self._count_open_call(request)
        async with self._document_lock:  # it takes a second to make
            if not self._document:
                self._document = await asyncio.to_thread(_encoded_document)
        gzipped = self._settings.http_compression and "gzip" in request.headers.get("Accept-Encoding", "")
        headers = {"Content-Encoding": "gzip"} if gzipped else None
        body = self._document["gzip" if gzipped else "identity"]
        return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)

    def _count_open_call(self, request: web.Request) -> None:
        """Count a call that needs no token. Raise Refused (RATE_LIMITED)."""
        self._open_calls.require(self._addresses.of(request), "calls")

    def _authenticate(self, request: web.Request) -> Identity:
        """Return the identity in the bearer token. Raise Refused (UNAUTHORIZED, RATE_LIMITED)."""
        header = request.headers.get("Authorization", "")
        identity = self._tokens.check(header.removeprefix("Bearer ") if header.startswith("Bearer ") else "")
        self._count_call(identity)
        return identity

    def _authenticate_download(self, request: web.Request) -> Identity:
        """Return the identity in the signed URL, or else in the bearer token. Raise Refused."""
        reader = self._urls.reader_of(request.path, request.query)
        if reader is not None:
            self._tokens.check_not_revoked(reader)
            self._count_call(reader)
            return reader
        if "signature" in request.query and "Authorization" not in request.headers:
            raise Refused(
                "The link has expired, or was altered.", hint="Request the song again: the answer has a new link."
            )
        return self._authenticate(request)

    def _count_call(self, identity: Identity) -> None:
        current_call().identity = identity
        self.calls.require(identity.user, "calls")
        if not identity.is_process_owner:
            self._gateway.costs.require(identity.user, "calls with long answers")

    async def _body(self, request: web.Request, identity: Identity) -> Any:
        """Return the body, which is JSON. Raise InvalidRequest if it isn't, HTTPRequestTimeout if it doesn't come."""
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                text = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        if not identity.is_process_owner:
            self._gateway.costs.charge(identity.user, cost_of(len(text)))
        try:
            return await self._gateway.slots.read(identity.user, _parsed, text)
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is not JSON.") from None

    async def _load(self, request: web.Request, identity: Identity) -> str:
        """Return the id in the path, with the generation's state at hand."""
        generation_id = request.match_info["id"]
        await self._gateway.load(identity, generation_id)
        return generation_id

    async def _state(self, request: web.Request, identity: Identity) -> GenerationState:
        """Return the state of the generation in the path. Raise Refused (NOT_FOUND)."""
        return self._gateway.access.require(await self._load(request, identity), identity)

    def _linked(self, request: web.Request, job: Job, reader: Identity) -> Job:
        return job.linked(self._urls.audio(self._gateway.base_url(request), job.id, reader))

    async def _read(self, identity: Identity, read: Callable[[], bytes]) -> web.Response:
        """Answer with what `read` returns in a thread, unless the token was revoked meanwhile."""
        body = await self._gateway.slots.read(identity.user, read)
        self._tokens.check_not_revoked(identity)
        if not identity.is_process_owner:
            self._gateway.costs.charge(identity.user, cost_of(len(body)))
        return self.rules.answer(body)


def _parsed(body: bytes) -> Any:
    """Return a body's JSON. Raise ValueError, RecursionError, or InvalidRequest for too much of it."""
    text = body.decode()
    check_text(text)
    return json.loads(text)


def _encoded_document() -> dict[str, bytes]:
    from harmonia_lab.protocol.asyncapi import asyncapi_document  # noqa: PLC0415 - used only at the first request

    plain = encoded(asyncapi_document())
    return {"identity": plain, "gzip": gzip.compress(plain)}


def _host_name(request: web.Request) -> str:
    """Return the name in the Host header, without the port; "" without the header."""
    origin = normal_origin(f"http://{request.headers.get('Host', '')}")
    return "" if origin is None else (urlsplit(origin).hostname or "")
