"""Ollama's HTTP API for the embedded model: the part that the official `ollama` client needs to chat, list and load.

Owns the routes, the form of the answers, and access control (not the translation of requests: `ollama_options.py`, nor
the model's process: `model.py`). Written from https://github.com/ollama/ollama/blob/main/docs/api.md. Differences from
Ollama:

- `top_logprobs` goes up to the size of the vocabulary, where Ollama stops at 20.
- A prompt longer than the context is refused (400); Ollama drops the oldest messages.
- There is one model, and no `pull`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from harmonia_lab._version import __version__
from harmonia_lab.metadata_engines.embedded.gguf import read_header
from harmonia_lab.metadata_engines.embedded.model import LanguageModel, ModelFailed
from harmonia_lab.metadata_engines.embedded.ollama_options import (
    KEEP_ALIVE_S,
    ApiError,
    keep_alive_seconds,
    known_options,
    logprob_entry,
    parse_body,
    to_llama,
)
from harmonia_lab.storage import cached_digest

__all__ = ["application"]

MAX_BODY = 2**20
"""Bytes of a request."""


def application(model: LanguageModel, name: str, token: str) -> web.Application:
    """Return the application that serves one model, called `name`, to clients that send the `token`."""
    api = _Api(model, name)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors, _guard(token)])
    app.router.add_get("/api/version", api.version)
    app.router.add_get("/api/tags", api.tags)
    app.router.add_get("/api/ps", api.ps)
    app.router.add_post("/api/show", api.show)
    app.router.add_post("/api/chat", api.chat)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason}, status=error.status)


def _guard(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse web pages, which can reach a loopback port, also by DNS rebinding, and clients without the token."""
        if request.url.host not in {"127.0.0.1", "localhost"} or "Origin" in request.headers:
            raise ApiError(403, "this server answers programs on this machine only")
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(errors="replace"), expected):
            raise ApiError(401, "unauthorized")
        return await handler(request)

    return guard


