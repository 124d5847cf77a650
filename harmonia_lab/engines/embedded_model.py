"""The process that holds the embedded model, as the server sees it: start it, hand it one request at a time, stop it.

What runs in that process is `embedded_llama.py`; what the outside world says to the server is `embedded_api.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

__all__ = ["LanguageModel", "ModelFailed"]

DEFAULT_CONTEXT = 2048
"""Tokens. The cache takes 46 KB of memory a token for SmolLM2-135M."""

STOP_WITHIN_S = 0.2
"""How long a cancelled request may take to stop by itself. After that its process is killed, and the next one loads anew."""

LINE_LIMIT = 64 * 2**20
"""Bytes of one line from the model's process: a whole vocabulary with its log-probabilities takes 5 MB."""


class ModelFailed(Exception):
    """The model refused a request, or its process died. status: the HTTP status that says so."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class LanguageModel:
    """The model's process, at most one at a time. `load` and `chat` need the `lock`; the others don't.

    A caller that is cancelled never waits and leaves nothing half-done behind: in a load the process is killed; in a
    chat it is told to stop, and killed if it doesn't.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.lock = asyncio.Lock()
        self.num_ctx = DEFAULT_CONTEXT
        self._process: asyncio.subprocess.Process | None = None
        self._loaded = False
        self._stopping: asyncio.Task[None] | None = None
        self._request = 0

    @property
    def running(self) -> bool:
        """Whether a process holds the model, or is about to."""
        return self._process is not None and self._process.returncode is None

    async def begin(self, num_ctx: int | None = None) -> None:
        """Start to load, without waiting for the end of it. No num_ctx: the last one."""
        self.num_ctx = num_ctx or self.num_ctx
        self._loaded = False
        command = [sys.executable, "-P", "-m", "harmonia_lab.engines.embedded_llama"]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT
        )
        self._send({"path": str(self.path), "threads": self.threads, "num_ctx": self.num_ctx})

    async def load(self, num_ctx: int | None = None) -> int:
        """Nanoseconds that it took; next to nothing when the model is there with that context. Raises ModelFailed."""
        started = time.perf_counter_ns()
        if self._stopping:
            await asyncio.shield(self._stopping)
        if not self.running or (num_ctx and num_ctx != self.num_ctx):
            self.unload()
            await self.begin(num_ctx)
        if not self._loaded:
            try:
                answer = await self._receive()
            except BaseException:
                self.unload()
                raise
            if "error" in answer:
                self.unload()
                raise ModelFailed(answer["error"]["message"])
            self._loaded = True
        return time.perf_counter_ns() - started

    async def chat(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """llama.cpp's chunks for a request in llama.cpp's terms. Close the iterator to stop. Raises ModelFailed."""
        self._request += 1
        number = self._request
        self._send({"id": number, "chat": body})
        ended = False
        try:
            while True:
                message = await self._receive()
                ended = message.get("id") == number and "chunk" not in message
                if "error" in message:
                    raise ModelFailed(message["error"]["message"], message["error"].get("code", 500))
                if ended:
                    return
                yield message["chunk"]
        finally:
            if not ended and self.running:
                self._stopping = asyncio.create_task(self._stop(number))

    def unload(self) -> None:
        """End the model's process, whatever it is doing."""
        if self._process and self._process.returncode is None:
            self._process.kill()
        self._process = None

    async def _stop(self, number: int) -> None:
        try:
            self._send({"cancel": number})
            async with asyncio.timeout(STOP_WITHIN_S):
                while True:
                    message = await self._receive()
                    if message.get("id") == number and "chunk" not in message:
                        return
        except (TimeoutError, ModelFailed):
            self.unload()
        finally:
            self._stopping = None

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process
        assert self._process.stdin
        with contextlib.suppress(ConnectionError):  # a process that died is noticed by reading
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _receive(self) -> dict[str, Any]:
        assert self._process
        assert self._process.stdout
        process = self._process
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            self.unload()
            raise ModelFailed("the model's process ended unexpectedly")
        answer: dict[str, Any] = json.loads(line)
        return answer
