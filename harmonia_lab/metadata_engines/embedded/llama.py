"""The process that holds the embedded model: llama.cpp between two pipes. Started by `model.py` alone.

A process of its own, as in Ollama, because only a kill stops native code for certain. Two facts (xllamacpp 2026.10)
make it more than a precaution: a load can't be interrupted, and dropping an `xllamacpp.Server` before its loop has
begun joins a thread that never ends, while holding the interpreter's lock. So the server object is never dropped here:
the process ends instead.

One JSON object a line. In: first the settings of `load`, then `{"id": n, "chat": {…}}` in llama.cpp's own terms, or
`{"cancel": n}`. Out: `{"loaded": true}`, then `{"id": n, "chunk": {…}}`…, and `{"id": n, "end": true}` or
`{"id": n, "error": {"code": …, "message": …}}`. The process ends when its input closes.

Settings, and what they cost (SmolLM2-135M Q4_1, one thread of an EPYC at 2.6 GHz, behind a prompt of 190 tokens):

- Each token goes through the network alone, in the prefill too: 174 tokens/s against 215 with 16 at a time. In return
  no number depends on how tokens were batched, so that a prompt taken from the cache gives the same bytes as a cold
  one. With 16 at a time 2 prompts of 16 gave others: 1e-7 in a sum, where the next layer rounds to 8 bits.
- The prefill reports every 8 tokens, which is how long a cancel takes to be noticed: 50 ms.
- No flash attention: 120 tokens/s behind a prompt of 570 tokens against 77.
- No warm-up and no fitting to memory: 0.2 s to load instead of 0.4 s.
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
    """The server for {path, threads, num_ctx}. Its HTTP side can't be switched off: it gets a key that nobody has."""
    import xllamacpp  # noqa: PLC0415 - the reader thread runs already, so that the parent's end is noticed

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


class Conversation:
    """The two pipes. Reading happens in a thread of its own, so that a cancel gets through during a generation."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.cancelled: set[int] = set()
        self._output = os.dup(1)
        os.dup2(2, 1)  # whatever the native library prints goes to the log, not between our lines
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self._output, data) :]

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "cancel" in message:
                self.cancelled.add(message["cancel"])
            else:
                self.inbox.put(message)
        os._exit(0)  # the server is gone


class Request:
    """One chat. `error` is what went wrong in it, in llama.cpp's form {code, message}."""

    def __init__(self, conversation: Conversation, number: int, chat: dict[str, Any]) -> None:
        self.error: dict[str, Any] | None = None
        self._conversation = conversation
        self._number = number
        self._chat = chat
        self._log_start = _log_size()

    def run(self, server: Any) -> None:
        """Say every chunk, then the end."""
        try:
            if not self._cancelled:
                server.handle_chat_completions(self._chat, self._receive)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to hear of it
            self.error = {"code": 400 if isinstance(error, ValueError) else 500, "message": str(error)}
        self._conversation.cancelled.discard(self._number)
        self._conversation.say({"id": self._number} | ({"error": self.error} if self.error else {"end": True}))

    @property
    def _cancelled(self) -> bool:
        return self._number in self._conversation.cancelled

    def _receive(self, chunks: Any) -> bool:
        """Called for each step of the prefill and for each token. True stops the generation."""
        for chunk in chunks if isinstance(chunks, list) else [chunks]:
            self.error = self.error or chunk.get("error") or self._grammar_error(chunk)
            if self.error or self._cancelled:
                return True
            self._conversation.say({"id": self._number, "chunk": chunk})
        return False

    def _grammar_error(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """llama.cpp goes on without a grammar that it could not compile, and only its log says so."""
        choice = (chunk.get("choices") or [{}])[0]
        if "grammar" not in self._chat or not (choice.get("delta", {}).get("content") or choice.get("finish_reason")):
            return None
        log = _log_since(self._log_start)
        if "llg error" not in log:
            return None
        return {"code": 400, "message": "invalid format: " + log.split("llg error", 1)[1].splitlines()[0].strip(": ")}


def _log_size() -> int:
    return os.fstat(2).st_size


def _log_since(start: int) -> str:
    try:
        return os.pread(2, 4096, start).decode("utf-8", "replace")
    except OSError:  # standard error is no file: somebody started this by hand
        return ""


def main() -> None:
    """Never returns."""
    conversation = Conversation()
    log_start = _log_size()
    try:
        server = load(conversation.inbox.get())
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to hear of it
        reason = " ".join((_log_since(log_start) or str(error)).split())
        conversation.say({"error": {"code": 500, "message": f"the model could not be loaded: {reason}"}})
        os._exit(1)
    conversation.say({"loaded": True})
    while True:
        message = conversation.inbox.get()
        Request(conversation, message["id"], message["chat"]).run(server)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)  # the server is gone; returning would drop the native server
