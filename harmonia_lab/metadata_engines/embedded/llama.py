"""The embedded model: llama.cpp in the server process, on a thread of its own.

Owns the native server object, its settings and its errors (not the form of requests: `ollama_options.py`, nor HTTP:
`api.py`). Two facts (xllamacpp 2026.10) shape it: a load holds the GIL and can't be interrupted; and dropping an
`xllamacpp.Server` before its loop has begun joins a thread that never ends, while holding the GIL. So a load that has
begun is always completed, the server object is never dropped, and the process ends by `os._exit` or a kill.

The same requests in the same order give the same bytes, whatever the process did before, because each song begins from
an empty cache (`clear`), and a static prompt's state is always restored from what the same passes made of it. Within a
song, passes of 64 tokens and eight sequences at once may then share a cache: which cells they take, and with what they
are summed, follows from the requests alone. (With passes of one token, bytes were the same after any other requests;
reading took twice as long.)

Settings and their cost:

- Eight sequences share 2048 cells of one KV cache, so that the answers to one prompt are written in the same passes:
  on one thread of a busy two-core machine 63 tokens/s in all instead of 28 one after the other.
- The prefill reports every 64 tokens, so a cancel takes effect within 0.3 s.
- No flash attention: 120 tokens/s after a prompt of 570 tokens, instead of 77 (Q4_1, one token at a time).
- No warm-up and no fitting to memory: a load takes 0.2 s instead of 0.4 s.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harmonia_lab.metadata_engines.embedded.gguf import read_header
from harmonia_lab.metadata_engines.embedded.launch import remedy
from harmonia_lab.metadata_engines.embedded.ollama_options import ApiError
from harmonia_lab.metadata_engines.embedded.slots import Slots, static_name
from harmonia_lab.storage import read_at

__all__ = ["LanguageModel"]

SMALL_CONTEXT, LARGE_CONTEXT = 2048, 8192
"""Tokens. For SmolLM2-135M, the KV cache takes 23 KB of memory per token. A model of 3 billion parameters or more is
asked for a whole song at once (`metadata_engines/ollama/engine.py`), which needs the larger context."""

PASS = 64
"""Most tokens that are read in one pass of the model."""

SEQUENCES = 8
"""Most answers to one prompt."""


class LanguageModel:
    """The model, which the first request loads. Requests run one at a time, in order. num_ctx: tokens of context.

    states: folder for the states of static prompts; it need not exist.

    in_use: number of HTTP requests that are being answered. used_at: `time.monotonic()` when the last one ended. Raises
    OSError or ValueError as `read_header`.
    """

    def __init__(self, path: Path, threads: int, states: Path) -> None:
        self.path = path
        self.header = read_header(path)
        large = self.header.parameters >= 3e9
        self.num_ctx = min(self.header.context_length, LARGE_CONTEXT if large else SMALL_CONTEXT)
        self.in_use = 0
        self.used_at = time.monotonic()
        self._threads = threads
        self._worker = ThreadPoolExecutor(1)
        self._server: Any = None
        self._slots: Slots | None = None
        self._states = states

    async def load(self) -> int:
        """Load the model, unless it is loaded. Return the nanoseconds spent. Raises ApiError."""
        started = time.perf_counter_ns()
        await asyncio.get_running_loop().run_in_executor(self._worker, self._load)
        return time.perf_counter_ns() - started

    async def clear(self) -> None:
        """Empty the cache, so that the next requests' bytes don't depend on earlier ones. The model must be loaded."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._clear)

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield llama.cpp's chunks for a request in llama.cpp's form. Close the iterator to stop. Raises ApiError.

        `body["static"]`, if it is there, has the messages with which the prompt begins in every song: the cache is
        emptied, and then has their state. The model must be loaded.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        stopped = threading.Event()

        def send(chunk: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)

        work = loop.run_in_executor(self._worker, self._chat, body, send, stopped)
        work.add_done_callback(lambda _: chunks.put_nowait(None))
        try:
            while (chunk := await chunks.get()) is not None:
                yield chunk
            await work  # raises its error
        finally:
            stopped.set()
            work.cancel()

    def _load(self) -> None:
        if self._server:
            return
        log_start = _log_size()
        try:
            self._server, key = _native_server(self.path, self._threads, self.num_ctx, self._states)
            self._slots = Slots(self._server.listening_address, key, SEQUENCES)
        except Exception as error:
            reason = " ".join((_log_since(log_start) or str(error)).split())
            message = f"the model file {self.path.name} could not be loaded: {reason}"
            raise ApiError(500, ". ".join(filter(None, [message, remedy(reason).rstrip(".")]))) from error

    def _clear(self) -> None:
        if self._slots:
            self._slots.erase()

    def _restore(self, messages: Any) -> None:
        """Give the first slot the state of a static prompt, and empty the others."""
        assert self._slots
        name = static_name(messages, self.path)
        self._slots.erase()
        if self._slots.restore(name):
            return
        prompt = {"messages": messages, "max_tokens": 1, "stream": True, "id_slot": 0}
        self._server.handle_chat_completions(prompt, lambda _: False)
        self._slots.save(name, self._states)

    def _chat(self, body: dict[str, Any], send: Callable[[dict[str, Any]], None], stopped: threading.Event) -> None:
        static = body.pop("static", None)
        if static:
            self._restore(static)
        log_start = _log_size()
        failure: dict[str, Any] | None = None

        def receive(chunks: Any) -> bool:
            """Called by llama.cpp for each step of the prefill and for each token. True stops the generation."""
            nonlocal failure
            for chunk in chunks if isinstance(chunks, list) else [chunks]:
                failure = failure or chunk.get("error") or _grammar_error(body, chunk, log_start)
                if failure or stopped.is_set():
                    return True
                send(chunk)
            return False

        try:
            self._server.handle_chat_completions(body, receive)
        except Exception as error:
            raise ApiError(400 if isinstance(error, ValueError) else 500, str(error)) from error
        if failure:
            raise ApiError(failure["code"], failure["message"])


def _native_server(path: Path, threads: int, num_ctx: int, states: Path) -> tuple[Any, str]:
    """Return llama.cpp's server with the model, and the key to its HTTP side, which can't be switched off."""
    import xllamacpp  # noqa: PLC0415 - 0.1 s, in which the HTTP server can't answer

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {"embedded"}
    key = secrets.token_urlsafe(32)
    params.api_keys = [key]
    params.hostnames = ["127.0.0.1"]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = True
    params.slot_save_path = f"{states}/"
    params.n_threads_http = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_ctx = num_ctx
    params.n_parallel = SEQUENCES
    params.kv_unified = True
    params.n_batch = params.n_ubatch = PASS
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.fit_params = False
    params.warmup = False
    params.verbosity = 1  # errors
    return xllamacpp.Server(params), key


def _grammar_error(body: dict[str, Any], chunk: dict[str, Any], log_start: int) -> dict[str, Any] | None:
    """Return the error of a grammar that didn't compile: llama.cpp goes on without it, and only logs the error."""
    choice = (chunk.get("choices") or [{}])[0]
    if "grammar" not in body or not (choice.get("delta", {}).get("content") or choice.get("finish_reason")):
        return None
    _, found, text = _log_since(log_start).partition("llg error")
    return {"code": 400, "message": "invalid format: " + text.splitlines()[0].strip(": ")} if found else None


# Standard error is a file: see `ChildProcess`.
def _log_size() -> int:
    return os.fstat(2).st_size


def _log_since(start: int) -> str:
    return read_at(2, 4096, start).decode("utf-8", "replace")
