"""A fake Ollama, over real HTTP.

`FakeOllama` is an HTTP server on a free loopback port. It has Ollama's API and sends scripted answers:

    with FakeOllama(["Hello", Reply("half a sentence", fault="reset")]) as server:
        client = ollama.Client(server.url)
        client.chat(server.model, [{"role": "user", "content": "Hi"}]).message.content  # "Hello"
        server.chats[0]["messages"]  # the request

A function instead of a list answers by the request: `FakeOllama(lambda body: body["messages"][-1]["content"])`.
For a model that ignores `format`, script prose, or JSON between Markdown fences. A server that refuses, is busy, slow
or wants a key has `refusals`; with `tls`, it speaks HTTPS. It is also a proxy: for `HTTP_PROXY=server.url`, it answers
in place of any server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web
from aiohttp.typedefs import Handler

__all__ = ["FakeModel", "FakeOllama", "Fault", "Refusal", "Reply"]

Fault = Literal["hang", "stall", "reset", "cut", "error", "junk", "html", "html_502"]
"""A failure of an answer.

hang: the server never answers. html: a web page with status 200, as from a captive portal; html_502: with status 502,
as from a proxy. The others come after half of a streamed answer, or another part of it (`Reply.fault_after`). stall:
the server sends nothing more. reset: it resets the connection. cut: it closes the connection, as if it was killed.
error: an error line. junk: a line that isn't JSON.
"""

_PAGE = "<!DOCTYPE html><html><body><h1>Please sign in</h1></body></html>"
VERSION = "0.12.11"
"""Of the Ollama whose API the fake has."""

_TIMESTAMP = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Reply:
    """One answer to a chat.

    text: streamed word by word (chunks are not tokens), or the list of its chunks. thinking: comes before it, as
    `message.thinking`, word by word; with it, the answer ends after `num_predict` chunks, thoughts included, as a
    server's does after as many tokens. load_s: seconds until the first line, sent as `load_duration`. first_token_s:
    seconds until the first line, of reading the prompt. piece_s: seconds before each later line, of writing it.
    done_reason: `length` for a truncated answer. fault_after: the part of the answer that comes before the fault, 0…1;
    at least one line.
    """

    text: str | list[str] = ""
    thinking: str = ""
    done_reason: str = "stop"
    load_s: float = 0.0
    first_token_s: float = 0.0
    piece_s: float = 0.0
    fault: Fault | None = None
    fault_after: float = 0.5

    def messages(self) -> list[dict[str, str]]:
        """Return the messages of a stream."""
        pieces = _words(self.text) if isinstance(self.text, str) else self.text
        thoughts = [{"role": "assistant", "content": "", "thinking": word} for word in _words(self.thinking)]
        return thoughts + [{"role": "assistant", "content": piece} for piece in pieces]

    def within(self, num_predict: int | None) -> tuple[list[dict[str, str]], str]:
        """Return the messages of a stream that may have so many tokens, and why it ends."""
        messages = self.messages()
        if not self.thinking or num_predict is None or len(messages) <= num_predict:
            return messages, self.done_reason
        return messages[:num_predict], "length"


@dataclass(frozen=True)
class Refusal:
    """An answer with an HTTP status instead of the one asked for. body: JSON, or text as it is. delay_s: before it.

    status None: the answer that was asked for, after the delay.
    """

    status: int | None = None
    body: dict[str, Any] | str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class FakeModel:
    """A model in the answers to `show` and `list`. context_length: tokens. template: its chat template.
    think_values: of a request's `think` that it takes; for another, it answers HTTP 400. None: all.
    """

    parameter_size: str = "3.2B"
    quantization: str = "Q4_K_M"
    family: str = "llama"
    capabilities: tuple[str, ...] = ("completion",)
    context_length: int = 4096
    template: str = ""
    think_values: tuple[bool | str, ...] | None = None


class FakeOllama:
    """A context manager; inside, `stop` and `start` take the server down and up again on the same port.

    answers: one per chat, in order, or a function of the request's body (called in the server's thread). A chat without
    an answer gets an HTTP 500. models: the installed ones. pullable: those that `pull` can add; any other pull fails as
    Ollama's does, with an error line.

    refusals: by path, in order, before the server answers requests for that path (`itertools.repeat` for all of them).
    tls: a server's context. host: the address to listen on. version: of Ollama.

    requests: (path, body) of all requests so far; headers: those of each, names in lower case. loaded: names of the
    models in memory.
    """

    def __init__(
        self,
        answers: Iterable[Reply | str] | Callable[[dict[str, Any]], Reply | str] = (),
        *,
        models: Mapping[str, FakeModel] | None = None,
        pullable: Mapping[str, FakeModel] | None = None,
        refusals: Mapping[str, Iterable[Refusal]] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.models = dict(models) if models is not None else {"fake:3b": FakeModel()}
        self.pullable = dict(pullable or {})
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self._refusals = {path: iter(listed) for path, listed in (refusals or {}).items()}
        self._tls, self._host = tls, host
        self.loaded: set[str] = set()
        rest = iter(()) if callable(answers) else iter(answers)
        self._answer = answers if callable(answers) else lambda _body: next(rest)
        self._port = 0
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self._port}"

    @property
    def model(self) -> str:
        """The name of the first model."""
        return next(iter(self.models))

    @property
    def chats(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far, without those that only load or unload a model."""
        return [body for path, body in self.requests if path == "/api/chat" and body.get("messages")]

    def __enter__(self) -> Self:
        self._reserve()
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        if self._socket:
            self._socket.close()

    def start(self) -> None:
        """Listen (again)."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="FakeOllama", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """End every answer; connections are refused until `start`."""
        if self._thread and self._loop:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()
            self._thread = self._loop = None
            self._reserve()

    def _reserve(self) -> None:
        """Bind the port without listening: no other program gets it, and connections are refused."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self._host, self._port))
        self._port = self._socket.getsockname()[1]

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        app = web.Application(middlewares=[self._refuse])
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/show", self._show)
        app.router.add_post("/api/pull", self._pull)
        app.router.add_post("/api/chat", self._chat)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        assert self._socket
        await web.SockSite(runner, self._socket, ssl_context=self._tls).start()
        ready.set()
        await self._end.wait()
        # Over TLS, a transport that is closed waits for its peer to agree, and would outlive this event loop.
        open_now = [connection.transport for connection in runner.server.connections] if runner.server else []
        await runner.cleanup()
        for transport in open_now:
            if transport is not None:
                with contextlib.suppress(AttributeError):  # Python 3.11.2's: one of TLS that has met its end already
                    transport.abort()
        await asyncio.sleep(0)  # the turn in which an aborted transport closes its socket

    @web.middleware
    async def _refuse(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = next(self._refusals.get(request.path, iter(())), None)
        if refusal is None:
            return await handler(request)
        await asyncio.sleep(refusal.delay_s)
        if refusal.status is None:
            return await handler(request)
        await self._record(request)
        if isinstance(refusal.body, str):
            kind = "text/html" if refusal.body.startswith("<") else "text/plain"
            text = refusal.body
            return web.Response(text=text, content_type=kind, status=refusal.status, headers=refusal.headers)
        return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)

    async def _version(self, request: web.Request) -> web.Response:
        await self._record(request)
        return web.json_response({"version": VERSION})

    async def _tags(self, request: web.Request) -> web.Response:
        await self._record(request)
        return web.json_response({"models": [self._entry(name) for name in self.models]})

    async def _ps(self, request: web.Request) -> web.Response:
        await self._record(request)
        return web.json_response({"models": [self._entry(name) | {"size_vram": 0} for name in sorted(self.loaded)]})

    async def _show(self, request: web.Request) -> web.Response:
        name = (await self._record(request)).get("model", "")
        if name not in self.models:
            return _error(404, f"model '{name}' not found")
        model = self.models[name]
        info = {"general.architecture": model.family, f"{model.family}.context_length": model.context_length}
        return web.json_response(
            {
                "modified_at": _TIMESTAMP,
                "details": self._entry(name)["details"],
                "model_info": info,
                "capabilities": list(model.capabilities),
                "template": model.template,
            }
        )

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        body = await self._record(request)
        name = body.get("model", "")
        lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if name not in self.models | self.pullable:
            lines.append({"error": "pull model manifest: file does not exist"})
        else:
            digest = _digest(name)
            part = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": 1000}
            lines += [part | {"completed": completed} for completed in (0, 500, 1000)]
            lines += [{"status": "verifying sha256 digest"}, {"status": "success"}]
            self.models[name] = self.models.get(name) or self.pullable[name]
        return await _stream(request, lines)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._record(request)
        name = body.get("model", "")
        if name not in self.models:
            return _error(404, f"model '{name}' not found")
        base = {"model": name, "created_at": _TIMESTAMP, "message": {"role": "assistant", "content": ""}}
        accepted = self.models[name].think_values
        if accepted is not None and "think" in body and body["think"] not in accepted:
            return _error(400, f"think value {json.dumps(body['think'])} is not supported for this model")
        if not body.get("messages"):
            reason = "unload" if body.get("keep_alive") == 0 else "load"
            self._load_or_unload(body)
            return web.json_response(base | {"done": True, "done_reason": reason})
        try:
            answer = self._answer(body)
        except StopIteration:
            return _error(500, "FakeOllama has no answer left for this chat")
        reply = Reply(answer) if isinstance(answer, str) else answer
        await asyncio.sleep(reply.load_s + reply.first_token_s)
        self._load_or_unload(body)
        messages, done_reason = reply.within(body.get("options", {}).get("num_predict"))
        streamed = body.get("stream", True)
        lines: list[dict[str, Any]] = [base | {"message": message, "done": False} for message in messages]
        if reply.fault:
            before = lines[: max(1, int(len(lines) * reply.fault_after))] if streamed else []
            return await _fail(request, before, reply.fault, reply.piece_s)
        last = base | {
            "done": True,
            "done_reason": done_reason,
            "total_duration": int(reply.load_s * 1e9) + 20_000_000,
            "load_duration": int(reply.load_s * 1e9),
            "prompt_eval_count": sum(len(message["content"].split()) for message in body["messages"]),
            "prompt_eval_duration": 10_000_000,
            "eval_count": len(lines),
            "eval_duration": 10_000_000,
        }
        lines = [*lines, last] if streamed else [last | {"message": _joined(messages)}]
        return await _stream(request, lines, reply.piece_s) if streamed else web.json_response(lines[0])

    async def _record(self, request: web.Request) -> dict[str, Any]:
        """Add the request to `requests`. Return its body."""
        body = json.loads(await request.read() or b"{}")
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.requests.append((request.path, body))
        return body if isinstance(body, dict) else {}

    def _load_or_unload(self, body: dict[str, Any]) -> None:
        (self.loaded.discard if body.get("keep_alive") == 0 else self.loaded.add)(body["model"])

    def _entry(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        return {
            "name": name,
            "model": name,
            "modified_at": _TIMESTAMP,
            "size": 2_000_000_000,
            "digest": _digest(name),
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": model.family,
                "families": [model.family],
                "parameter_size": model.parameter_size,
                "quantization_level": model.quantization,
            },
        }


