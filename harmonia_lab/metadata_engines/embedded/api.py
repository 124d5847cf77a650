"""Ollama's HTTP API over the embedded model: what the official `ollama` client needs to chat, to list and to load.

Owns the routes, the form of the answers, and who may ask. Requests are translated in `ollama_options.py`; how the model
is held is the business of `model.py`. Written from https://github.com/ollama/ollama/blob/main/docs/api.md;
where it differs from Ollama:

- `top_logprobs` goes up to the size of the vocabulary, where Ollama stops at 20.
- A prompt longer than the context is refused (400); Ollama drops the oldest messages.
- There is one model. `pull` of another one fails.
- `/api/version` and `model_info` in `/api/show` also tell the threads, the versions and the file's SHA-256.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hmac
import importlib.metadata
import json
import time
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

import harmonia_lab
from harmonia_lab.metadata_engines.embedded.gguf import read_header
from harmonia_lab.metadata_engines.embedded.model import LanguageModel, ModelFailed
from harmonia_lab.metadata_engines.embedded.ollama_options import (
    KEEP_ALIVE_S,
    Refused,
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
    """The routes for one model called `name`, for whoever shows the `token`."""
    api = _Api(model, name)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors, _guard(token)])
    app.add_routes(
        [
            web.get("/api/version", api.version),
            web.get("/api/tags", api.tags),
            web.get("/api/ps", api.ps),
            web.post("/api/show", api.show),
            web.post("/api/pull", api.pull),
            web.post("/api/chat", api.chat),
        ]
    )
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (Refused, ModelFailed) as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason}, status=error.status)


def _guard(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """A web page could reach a loopback port, under its own name after rebinding DNS: it fails on each of these."""
        if request.url.host not in {"127.0.0.1", "localhost"} or "Origin" in request.headers:
            raise Refused(403, "this server answers programs on this machine only")
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(errors="replace"), expected):
            raise Refused(401, "unauthorized")
        return await handler(request)

    return guard


class _Api:
    def __init__(self, model: LanguageModel, name: str) -> None:
        self.model = model
        self.name = name
        self.header = read_header(model.path)
        self._expires = dt.datetime.max.replace(tzinfo=dt.UTC)
        self._timer: asyncio.TimerHandle | None = None
        self._keep(KEEP_ALIVE_S)

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "version": f"{harmonia_lab.__version__}-embedded",
                "xllamacpp": importlib.metadata.version("xllamacpp"),
                "threads": self.model.threads,
            }
        )

    async def tags(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [await self._entry()]})

    async def ps(self, _request: web.Request) -> web.Response:
        if not self.model.running:
            return web.json_response({"models": []})
        loaded = {"size_vram": 0, "context_length": self.model.num_ctx, "expires_at": self._expires.isoformat()}
        return web.json_response({"models": [await self._entry() | loaded]})

    async def show(self, request: web.Request) -> web.Response:
        body = parse_body(await request.read())
        self._check_name(body)
        entry = await self._entry()
        extra = {
            "general.parameter_count": self.header.parameters,
            "harmonia.sha256": entry["digest"],
            "harmonia.threads": self.model.threads,
            "harmonia.xllamacpp": importlib.metadata.version("xllamacpp"),
        }
        return web.json_response(
            {
                "license": self.header.licence or "",
                "template": self.header.metadata.get("tokenizer.chat_template", ""),
                "modified_at": entry["modified_at"],
                "details": entry["details"],
                "model_info": self.header.metadata | extra,
                "capabilities": ["completion"],
            }
        )

    async def pull(self, request: web.Request) -> web.StreamResponse:
        body = parse_body(await request.read())
        known = self._named(body) == self.name
        lines = [
            {"status": "pulling manifest"},
            {"status": "success"} if known else {"error": "pull model manifest: file does not exist"},
        ]
        if body.get("stream") is False:
            return web.json_response(lines[-1], status=200 if known else 500)
        response = _ndjson()
        await response.prepare(request)
        for line in lines:
            await _write(response, line)
        return response

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
        async with self.model.lock:
            self._hold()
            try:
                load_ns = await self.model.load(num_ctx)
                async with contextlib.aclosing(self.model.chat(question)) as chunks:
                    async for chunk in chunks:
                        await answer.add(chunk)
            except ModelFailed as error:
                if not answer.begun:
                    raise
                return await answer.fail(error)
            finally:
                self._keep(keep_alive)
        return await answer.finish(load_ns, time.perf_counter_ns() - started)

    async def _load_or_unload(self, num_ctx: int | None, keep_alive: float) -> web.Response:
        async with self.model.lock:
            self._hold()
            try:
                if keep_alive:
                    await self.model.load(num_ctx)
            finally:
                self._keep(keep_alive)
        message = {"role": "assistant", "content": ""}
        reason = "load" if keep_alive else "unload"
        line = {"model": self.name, "created_at": _now(), "message": message, "done": True, "done_reason": reason}
        return web.json_response(line)

    def _hold(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _keep(self, seconds: float) -> None:
        """Unload after so many seconds; never, when negative."""
        self._hold()
        if seconds == 0:
            self.model.unload()
        elif seconds > 0:
            self._expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
            self._timer = asyncio.get_running_loop().call_later(seconds, self.model.unload)
        else:
            self._expires = dt.datetime.max.replace(tzinfo=dt.UTC)

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

    def _named(self, body: dict[str, Any]) -> Any:
        return body.get("model") or body.get("name")

    def _check_name(self, body: dict[str, Any]) -> None:
        name = self._named(body)
        if not name or not isinstance(name, str):
            raise Refused(400, "model is required")
        if name != self.name:
            raise Refused(404, f"model '{name}' not found")


class _Answer:
    """One chat's answer, in lines as it comes (a request given) or in one piece."""

    def __init__(self, name: str, request: web.Request | None, top: int) -> None:
        self._name = name
        self._request = request
        self._top = top
        self._response: web.StreamResponse | None = None
        self._text: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._timings: dict[str, Any] = {}
        self._reason = "stop"

    @property
    def begun(self) -> bool:
        """Whether the status line is already out, so that an error must be a line."""
        return self._response is not None

    async def add(self, chunk: dict[str, Any]) -> None:
        """One chunk of llama.cpp's."""
        self._timings = chunk.get("timings") or self._timings
        choice = (chunk.get("choices") or [{}])[0]
        self._reason = choice.get("finish_reason") or self._reason
        text = (choice.get("delta") or {}).get("content") or ""
        logprobs = [logprob_entry(entry, self._top) for entry in (choice.get("logprobs") or {}).get("content") or ()]
        if not text and not logprobs:
            return
        if self._request is None:
            self._text.append(text)
            self._logprobs += logprobs
            return
        if self._response is None:
            self._response = _ndjson()
            await self._response.prepare(self._request)
        await _write(self._response, self._line(text, logprobs) | {"done": False})

    async def fail(self, error: ModelFailed) -> web.StreamResponse:
        assert self._response
        await _write(self._response, {"error": str(error)})
        return self._response

    async def finish(self, load_ns: int, total_ns: int) -> web.StreamResponse:
        timings = self._timings
        last = self._line("".join(self._text), self._logprobs) | {
            "done": True,
            "done_reason": self._reason,
            "total_duration": total_ns,
            "load_duration": load_ns,
            "prompt_eval_count": timings.get("prompt_n", 0) + timings.get("cache_n", 0),
            "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6),
            "eval_count": timings.get("predicted_n", 0),
            "eval_duration": int(timings.get("predicted_ms", 0) * 1e6),
        }
        if self._request is None:
            return web.json_response(last)
        if self._response is None:
            self._response = _ndjson()
            await self._response.prepare(self._request)
        await _write(self._response, last)
        return self._response

    def _line(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        line = {"model": self._name, "created_at": _now(), "message": {"role": "assistant", "content": text}}
        return line | {"logprobs": logprobs} if logprobs else line


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")


def _ndjson() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})


async def _write(response: web.StreamResponse, line: dict[str, Any]) -> None:
    await response.write(json.dumps(line).encode() + b"\n")