class _Api:
    """The routes. One chat runs at a time: `LanguageModel.lock`."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        self.model = model
        self.name = name
        self.header = read_header(model.path)
        self._timer: asyncio.TimerHandle | None = None
        self._schedule_unload(KEEP_ALIVE_S)

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": f"{__version__}-embedded"})

    async def tags(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [await self._entry()]})

    async def ps(self, _request: web.Request) -> web.Response:
        loaded = {"size_vram": 0, "context_length": self.model.num_ctx}
        return web.json_response({"models": [await self._entry() | loaded] if self.model.running else []})

    async def show(self, request: web.Request) -> web.Response:
        self._check_name(parse_body(await request.read()))
        entry = await self._entry()
        return web.json_response(
            {
                "license": self.header.licence or "",
                "template": self.header.metadata.get("tokenizer.chat_template", ""),
                "modified_at": entry["modified_at"],
                "details": entry["details"],
                "model_info": self.header.metadata | {"general.parameter_count": self.header.parameters},
                "capabilities": ["completion"],
            }
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter_ns()
        body = parse_body(await request.read())
        self._check_name(body)
        keep_alive = keep_alive_seconds(body.get("keep_alive"))
        options = known_options(body.get("options"))
        num_ctx = min(options["num_ctx"], self.header.context_length) if options.get("num_ctx", 0) > 0 else None
        if not body.get("messages"):
            return await self._load_or_unload(num_ctx, keep_alive)
        question = to_llama(body, options)
        answer = _Answer(self.name, request if body.get("stream", True) else None, body.get("top_logprobs") or 0)
        async with self._model_in_use(keep_alive):
            try:
                load_ns = await self.model.load(num_ctx)
                async with contextlib.aclosing(self.model.chat(question)) as chunks:
                    async for chunk in chunks:
                        await answer.add(chunk)
            except ModelFailed as error:
                if not answer.response:
                    raise
                return await answer.send({"error": str(error)})  # the status line has been sent already
        return await answer.finish(load_ns, time.perf_counter_ns() - started)

    async def _load_or_unload(self, num_ctx: int | None, keep_alive: float) -> web.Response:
        async with self._model_in_use(keep_alive):
            if keep_alive:
                await self.model.load(num_ctx)
        return web.json_response(_line(self.name) | {"done": True, "done_reason": "load" if keep_alive else "unload"})

    @contextlib.asynccontextmanager
    async def _model_in_use(self, keep_alive: float) -> AsyncIterator[None]:
        async with self.model.lock:
            self._cancel_unload()
            try:
                yield
            finally:
                self._schedule_unload(keep_alive)

    def _cancel_unload(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _schedule_unload(self, seconds: float) -> None:
        """Unload the model after so many seconds; never, if negative."""
        self._cancel_unload()
        if seconds == 0:
            self.model.unload()
        elif seconds > 0:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.model.unload)

    async def _entry(self) -> dict[str, Any]:
        stat = self.model.path.stat()
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC).isoformat(),
            "size": stat.st_size,
            "digest": await asyncio.to_thread(cached_digest, self.model.path),
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": self.header.family,
                "families": [self.header.family],
                "parameter_size": self.header.parameter_size,
                "quantization_level": self.header.quantization,
            },
        }

    def _check_name(self, body: dict[str, Any]) -> None:
        name = body.get("model") or body.get("name")
        if not name or not isinstance(name, str):
            raise ApiError(400, "model is required")
        if name != self.name:
            raise ApiError(404, f"model '{name}' not found")


class _Answer:
    """The answer to one chat: streamed in lines to `request`, or, if that is None, in one piece.

    response: the stream, once its status line has been sent.
    """

    def __init__(self, name: str, request: web.Request | None, top_logprobs: int) -> None:
        self._name = name
        self._request = request
        self._top_logprobs = top_logprobs
        self.response: web.StreamResponse | None = None
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []
        self._timings: dict[str, Any] = {}
        self._reason = "stop"

    async def add(self, chunk: dict[str, Any]) -> None:
        """Add a chunk of llama.cpp's answer."""
        self._timings = chunk.get("timings") or self._timings
        choice = (chunk.get("choices") or [{}])[0]
        self._reason = choice.get("finish_reason") or self._reason
        self._text += (choice.get("delta") or {}).get("content") or ""
        entries = (choice.get("logprobs") or {}).get("content") or ()
        self._logprobs += [logprob_entry(entry, self._top_logprobs) for entry in entries]
        if self._request and (self._text or self._logprobs):
            await self.send(self._take() | {"done": False})

    async def finish(self, load_ns: int, total_ns: int) -> web.StreamResponse:
        timings = self._timings
        last = self._take() | {
            "done": True,
            "done_reason": self._reason,
            "total_duration": total_ns,
            "load_duration": load_ns,
            "prompt_eval_count": timings.get("prompt_n", 0) + timings.get("cache_n", 0),
            "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6),
            "eval_count": timings.get("predicted_n", 0),
            "eval_duration": int(timings.get("predicted_ms", 0) * 1e6),
        }
        return await self.send(last) if self._request else web.json_response(last)

    async def send(self, line: dict[str, Any]) -> web.StreamResponse:
        """Send a line of the stream. Return the response."""
        if self.response is None:
            assert self._request
            self.response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await self.response.prepare(self._request)
        await self.response.write(json.dumps(line).encode() + b"\n")
        return self.response

    def _take(self) -> dict[str, Any]:
        """Return a line with the text and log-probabilities that have not been sent."""
        line = _line(self._name, self._text) | ({"logprobs": self._logprobs} if self._logprobs else {})
        self._text, self._logprobs = "", []
        return line


def _line(name: str, content: str = "") -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    return {"model": name, "created_at": now, "message": {"role": "assistant", "content": content}}
