"""The HTTP routes: generations, their files, health, metrics and the protocol's description.

Owns paths, statuses, and who may call what. Commands mean what they mean on the socket (`gateway.py`); how a file is
sent is `downloads.py`'s.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.codec import decode, error_ack
from harmonia_lab.protocol.commands import StartAck, StartGeneration
from harmonia_lab.protocol.models import Job, SongRequest
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.downloads import SongFiles, send_file
from harmonia_lab.server.gateway import Gateway, Studio
from harmonia_lab.server.origins import allowed_origin
from harmonia_lab.server.rate_limit import Buckets
from harmonia_lab.server.rooms import may_see, not_found
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.signed_urls import Links
from harmonia_lab.store.metrics import CONTENT_TYPE

__all__ = ["Api"]

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
"""Any other code is 500."""

EXPOSED = "ETag, Content-Range, Content-Length, Accept-Ranges, Location"
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""What a proxy may add. Some add nothing: behind those, it is `public_url` that tells."""

COMPRESS_FROM = 1024
"""Bytes of JSON."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


class Api:
    def __init__(
        self, studio: Studio, settings: ServerSettings, tokens: Tokens, links: Links, gateway: Gateway
    ) -> None:
        self._studio, self._settings, self._tokens = studio, settings, tokens
        self._links, self._gateway = links, gateway
        self._calls = Buckets(*settings.rates.messages)
        self._files = SongFiles()
        self._document: dict[str, Any] = {}

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[self._preflight, self._errors], client_max_size=self._settings.max_message_bytes
        )
        app.on_response_prepare.extend([_say_no_versions, self._allow_origin])
        one = "/api/generations/{id:[A-Za-z0-9_-]{1,64}}"
        app.add_routes(
            [
                web.get("/api/generations", self._list),
                web.post("/api/generations", self._start),
                web.get(one, self._show),
                web.delete(one, self._cancel),
                web.get(one + "/audio", self._audio),
                web.get(one + "/midi", self._midi),
                web.get(one + "/overview", self._overview),
                web.get(one + "/stems", self._stems),
                web.get(one + "/stems/{name}", self._stem),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/asyncapi.json", self._asyncapi),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.Response:
        who = self._who(request)
        jobs = self._studio.journal.jobs(owner=who.user)
        return self._json({"ok": True, "jobs": [self._job(request, who, job) for job in jobs]})

    async def _start(self, request: web.Request) -> web.Response:
        who = self._who(request)
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is no JSON.") from None
        command = decode(StartGeneration.name, body)
        assert isinstance(command, StartGeneration)
        generation_id = command.generation_id or secrets.token_hex(6)
        fields = {name: getattr(command, name) for name in SongRequest.model_fields}
        await self._gateway.start(SongRequest(**fields | {"generation_id": generation_id}), who)
        ack = StartAck(generation_id=generation_id, job_id=generation_id).to_wire()
        return self._json(ack, status=202, headers={"Location": f"/api/generations/{generation_id}"})

    async def _show(self, request: web.Request) -> web.Response:
        who = self._who(request)
        standing = self._standing(request, who)
        snapshot = standing.snapshot().to_wire() | {"job": self._job(request, who, standing.kept_job)}
        return self._json({"ok": True, "generationId": standing.kept_job.id, "snapshot": snapshot})

    async def _cancel(self, request: web.Request) -> web.Response:
        who = self._who(request)
        generation_id = self._standing(request, who).kept_job.id
        await asyncio.to_thread(self._studio.cancel, generation_id)
        return self._json({"ok": True, "generationId": generation_id})

    async def _audio(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "song.flac")

    async def _midi(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "song.mid")

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "overview.png")

    async def _stems(self, request: web.Request) -> web.Response:
        who = self._who_downloads(request)
        standing = self._standing(request, who)
        names = await asyncio.to_thread(self._files.stems, standing)
        base = f"/api/generations/{standing.kept_job.id}/stems/"
        urls = [self._gateway.base_url(request) + self._links.sign(base + name, who.user) for name in names]
        return self._json({"ok": True, "stems": [{"name": n, "url": u} for n, u in zip(names, urls, strict=True)]})

    async def _stem(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, f"stems/{request.match_info['name']}")

    async def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        standing = self._standing(request, self._who_downloads(request))
        file = await asyncio.to_thread(self._files.find, standing, name)
        return await send_file(request, file)

    async def _health(self, request: web.Request) -> web.Response:
        del request
        return self._json({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        """Whether it can take a song: the journal answers."""
        del request
        await asyncio.to_thread(self._studio.journal.jobs, None, 1)
        return self._json({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.Response:
        """Figures are for who owns the machine: on loopback without a proxy in between, else for admins."""
        proxied = self._settings.public_url is not None or any(name in request.headers for name in _FORWARDED)
        if proxied or not self._settings.loopback:
            who = self._who(request)
            if not who.admin:
                raise Refused("Only an admin may see the metrics.")
        return web.Response(body=self._studio.metrics.text().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _asyncapi(self, request: web.Request) -> web.Response:
        del request
        from harmonia_lab.protocol.asyncapi import asyncapi_document  # noqa: PLC0415 - made when somebody asks

        # Once: it is anybody's to ask for, and takes long enough to be felt on other sockets.
        self._document = self._document or await asyncio.to_thread(asyncapi_document)
        return self._json(self._document)

    def _who(self, request: web.Request) -> Identity:
        """Raises Refused."""
        header = request.headers.get("Authorization", "")
        who = self._tokens.check(header.removeprefix("Bearer ") if header.startswith("Bearer ") else "")
        if not self._calls.take(who.user):
            raise Refused("Too many calls in too short a time.", code=ErrorCode.RATE_LIMITED)
        return who

    def _who_downloads(self, request: web.Request) -> Identity:
        """By token, or by a signed link."""
        user = self._links.user_of(request.path, request.query)
        if user is not None:
            return Identity(user, (), 0.0)
        if "signature" in request.query and "Authorization" not in request.headers:
            raise Refused("The link has expired, or was altered.", hint="Ask for the song again: that makes a new one.")
        return self._who(request)

    def _standing(self, request: web.Request, who: Identity) -> GenerationState:
        """Raises Refused (NOT_FOUND)."""
        standing = self._studio.journal.state(request.match_info["id"])
        if standing is None or not may_see(who, standing.owner):
            raise not_found(request.match_info["id"])
        return standing

    def _job(self, request: web.Request, who: Identity, job: Job) -> dict[str, Any]:
        path = self._links.sign(f"/api/generations/{job.id}/audio", job.user_id)
        del who
        return job.linked(self._gateway.base_url(request) + path).to_wire()

    def _json(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        response = web.Response(
            body=body, status=status, content_type="application/json", charset="utf-8", headers=headers
        )
        if self._settings.http_compression and len(body) >= COMPRESS_FROM:
            response.enable_compression()
        return response

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every failure as an error answer of the protocol; no traceback leaves the process."""
        try:
            return await handler(request)
        except HarmoniaError as error:
            failure, status = error, STATUSES.get(error.code, 500)
        except ValidationError:
            failure, status = InvalidRequest("The request has a value that cannot be used."), 400
        except web.HTTPException as error:
            code = ErrorCode.NOT_FOUND if error.status == 404 else ErrorCode.INVALID_PAYLOAD
            failure, status = HarmoniaError(error.reason or "Refused.", code=code), error.status
        except Exception:  # noqa: BLE001 - no traceback leaves the process
            _log.exception("A defect: %s %s was not answered.", request.method, request.match_info.route.resource)
            failure, status = HarmoniaError("A defect in the server.", hint="Its log says which."), 500
        self._studio.metrics.failed(failure.code)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return self._json(error_ack(failure), status=status, headers=headers)

    @web.middleware
    async def _preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A browser's question before the real one; `_allow_origin` answers it."""
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers and self._ours(request):
            headers = {
                "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
                "Access-Control-Allow-Headers": "Authorization, Content-Type, Range, If-None-Match",
                "Access-Control-Max-Age": "600",
            }
            return web.Response(status=204, headers=headers)
        return await handler(request)

    async def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        if not self._ours(request):
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and allowed_origin(origin, self._settings.origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = EXPOSED

    def _ours(self, request: web.Request) -> bool:
        """Socket.IO answers for itself, by the same rule."""
        return not request.path.startswith(f"/{self._settings.path.strip('/')}/")


async def _say_no_versions(request: web.Request, response: web.StreamResponse) -> None:
    """Which versions run here is nobody's business."""
    del request
    response.headers.pop("Server", None)
