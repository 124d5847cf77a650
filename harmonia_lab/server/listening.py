"""Listening tests over HTTP: the page, and for invited listeners the test, its sounds and the place for their answers.

Owns the routes and who may call them. A listener's token (role `listener:ID`) opens one test and nothing else of the
server (`auth.Tokens.check`); no other token opens a test, since who made it must not take it. The page itself is the
same for every test and everybody, and says nothing: its script asks for the test with the token, which is in the link's
fragment. `listening/home.py` keeps tests and answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from harmonia_lab.errors import InvalidRequest, Refused
from harmonia_lab.listening.answers import MAX_BYTES
from harmonia_lab.listening.home import ListeningHome
from harmonia_lab.listening.page import served_page, served_policy
from harmonia_lab.server.auth import PROCESS_USER, Identity, Tokens
from harmonia_lab.server.http_rules import HttpRules, current_call
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.settings import ServerSettings

__all__ = ["ListeningRoutes"]

ANSWERS = (0.2, 10)
"""Answer sets that one listener sends: per second on average, and at once."""


class ListeningRoutes:
    """`routes()` are those of listening tests."""

    def __init__(
        self,
        tests: ListeningHome,
        settings: ServerSettings,
        tokens: Tokens,
        rules: HttpRules,
        authenticate: Callable[[web.Request], Identity],
        count_open_call: Callable[[web.Request], None],
    ) -> None:
        self._tests, self._settings, self._tokens, self._rules = tests, settings, tokens, rules
        self._authenticate, self._count_open_call = authenticate, count_open_call
        self._calls = TokenBucket(*settings.rates.messages)
        self._answers = TokenBucket(*ANSWERS)

    def routes(self) -> list[web.RouteDef]:
        one = "/api/listening/{test:[0-9a-f]{1,64}}"
        return [
            web.get("/listen/{test:[0-9a-f]{1,64}}", self._page),
            web.get("/api/listening", self._list),
            web.get(one, self._show),
            web.get(one + "/sounds/{sound:[a-z0-9]{1,16}}", self._sound),
            web.post(one + "/answers", self._keep),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        """Answer with the page, whether there is such a test or not."""
        self._count_open_call(request)
        headers = {
            "Content-Security-Policy": served_policy(),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        return web.Response(body=served_page(), content_type="text/html", charset="utf-8", headers=headers)

    async def _list(self, request: web.Request) -> web.Response:
        """Answer with the tests of this home, for an admin or the server's own process."""
        identity = self._authenticate(request)
        if not identity.is_admin and identity.user != PROCESS_USER:
            raise Refused("Only an admin may see which listening tests there are.")
        tests = await asyncio.to_thread(self._tests.listed)
        return self._rules.json({"ok": True, "tests": [each.to_json() for each in tests]})

    async def _show(self, request: web.Request) -> web.Response:
        test_id = self._invited(request)[1]
        test = await asyncio.to_thread(self._tests.public, test_id)
        return self._rules.json({"ok": True, "test": test})

    async def _sound(self, request: web.Request) -> web.Response:
        identity, test_id = self._invited(request)
        data = await asyncio.to_thread(self._tests.sound, test_id, request.match_info["sound"])
        self._tokens.check_not_revoked(identity)
        kind = "audio/flac" if data[:4] == b"fLaC" else "audio/mpeg"
        headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=data, content_type=kind, headers=headers)

    async def _keep(self, request: web.Request) -> web.Response:
        """Keep the body, an answer set. The listener is the token's user, whatever the body says."""
        identity, test_id = self._invited(request)
        self._answers.require(identity.user, "answers")
        plain = await self._body(request)
        self._tokens.check_not_revoked(identity)
        new = await asyncio.to_thread(self._tests.keep, test_id, identity.user, plain)
        return self._rules.json({"ok": True, "kept": new}, status=201 if new else 200)

    def _invited(self, request: web.Request) -> tuple[Identity, str]:
        """Return the listener and the test. Raise Refused (UNAUTHORIZED) unless the token opens this one."""
        header, test_id = request.headers.get("Authorization", ""), request.match_info["test"]
        identity = self._tokens.check_any(header.removeprefix("Bearer ") if header.startswith("Bearer ") else "")
        current_call().identity = identity
        self._calls.require(identity.user, "calls")
        if test_id not in identity.listening_tests:
            raise Refused(
                "The token isn't an invitation to this listening test.", hint="Open the link as you were given it."
            )
        return identity, test_id

    async def _body(self, request: web.Request) -> Any:
        """Raise InvalidRequest for too much or what is no JSON, HTTPRequestTimeout if it doesn't come."""
        if (request.content_length or 0) > MAX_BYTES:
            raise InvalidRequest(f"Answers have at most {MAX_BYTES // 1024} KiB.")
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                text = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        if len(text) > MAX_BYTES:
            raise InvalidRequest(f"Answers have at most {MAX_BYTES // 1024} KiB.")
        try:
            return json.loads(text.decode())
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is not JSON.") from None
