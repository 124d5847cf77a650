"""Ollama's HTTP API over the embedded model: what the official `ollama` client needs for chat, logprobs and housekeeping.

Owns the translation between Ollama's terms and llama.cpp's, and who may ask. Runs in the server's process
(`embedded_server.py`) and knows nothing of how the model is held (`embedded_model.py`). Written from
https://github.com/ollama/ollama/blob/main/docs/api.md; where it differs from Ollama:

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
import platform
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

import harmonia_lab
from harmonia_lab.engines.embedded_model import LanguageModel, ModelFailed
from harmonia_lab.engines.gguf import file_digest, read_header

__all__ = ["application"]

MAX_BODY = 2**20
"""Bytes of a request."""

MAX_TOP_LOGPROBS = 1_000_000

KEEP_ALIVE_S = 300.0
"""Ollama's default: the model is unloaded five minutes after the last request."""

_DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.1, "repeat_last_n": 64}
"""Ollama's, which are not llama.cpp's."""

_OPTIONS: dict[str, type | tuple[type, ...]] = {
    "num_predict": int, "num_ctx": int, "seed": int, "top_k": int, "repeat_last_n": int,
    "temperature": (int, float), "top_p": (int, float), "min_p": (int, float), "typical_p": (int, float),
    "repeat_penalty": (int, float), "presence_penalty": (int, float), "frequency_penalty": (int, float),
    "stop": (str, list),
}  # fmt: skip

_BATCH_INVARIANT = {("x86_64", "Q4_1")}
"""Machine and quantisation for which a token's numbers don't depend on what was computed beside it (see `_reuse`)."""


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (_Refused, ModelFailed) as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason}, status=error.status)


def _guard(token: str) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """A web page could reach a loopback port, under its own name after rebinding DNS: it fails on each of these."""
        if request.url.host not in {"127.0.0.1", "localhost"} or "Origin" in request.headers:
            raise _Refused(403, "this server answers programs on this machine only")
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
            raise _Refused(401, "unauthorized")
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
        body = await _body(request)
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
        body = await _body(request)
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
        body = await _body(request)
        self._check_name(body)
        keep_alive = _seconds(body.get("keep_alive"))
        options = _options(body.get("options"))
        num_ctx = min(options["num_ctx"], self.header.context_length) if options.get("num_ctx", 0) > 0 else None
        if not body.get("messages"):
            return await self._load_or_unload(num_ctx, keep_alive)
        question = self._question(body, options)
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
        started = time.perf_counter_ns()
        async with self.model.lock:
            self._hold()
            try:
                load_ns = await self.model.load(num_ctx) if keep_alive else 0
            finally:
                self._keep(keep_alive)
        return web.json_response(
            {
                "model": self.name,
                "created_at": _now(),
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "load" if keep_alive else "unload",
                "load_duration": load_ns,
                "total_duration": time.perf_counter_ns() - started,
            }
        )

    def _question(self, body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """Ollama's request in llama.cpp's terms."""
        for key, feature in (("tools", "tools"), ("think", "thinking")):
            if body.get(key):
                raise _Refused(400, f'"{self.name}" does not support {feature}')
        settings = _DEFAULTS | {key: value for key, value in options.items() if key not in {"num_predict", "num_ctx"}}
        seed = settings.pop("seed", -1)
        question: dict[str, Any] = settings | {
            "messages": _messages(body["messages"]),
            "max_tokens": options["num_predict"] if options.get("num_predict", -1) > 0 else -1,
            "seed": seed if seed >= 0 else -1,
            "cache_prompt": self._reuse(seeded=seed >= 0),
            "stream": True,
            "timings_per_token": True,
            "return_progress": True,  # a chunk per prefill batch, so that a prefill can be stopped
        }
        top = body.get("top_logprobs") or 0
        if not isinstance(top, int) or not 0 <= top <= MAX_TOP_LOGPROBS:
            raise _Refused(400, f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
        if body.get("logprobs"):
            question |= {"logprobs": True, "top_logprobs": max(1, top)}  # llama.cpp gives none at all for 0
        schema = body.get("format")
        if isinstance(schema, dict):
            question["json_schema"] = schema | {"x-guidance": {"whitespace_flexible": False}}
        elif schema == "json":
            question["response_format"] = {"type": "json_object"}
        elif schema:
            raise _Refused(400, 'format must be "json" or a JSON schema')
        return question

    def _reuse(self, *, seeded: bool) -> bool:
        """Whether the prompt's beginning may come from the last request: always, unless a seeded answer could change."""
        return not seeded or (platform.machine(), self.header.quantization) in _BATCH_INVARIANT

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
            "digest": await asyncio.to_thread(file_digest, self.model.path),
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
            raise _Refused(400, "model is required")
        if name != self.name:
            raise _Refused(404, f"model '{name}' not found")


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
        logprobs = [_logprob(entry, self._top) for entry in (choice.get("logprobs") or {}).get("content") or ()]
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


def _logprob(entry: dict[str, Any], top: int = 0) -> dict[str, Any]:
    value = {"token": entry["token"], "logprob": entry["logprob"]}
    return value | {"top_logprobs": [_logprob(other) for other in entry["top_logprobs"]]} if top else value


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _Refused(400, "the body must be a JSON object")
    return body


def _messages(messages: Any) -> list[dict[str, str]]:
    plain = []
    for message in messages if isinstance(messages, list) else [None]:
        if not isinstance(message, dict) or message.get("role") not in {"system", "user", "assistant"}:
            raise _Refused(400, "messages must be a list of {role: system | user | assistant, content}")
        content = message.get("content") or ""
        if not isinstance(content, str):
            raise _Refused(400, "a message's content must be a string")
        plain.append({"role": message["role"], "content": content})
    return plain


def _options(options: Any) -> dict[str, Any]:
    """The options that we know; Ollama ignores the others too."""
    if not isinstance(options or {}, dict):
        raise _Refused(400, "options must be an object")
    known = {key: value for key, value in (options or {}).items() if key in _OPTIONS and value is not None}
    for key, value in known.items():
        if isinstance(value, bool) or not isinstance(value, _OPTIONS[key]):
            raise _Refused(400, f"option {key!r} has the wrong type")
    return known


def _seconds(value: Any) -> float:
    """Ollama's keep_alive: seconds, or a duration in Go's spelling such as "1h30m"; negative means for ever."""
    if value is None:
        return KEEP_ALIVE_S
    if isinstance(value, int | float):
        return float(value)
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    match = re.fullmatch(r"(-?)((?:\d+(?:\.\d+)?(?:ms|s|m|h))+|\d+(?:\.\d+)?)", str(value))
    if not match:
        raise _Refused(400, f"keep_alive {value!r} is no duration")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", match[2]) or [(match[2], "s")]
    return (-1 if match[1] else 1) * sum(float(number) * units[unit] for number, unit in parts)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")


def _ndjson() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})


async def _write(response: web.StreamResponse, line: dict[str, Any]) -> None:
    await response.write(json.dumps(line).encode() + b"\n")