async def _fail(request: web.Request, before: list[dict[str, Any]], fault: Fault, piece_s: float) -> web.StreamResponse:
    """Send a part of an answer, and then the fault."""
    if fault in {"html", "html_502"}:
        return web.Response(text=_PAGE, content_type="text/html", status=200 if fault == "html" else 502)
    if fault == "hang":
        await asyncio.Event().wait()
    if fault == "error" and not before:
        return _error(500, "the model's runner has stopped")
    response = await _stream(request, before, piece_s)
    if fault == "stall":
        await asyncio.Event().wait()
    assert request.transport
    if fault == "reset":
        linger = struct.pack("ii", 1, 0)  # on, 0 s: close sends a RST
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if fault in {"reset", "cut"}:
        request.transport.abort()
    else:
        lines = {"error": b'{"error": "the model\'s runner has stopped"}\n', "junk": b"%!PS this is not JSON\n"}
        await response.write(lines[fault])
    return response


async def _stream(request: web.Request, lines: list[dict[str, Any]], piece_s: float = 0.0) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for number, line in enumerate(lines):
        if number and piece_s:
            await asyncio.sleep(piece_s)
        await response.write(json.dumps(line).encode() + b"\n")
    return response


def _joined(messages: list[dict[str, str]]) -> dict[str, str]:
    """Return one message with the text and the thinking of all."""
    thinking = "".join(message.get("thinking", "") for message in messages)
    whole = {"role": "assistant", "content": "".join(message["content"] for message in messages)}
    return whole | {"thinking": thinking} if thinking else whole


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
