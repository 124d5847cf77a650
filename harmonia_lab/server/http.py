"""The HTTP routes: generations, their files, health, metrics and the protocol's description.

Owns paths, statuses, and which user may call what; what is long is read and encoded in a thread. A command does the
same as on the socket (`gateway.py`); `downloads.py` sends files.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.codec import check_text, decode, error_ack
from harmonia_lab.protocol.commands import ShareAck, ShareGeneration, StartGeneration, UnshareGeneration
from harmonia_lab.protocol.models import Job
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.downloads import find_file, send_file, stem_names
from harmonia_lab.server.gateway import Gateway, ServedLab, new_generation_id
from harmonia_lab.server.job_lists import fitting, page_size, read_page
from harmonia_lab.server.origins import allowed_origin, is_loopback, normal_origin
from harmonia_lab.server.rate_limit import TokenBucket, cost_of
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.store.metrics import CONTENT_TYPE

__all__ = ["HttpApi"]

STATUSES = {
    ErrorCode.INVALID_PAYLOAD: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CANCEL_FAILED: 409,
    ErrorCode.NOT_RECOVERABLE: 409,
    ErrorCode.QUEUE_FULL: 429,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.STORAGE_FULL: 507,
}
"""HTTP status by error code. Any other code is 500."""

_CODES = {403: ErrorCode.UNAUTHORIZED, 404: ErrorCode.NOT_FOUND}
"""Error code by the status of an error that aiohttp raises. Any other status is INVALID_PAYLOAD."""

FILES = {"audio": "song.flac", "midi": "song.mid", "overview": "overview.png"}
"""A song's files, by the last part of their path."""

