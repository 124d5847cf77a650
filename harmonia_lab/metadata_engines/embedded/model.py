"""The server's side of the process that holds the embedded model: start it, send it one request at a time, stop it.

Owns the process and its two pipes (not what runs in it: `llama.py`, nor HTTP: `api.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from harmonia_lab.child_process import python_command
from harmonia_lab.metadata_engines.embedded.ollama_options import ApiError

__all__ = ["LanguageModel", "ModelFailed"]

DEFAULT_CONTEXT = 2048
"""Tokens. For SmolLM2-135M, the KV cache takes 23 KB of memory per token."""

STOP_WITHIN_S = 0.2
"""Seconds that a cancelled request may take to stop; then its process is killed, and the next request loads anew."""

LINE_LIMIT = 64 * 2**20
"""Most bytes of a line from the model's process: log-probabilities of a whole vocabulary take 5 MB."""


class ModelFailed(ApiError):
    """The model refused a request, or its process died."""


class LanguageModel:
    """The model's process, at most one at a time. Callers of `begin`, `load` and `chat` hold the `lock`.

    A caller can be cancelled at any time and never waits: `load` then kills the process; `chat` tells it to stop, and
    kills it if it doesn't.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.lock = asyncio.Lock()
        self.num_ctx = DEFAULT_CONTEXT
        self._process: Process | None = None
        self._loaded = False
        self._stopping: asyncio.Task[None] | None = None
        self._request = 0

    @property
    def running(self) -> bool:
        """Whether a process holds the model or loads it."""
        return self._process is not None and self._process.returncode is None

    async def begin(self, num_ctx: int | None = None) -> Process:
        """Start to load the model, and return before it is loaded. num_ctx: None for the last one."""
        self.num_ctx = num_ctx or self.num_ctx
        self._loaded = False
        command = python_command("harmonia_lab.metadata_engines.embedded.llama")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=LINE_LIMIT)
        _send(self._process, {"path": str(self.path), "threads": self.threads, "num_ctx": self.num_ctx})
        return self._process

    async def load(self, num_ctx: int | None = None) -> int:
        """Load the model, unless it is loaded with that context. Return the nanoseconds spent. Raises ModelFailed."""
        started = time.perf_counter_ns()
        if self._stopping:
            await asyncio.shield(self._stopping)
        if not self.running or (num_ctx and num_ctx != self.num_ctx):
            self.unload()
            await self.begin(num_ctx)
        if not self._loaded:
            assert self._process
            try:
                _checked(await _receive(self._process))
                self._loaded = True
            finally:
                if not self._loaded:
                    self.unload()
        return time.perf_counter_ns() - started

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield llama.cpp's chunks for a request in llama.cpp's form. Close the iterator to stop. Raises ModelFailed.

        The model must be loaded.
        """
        assert self._process
        process = self._process
        self._request += 1
        number = self._request
        _send(process, {"id": number, "chat": body})
        ended = False
        try:
            while not ended:
                message = await _receive(process)
                ended = _ends(message, number)
                _checked(message)
                if not ended:
                    yield message["chunk"]
        finally:
            if not ended:
                self._stopping = asyncio.create_task(self._stop(process, number))

    def unload(self) -> None:
        """Kill the model's process, whatever it is doing."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._process = None

    async def _stop(self, process: Process, number: int) -> None:
        try:
            _send(process, {"cancel": number})
            async with asyncio.timeout(STOP_WITHIN_S):
                while not _ends(await _receive(process), number):
                    pass
        except (TimeoutError, ModelFailed):
            self.unload()
        finally:
            self._stopping = None


def _ends(message: dict[str, Any], number: int) -> bool:
    return message.get("id") == number and "chunk" not in message


def _checked(message: dict[str, Any]) -> None:
    if "error" in message:
        raise ModelFailed(message["error"]["code"], message["error"]["message"])


def _send(process: Process, message: dict[str, Any]) -> None:
    assert process.stdin
    with contextlib.suppress(ConnectionError):  # `_receive` notices a process that died
        process.stdin.write(json.dumps(message).encode() + b"\n")


async def _receive(process: Process) -> dict[str, Any]:
    assert process.stdout
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        status = await process.wait()
        raise ModelFailed(500, f"the model's process ended with status {status}")
    message: dict[str, Any] = json.loads(line)
    return message
