"""The process that holds the embedded model: llama.cpp between two pipes. Only `model.py` starts it.

Like Ollama, we use a process of its own, because only a kill reliably stops native code. Two facts (xllamacpp 2026.10)
make it necessary: a load can't be interrupted; and dropping an `xllamacpp.Server` before its loop has begun joins a
thread that never ends, while holding the GIL. So this module never drops the server object: the process ends instead.

One JSON object per line. In: first the settings of `load`, then `{"id": n, "chat": {…}}` in llama.cpp's form, or
`{"cancel": n}`. Out: `{"loaded": true}`, then `{"id": n, "chunk": {…}}`…, and `{"id": n, "end": true}` or
`{"id": n, "error": {"code": …, "message": …}}`. The process ends when its input closes.

Settings and their cost (SmolLM2-135M Q4_1, one thread of an EPYC at 2.6 GHz, after a prompt of 190 tokens):

- One token per pass, in the prefill too: 174 tokens/s instead of 215 with 16 tokens. In return, no number depends on
  the batching, so that a cached prompt gives the same bytes as a cold one. With 16 tokens per pass, 2 prompts of 16
  gave other bytes: a difference of 1e-7 in a sum, which the next layer rounds to 8 bits.
- The prefill reports every 8 tokens, so a cancel takes effect within 50 ms.
- No flash attention: 120 tokens/s after a prompt of 570 tokens, instead of 77.
- No warm-up and no fitting to memory: a load takes 0.2 s instead of 0.4 s.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
import threading
from typing import Any

PREFILL_STEP = 8
"""Tokens between two reports of the prefill."""


def load(settings: dict[str, Any]) -> Any:
    """Return the server for {path, threads, num_ctx}. Its HTTP side can't be switched off, so it gets a random key."""
    import xllamacpp  # noqa: PLC0415 - imported after the reader thread has started, which ends the process

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {"embedded"}
    params.api_keys = [secrets.token_urlsafe(32)]
    params.hostnames = ["127.0.0.1"]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = False
    params.n_threads_http = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_ctx = settings["num_ctx"]
    params.n_parallel = 1
    params.n_batch = PREFILL_STEP
    params.n_ubatch = 1
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.fit_params = False
    params.warmup = False
    params.verbosity = 1  # errors
    return xllamacpp.Server(params)


class Pipes:
    """The two pipes to the server. A thread reads, so that a cancel arrives during a generation."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.cancelled: set[int] = set()
        self._output = os.dup(1)
        os.dup2(2, 1)  # output of the native library goes to the log, not between our lines
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self._output, data) :]

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "cancel" in message:
                self.cancelled.add(message["cancel"])
            else:
                self.inbox.put(message)
        os._exit(0)  # the server has ended


class ChatRequest:
    """One chat. error: in llama.cpp's form, {code, message}."""

    def __init__(self, pipes: Pipes, number: int, chat: dict[str, Any]) -> None:
        self.error: dict[str, Any] | None = None
        self._pipes = pipes
        self._number = number
        self._chat = chat
        self._log_start = _log_size()

    def run(self, server: Any) -> None:
        """Send every chunk, then the end."""
        try:
            if not self._cancelled:
                server.handle_chat_completions(self._chat, self._receive)
        except Exception as error:  # noqa: BLE001 - the server gets every error as its answer
            self.error = {"code": 400 if isinstance(error, ValueError) else 500, "message": str(error)}
        self._pipes.cancelled.discard(self._number)
        self._pipes.send({"id": self._number} | ({"error": self.error} if self.error else {"end": True}))

    @property
    def _cancelled(self) -> bool:
        return self._number in self._pipes.cancelled

    def _receive(self, chunks: Any) -> bool:
        """Called by llama.cpp for each step of the prefill and for each token. True stops the generation."""
        for chunk in chunks if isinstance(chunks, list) else [chunks]:
            self.error = self.error or chunk.get("error") or self._grammar_error(chunk)
            if self.error or self._cancelled:
                return True
            self._pipes.send({"id": self._number, "chunk": chunk})
        return False

    def _grammar_error(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """Return the error of a grammar that didn't compile: llama.cpp goes on without it, and only logs the error."""
        choice = (chunk.get("choices") or [{}])[0]
        if "grammar" not in self._chat or not (choice.get("delta", {}).get("content") or choice.get("finish_reason")):
            return None
        _, found, text = _log_since(self._log_start).partition("llg error")
        return {"code": 400, "message": "invalid format: " + text.splitlines()[0].strip(": ")} if found else None


def _log_size() -> int:
    return os.fstat(2).st_size


def _log_since(start: int) -> str:
    try:
        return os.pread(2, 4096, start).decode("utf-8", "replace")
    except OSError:  # standard error is not a file: somebody started this module by hand
        return ""


def main() -> None:
    """Load the model, and answer requests for ever."""
    pipes = Pipes()
    log_start = _log_size()
    try:
        server = load(pipes.inbox.get())
    except Exception as error:  # noqa: BLE001 - the server gets every error as its answer
        reason = " ".join((_log_since(log_start) or str(error)).split())
        pipes.send({"error": {"code": 500, "message": f"the model could not be loaded: {reason}"}})
        os._exit(1)
    pipes.send({"loaded": True})
    while True:
        message = pipes.inbox.get()
        ChatRequest(pipes, message["id"], message["chat"]).run(server)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)  # the server has ended; a return would drop the native server object