EXPOSED_HEADERS = "ETag, Content-Range, Content-Length, Accept-Ranges, Location"
"""Headers that a page of an allowed origin may read."""
_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""Headers that proxies add. Some proxies add none; behind those, only `public_url` shows that there is a proxy."""

CLIENT_CLOSED_REQUEST = 499

COMPRESS_FROM = 1024
"""Bytes of JSON from which an answer is compressed."""

REFUSALS = (401, 403, 404, 405, 429)
REFUSAL_DELAY_S = 0.25
"""Seconds by which a call beyond a limit is answered later, and with it the next one of its connection."""

READY_S = 1.0
"""Seconds for which an answer of `/readyz` holds: anybody may ask, and each looks at the disk."""


@dataclass
class _Call:
    """What is known of the call that a task answers. identity: of its token or link. code: of the error, if any.
    with_user: whom it shares with, or whose tokens it revokes."""

    identity: Identity | None = None
    code: str | None = None
    with_user: str | None = None


_CALL: ContextVar[_Call] = ContextVar("_CALL")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


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
    ) -> None:
        self._lab, self._settings, self._tokens = lab, settings, tokens
        self._urls, self._gateway, self._addresses = urls, gateway, addresses
        self._calls = TokenBucket(*settings.rates.messages)
        self._open_calls = TokenBucket(*settings.rates.messages)
        """Of routes that anybody may call, by address."""
        self._refusals = TokenBucket(*settings.rates.messages)
        """By address. Beyond it, refusals are delayed."""
        self._document: dict[str, bytes] = {}
        """The protocol's description, by encoding."""
        self._document_lock = asyncio.Lock()
        self._ready_until = 0.0

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[self._audited, self._preflight, self._errors, self._encrypted],
            client_max_size=self._settings.max_message_bytes,
        )
        app.on_response_prepare.extend([_hide_versions, self._allow_origin])
        one = "/api/generations/{id:[A-Za-z0-9_-]{1,64}}"
        app.add_routes(
            [
                web.get("/api/generations", self._list),
                web.post("/api/generations", self._start),
                web.get(one, self._show),
                web.delete(one, self._cancel),
                web.get(f"{one}/{{file:{'|'.join(FILES)}}}", self._file),
                web.get(one + "/stems", self._stems),
                web.get(one + "/stems/{name}", self._stem),
                web.get(one + "/shares", self._shares),
                web.post(one + "/shares", self._share),
                web.delete(one + "/shares", self._unshare),
                web.get("/api/shared", self._shared),
                web.post("/api/tokens/revoke", self._revoke),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/asyncapi.json", self._asyncapi),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        limit, base_url = page_size(request.query.get("limit")), self._gateway.base_url(request)

        def read() -> bytes:
            cursor = request.query.get("cursor")
            page = read_page(self._lab.journal, self._urls, base_url, identity.user, limit, cursor, reader=identity)
            answer: dict[str, Any] = {"ok": True, "jobs": [job.to_wire() for job in page.jobs]}
            return _encoded(answer | ({} if page.cursor is None else {"nextCursor": page.cursor}))

        return await self._read(identity, read)

    async def _start(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        body = await self._body(request, identity)
        async with self._gateway.slots.command(identity.user):
            command = decode(StartGeneration.name, body)
            assert isinstance(command, StartGeneration)
            ack = await self._gateway.start(command, command.generation_id or new_generation_id(), identity)
        return self._json(ack.to_wire(), status=202, headers={"Location": f"/api/generations/{ack.generation_id}"})

    async def _show(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        state = await self._state(request, identity)
        job = self._job(request, state.kept_job, identity)

        def read() -> bytes:
            snapshot = self._gateway.sharing.snapshot(state, identity).to_wire() | {"job": job.to_wire()}
            return _encoded({"ok": True, "generationId": state.kept_job.id, "snapshot": snapshot})

        return await self._read(identity, read)

    async def _cancel(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        await self._state(request, identity)
        generation_id = self._gateway.access.require_control(request.match_info["id"], identity).id
        await asyncio.to_thread(self._lab.cancel, generation_id)
        return self._json({"ok": True, "generationId": generation_id})

    async def _shares(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        generation_id = (await self._state(request, identity)).id
        shares = self._gateway.sharing.shares(generation_id, identity)
        return self._json(ShareAck(generation_id=generation_id, shares=shares).to_wire())

    async def _share(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        body = await self._body(request, identity)
        fields = body if isinstance(body, dict) else {}
        command = decode(ShareGeneration.name, fields | {"generationId": request.match_info["id"]})
        assert isinstance(command, ShareGeneration)
        _CALL.get().with_user = command.user_id
        await self._state(request, identity)
        return self._json((await self._gateway.sharing.share(command, identity)).to_wire())

    async def _unshare(self, request: web.Request) -> web.Response:
        identity = self._authenticate(request)
        fields = {"userId": request.query.get("userId"), "generationId": request.match_info["id"]}
        command = decode(UnshareGeneration.name, fields)
        assert isinstance(command, UnshareGeneration)
        _CALL.get().with_user = command.user_id
        await self._state(request, identity)
        return self._json((await self._gateway.sharing.unshare(command, identity)).to_wire())

    async def _shared(self, request: web.Request) -> web.Response:
        """Answer with the jobs that other users share with this one."""
        identity = self._authenticate(request)
        base_url = self._gateway.base_url(request)

        def read() -> bytes:
            jobs = fitting(self._lab.journal.shares.jobs_with(identity.user), self._urls, base_url, identity)
            return _encoded({"ok": True, "jobs": [job.to_wire() for job in jobs]})

        return await self._read(identity, read)

    async def _revoke(self, request: web.Request) -> web.Response:
        """Revoke a user's tokens so far (`userId`), or one token by its id (`tokenId`), for an admin."""
        identity = self._authenticate(request)
        if not identity.is_admin:
            raise Refused("Only an admin may revoke tokens.")
        body = await self._body(request, identity)
        given = {name: body.get(name) for name in ("userId", "tokenId")} if isinstance(body, dict) else {}
        if not all(isinstance(value, str | None) for value in given.values()):
            raise InvalidRequest("userId and tokenId are texts.", details={"fields": list(given)})
        _CALL.get().with_user = given.get("userId")
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

    async def _download(self, request: web.Request, name: str) -> web.StreamResponse:
        reader = self._authenticate_download(request)
        state = await self._state(request, reader)
        file = await asyncio.to_thread(find_file, state, name)
        with self._gateway.sharing.downloads.sending(request, state.id, reader):
            return await send_file(request, file)

    async def _health(self, request: web.Request) -> web.Response:
        self._count_open_call(request)
        return self._json({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        """Answer 200 if the server can take a song, which needs the journal."""
        self._count_open_call(request)
        if time.monotonic() >= self._ready_until:
            await asyncio.to_thread(self._lab.journal.check)
            self._ready_until = time.monotonic() + READY_S
        return self._json({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.Response:
        """Answer any request on loopback that came through no proxy and to a name of this machine, else only an
        admin's: to a page that has its own name lead here, the browser lets it read the answer."""
        self._count_open_call(request)
        proxied = self._settings.public_url is not None or any(name in request.headers for name in _PROXY_HEADERS)
        proxied = proxied or not is_loopback(_host_name(request))
        if (proxied or not self._settings.loopback) and not self._authenticate(request).is_admin:
            raise Refused("Only an admin may see the metrics.")
        return web.Response(body=self._lab.metrics.text().encode(), headers={"Content-Type": CONTENT_TYPE})

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
        _CALL.get().identity = identity
        self._count_call(identity)
        return identity

    def _count_call(self, identity: Identity) -> None:
        self._calls.require(identity.user, "calls")
        if not identity.is_process_owner:
            self._gateway.costs.require(identity.user, "calls with long answers")

    def _authenticate_download(self, request: web.Request) -> Identity:
        """Return the identity in the signed URL, or else in the bearer token. Raise Refused."""
        reader = self._urls.reader_of(request.path, request.query)
        if reader is not None:
            self._tokens.check_not_revoked(reader)
            _CALL.get().identity = reader
            self._count_call(reader)
            return reader
        if "signature" in request.query and "Authorization" not in request.headers:
            raise Refused(
                "The link has expired, or was altered.", hint="Request the song again: the answer has a new link."
            )
        return self._authenticate(request)

    async def _state(self, request: web.Request, identity: Identity) -> GenerationState:
        """Return the state of the generation in the path. Raise Refused (NOT_FOUND)."""
        generation_id, journal = request.match_info["id"], self._lab.journal
        if not journal.is_at_hand(generation_id):
            await self._gateway.slots.read(identity.user, journal.state, generation_id)
        return self._gateway.access.require(generation_id, identity)

    def _job(self, request: web.Request, job: Job, reader: Identity) -> Job:
        return job.linked(self._urls.audio(self._gateway.base_url(request), job.id, reader))

    async def _body(self, request: web.Request, identity: Identity) -> Any:
        """Return the body, which is JSON. Raise InvalidRequest if it isn't, HTTPRequestTimeout if it doesn't come."""
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                text = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        self._gateway.costs.charge(identity.user, cost_of(len(text)))
        try:
            return await self._gateway.slots.read(identity.user, _parsed, text)
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is not JSON.") from None

    async def _read(self, identity: Identity, read: Callable[[], bytes]) -> web.Response:
        """Answer with what `read` returns in a thread."""
        body = await self._gateway.slots.read(identity.user, read)
        if not identity.is_process_owner:
            self._gateway.costs.charge(identity.user, cost_of(len(body)))
        return self._answer(body)

    def _json(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        return self._answer(_encoded(value), status=status, headers=headers)

    def _answer(self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        response = web.Response(
            body=body, status=status, content_type="application/json", charset="utf-8", headers=headers
        )
        if self._settings.http_compression and len(body) >= COMPRESS_FROM:
            response.enable_compression()
        return response

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer every failure with the protocol's error, without a traceback."""
        headers: dict[str, str] = {}
        try:
            return await handler(request)
        except HarmoniaError as error:
            failure, status = error, STATUSES.get(error.code, 500)
            if status == 401 and _CALL.get().identity is not None:
                status = 403  # a new token would not help
        except web.HTTPException as error:
            headers |= {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
            code = _CODES.get(error.status, ErrorCode.INVALID_PAYLOAD)
            failure, status = HarmoniaError(error.reason or "Refused.", code=code), error.status
        except ConnectionResetError:
            return web.Response(status=CLIENT_CLOSED_REQUEST)  # nobody reads it, and only nginx has a name for it
        except Exception:  # noqa: BLE001 - a client must not see a traceback
            _log.exception("A defect: %s %s was not answered.", request.method, request.match_info.route.resource)
            failure, status = HarmoniaError("A defect in the server.", hint="Its log has the details."), 500
        self._lab.metrics.failed(failure.code)
        _CALL.get().code = str(failure.code)
        if status in REFUSALS and not (status != 429 and self._refusals.take(self._addresses.of(request))):
            await asyncio.sleep(REFUSAL_DELAY_S)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if "retryAfter" in failure.details:
            headers["Retry-After"] = str(math.ceil(failure.details["retryAfter"]))
        response = self._json(error_ack(failure), status=status, headers=headers)
        if status == 408:
            response.force_close()  # the rest of the body may still come
        return response

    @web.middleware
    async def _audited(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log the call. Of Socket.IO's own, only those that were refused: its connections log themselves."""
        call, response = _Call(), None
        _CALL.set(call)
        try:
            response = await handler(request)
            return response
        finally:
            status = CLIENT_CLOSED_REQUEST if response is None else response.status
            if not self._is_socketio(request) or (response is not None and status >= 400):
                self._gateway.audit.call(request, status, call.identity, call.code, call.with_user)

    @web.middleware
    async def _encrypted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse whoever comes unencrypted past the trusted proxy."""
        if not self._settings.is_encrypted_from(request.remote):
            raise web.HTTPForbidden(reason="Not encrypted: come by the proxy's address.")
        return await handler(request)

    @web.middleware
    async def _preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a browser's CORS preflight; `_allow_origin` adds whether the origin is allowed."""
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if is_preflight and not self._is_socketio(request):
            headers = {
                "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
                "Access-Control-Allow-Headers": "Authorization, Content-Type, Range, If-None-Match",
                "Access-Control-Max-Age": "600",
            }
            return web.Response(status=204, headers=headers)
        return await handler(request)

    async def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._is_socketio(request):
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and allowed_origin(origin, self._settings.origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    def _is_socketio(self, request: web.Request) -> bool:
        """Return whether Socket.IO answers the request; it applies the same rule for origins itself."""
        return request.path.startswith(f"/{self._settings.path.strip('/')}/")


def _parsed(body: bytes) -> Any:
    """Return a body's JSON. Raise ValueError, RecursionError, or InvalidRequest for too much of it."""
    text = body.decode()
    check_text(text)
    return json.loads(text)


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _encoded_document() -> dict[str, bytes]:
    from harmonia_lab.protocol.asyncapi import asyncapi_document  # noqa: PLC0415 - used only at the first request

    plain = _encoded(asyncapi_document())
    return {"identity": plain, "gzip": gzip.compress(plain)}


def _host_name(request: web.Request) -> str:
    """Return the name in the Host header, without the port; "" without the header."""
    origin = normal_origin(f"http://{request.headers.get('Host', '')}")
    return "" if origin is None else (urlsplit(origin).hostname or "")


async def _hide_versions(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
