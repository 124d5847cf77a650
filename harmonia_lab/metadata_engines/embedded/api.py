"""Ollama's HTTP API for the embedded model: the part that `metadata_engines/ollama/` uses.

Owns the routes, the form of the answers, and access control (not the translation of requests: `ollama_options.py`, nor
the model: `llama.py`). Written from https://github.com/ollama/ollama/blob/main/docs/api.md. Differences from Ollama:

- An answer is always streamed.
- `top_logprobs` goes up to the size of the vocabulary, where Ollama stops at 20.
- A prompt longer than the context is refused (400); Ollama drops the oldest messages.
- There is one model. Its context is fixed, and it stays loaded as long as the process runs.
- A chat without messages, which loads the model, also empties its cache: a song begins with it (`llama.py`).
- With the option `n`, that many answers come one after the other, each with a last line of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hmac
import json
import time
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from harmonia_lab._version import __version__
from harmonia_lab.metadata_engines.embedded.llama import LanguageModel
from harmonia_lab.metadata_engines.embedded.ollama_options import ApiError, logprob_entry, to_llama
from harmonia_lab.storage import cached_digest

__all__ = ["application"]


def application(model: LanguageModel, name: str, token: str) -> web.Application:
    """Return the application that serves one model, called `name`, to clients that send the `token`."""
    api = _Api(model, name)
    app = web.Application(middlewares=[_errors, _guard(model, token)])
    app.router.add_get("/api/version", api.version)
    app.router.add_get("/api/tags", api.tags)
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


def _guard(model: LanguageModel, token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse web pages, which can reach a loopback port, also by DNS rebinding, and clients without the token."""
        if request.url.host not in {"127.0.0.1", "localhost"} or "Origin" in request.headers:
            raise ApiError(403, "this server answers programs on this machine only")
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(errors="replace"), expected):
            raise ApiError(401, "unauthorized")
        model.in_use += 1
        try:
            return await handler(request)
        finally:
            model.in_use -= 1
            model.used_at = time.monotonic()

    return guard


class _Api:
    """The routes."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        self.model = model
        self.name = name
        header = model.header
        self.details = {"parameter_size": header.parameter_size, "quantization_level": header.quantization}

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": f"{__version__}-embedded"})

    async def tags(self, _request: web.Request) -> web.Response:
        digest = await asyncio.to_thread(cached_digest, self.model.path)
        entry = {"name": self.name, "model": self.name, "digest": digest, "details": self.details}
        return web.json_response({"models": [entry]})

    async def show(self, request: web.Request) -> web.Response:
        await self._body(request)
        info = {"general.parameter_count": self.model.header.parameters, "embedded.context_length": self.model.num_ctx}
        return web.json_response({"details": self.details, "model_info": info, "capabilities": ["completion"]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter_ns()
        body = await self._body(request)
        load_ns = await self.model.load()
        if not body.get("messages"):
            await self.model.clear()
            return web.json_response(_line(self.name) | {"done": True, "done_reason": "load", "load_duration": load_ns})
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        chat = to_llama(body)
        answers = [_Answer(self.name) for _ in range(chat.get("n", 1))]
        waiting: list[list[dict[str, Any]]] = [[] for _ in answers]
        try:
            async with contextlib.aclosing(self.model.chat(chat)) as chunks:
                async for chunk in chunks:
                    number = (chunk.get("choices") or [{}])[0].get("index", 0)
                    line = answers[number].add(chunk)
                    if line and number:
                        waiting[number].append(line)
                    elif line:
                        await _send(request, response, line)
        except ApiError as error:
            if not response.prepared:
                raise
            return await _send(request, response, {"error": str(error)})  # the status line has been sent already
        for answer, lines in zip(answers, waiting, strict=True):
            for line in lines:
                await _send(request, response, line)
            await _send(request, response, answer.last(load_ns, time.perf_counter_ns() - started, len(answers)))
        return response

    async def _body(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        if body["model"] != self.name:
            raise ApiError(404, f"model '{body['model']}' not found")
        return body


class _Answer:
    """The lines of the answer to one chat."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._timings: dict[str, Any] = {}
        self._reason = "stop"

    def add(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """Return the line for a chunk of llama.cpp's answer; None for a step of the prefill."""
        self._timings = chunk.get("timings") or self._timings
        choice = (chunk.get("choices") or [{}])[0]
        self._reason = choice.get("finish_reason") or self._reason
        text = (choice.get("delta") or {}).get("content") or ""
        logprobs = [logprob_entry(entry) for entry in (choice.get("logprobs") or {}).get("content") or ()]
        if not text and not logprobs:
            return None
        return _line(self._name, text) | {"done": False} | ({"logprobs": logprobs} if logprobs else {})

    def last(self, load_ns: int, total_ns: int, answers: int) -> dict[str, Any]:
        """Return the last line. answers: how many were written at once; each gets its share of the durations."""
        timings = self._timings
        return _line(self._name) | {
            "done": True,
            "done_reason": self._reason,
            "total_duration": total_ns,
            "load_duration": load_ns,
            "prompt_eval_count": timings.get("prompt_n", 0) + timings.get("cache_n", 0),
            "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6 / answers),
            "eval_count": timings.get("predicted_n", 0),
            "eval_duration": int(timings.get("predicted_ms", 0) * 1e6 / answers),
        }


async def _send(request: web.Request, response: web.StreamResponse, line: dict[str, Any]) -> web.StreamResponse:
    """Send a line of a stream, after its status line. Return the response."""
    if not response.prepared:
        await response.prepare(request)
    await response.write(json.dumps(line).encode() + b"\n")
    return response


def _line(name: str, content: str = "") -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    return {"model": name, "created_at": now, "message": {"role": "assistant", "content": content}}
