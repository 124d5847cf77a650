"""What every HTTP call goes through: its line in the audit log, encryption, origins, and its errors as the protocol's.

Owns the status of each error, how late a refusal is sent, and the form of an answer. `http.py` has the routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.log_context import about
from harmonia_lab.protocol.codec import error_ack
from harmonia_lab.server.audit import Audit
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.origins import Origins
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.webhook import Webhook
from harmonia_lab.store.metrics import Metrics

__all__ = ["Call", "HttpRules", "current_call", "encoded"]

STATUSES = {
    ErrorCode.INVALID_PAYLOAD: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CANCEL_FAILED: 409,
    ErrorCode.NOT_RECOVERABLE: 409,
    ErrorCode.QUARANTINED: 409,
    ErrorCode.QUEUE_FULL: 429,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.QUOTA_EXCEEDED: 507,
    ErrorCode.STORAGE_FULL: 507,
    ErrorCode.STORAGE_LOCKED: 503,
}
"""HTTP status by error code. Any other code is 500."""

_CODES = {403: ErrorCode.UNAUTHORIZED, 404: ErrorCode.NOT_FOUND}
"""Error code by the status of an error that aiohttp raises. Any other status is INVALID_PAYLOAD."""

EXPOSED_HEADERS = "ETag, Content-Range, Content-Length, Accept-Ranges, Location"
"""Headers that a page of an allowed origin may read."""

CLIENT_CLOSED_REQUEST = 499

COMPRESS_FROM = 1024
"""Bytes of JSON from which an answer is compressed."""

REFUSALS = (401, 403, 404, 405, 429)
REFUSAL_DELAY_S = 0.25
"""Seconds by which a call beyond a limit is answered later, and with it the next one of its connection."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


@dataclass
class Call:
    """What is known of the call that a task answers. identity: of its token or link. code: of the error, if any.
    with_user: whom it shares with, or whose tokens it revokes. sound: the id of the sound that it is about."""

    identity: Identity | None = None
    code: str | None = None
    with_user: str | None = None
    sound: str | None = None


_CALL: ContextVar[Call] = ContextVar("_CALL")


def current_call() -> Call:
    """Return the call that this task answers."""
    return _CALL.get()


def encoded(value: Any) -> bytes:
    """Return plain JSON values as an answer's body."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class HttpRules:
    """`install(app)`, then `answer(…)` and `json(…)`."""

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics,
        audit: Audit,
        addresses: ClientAddresses,
        webhook: Webhook,
        origins: Origins,
    ) -> None:
        self._settings, self._metrics, self._audit, self._addresses = settings, metrics, audit, addresses
        self._webhook, self._origins = webhook, origins
        self._refusals = TokenBucket(*settings.rates.messages)
        """By address. Beyond it, refusals are delayed."""
        self.sent_bytes = 0
        """Bytes of the bodies of answers, but for Socket.IO's."""

    def install(self, app: web.Application) -> None:
        app.middlewares.extend([self._audited, self._preflight, self._errors, self._encrypted])
        app.on_response_prepare.extend([_hide_versions, self._allow_origin])

    def json(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        return self.answer(encoded(value), status=status, headers=headers)

    def answer(self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        """Return the answer with a body of JSON."""
        response = web.Response(
            body=body, status=status, content_type="application/json", charset="utf-8", headers=headers
        )
        if self._settings.http_compression and len(body) >= COMPRESS_FROM:
            response.enable_compression()
        return response

    @web.middleware
    async def _audited(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log the call. Of Socket.IO's own, only those that were refused: its connections log themselves."""
        call, response = Call(), None
        _CALL.set(call)
        try:
            with about(request.match_info.get("id")):
                response = await handler(request)
            return response
        finally:
            status = CLIENT_CLOSED_REQUEST if response is None else response.status
            self._count(request, response, call)
            if not self._is_socketio(request) or (response is not None and status >= 400):
                self._audit.call(request, status, call.identity, call.code, call.with_user, call.sound)

    def _count(self, request: web.Request, response: web.StreamResponse | None, call: Call) -> None:
        if not self._is_socketio(request):
            resource = request.match_info.route.resource
            outcome = call.code or ("gone" if response is None else "ok" if response.status < 400 else "refused")
            self._metrics.count("requests_total", resource.canonical if resource else "unknown", outcome)
            if response is not None and request.method != "HEAD":
                self.sent_bytes += response.content_length or 0
        elif response is not None and response.status >= 400 and "sid" not in request.query:
            origin = request.headers.get("Origin")
            if origin is not None and not self._origins.allow(origin):
                self._metrics.count("refused_connections_total", "origin")

    @web.middleware
    async def _encrypted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse whoever comes unencrypted past the trusted proxy."""
        if not self._settings.is_encrypted_from(request.remote):
            raise web.HTTPForbidden(reason="Not encrypted: come by the proxy's address.")
        return await handler(request)

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer every failure with the protocol's error, without a traceback."""
        headers: dict[str, str] = {}
        try:
            return await handler(request)
        except HarmoniaError as error:
            failure, status = error, STATUSES.get(error.code, 500)
            if status == 401 and current_call().identity is not None:
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
            self._webhook.tell(failure.code, where="an HTTP call")
        return await self._refused(request, failure, status, headers)

    async def _refused(
        self, request: web.Request, failure: HarmoniaError, status: int, headers: dict[str, str]
    ) -> web.Response:
        self._metrics.failed(failure.code)
        current_call().code = str(failure.code)
        if status in REFUSALS and not (status != 429 and self._refusals.take(self._addresses.of(request))):
            await asyncio.sleep(REFUSAL_DELAY_S)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if "retryAfter" in failure.details:
            headers["Retry-After"] = str(math.ceil(failure.details["retryAfter"]))
        response = self.json(error_ack(failure), status=status, headers=headers)
        if status == 408:
            response.force_close()  # the rest of the body may still come
        return response

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
        if origin is not None and self._origins.allow(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    def _is_socketio(self, request: web.Request) -> bool:
        """Return whether Socket.IO answers the request; it applies the same rule for origins itself."""
        return request.path.startswith(f"/{self._settings.path.strip('/')}/")


async def _hide_versions(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
