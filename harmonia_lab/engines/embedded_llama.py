"""The process that holds the embedded model: llama.cpp between two pipes. Started by `embedded_model.py` alone.

A process of its own, as in Ollama, because only a kill stops native code for certain. Two facts (xllamacpp 2026.10) make
it more than a precaution: a load can't be interrupted, and dropping an `xllamacpp.Server` before its loop has begun
joins a thread that never ends, while holding the interpreter's lock. So the server object is never dropped here: the
process ends instead.

One JSON object a line. In: first the settings of `load`, then `{"id": n, "chat": {…}}` in llama.cpp's own terms, or
`{"cancel": n}`. Out: `{"loaded": true}`, then `{"id": n, "chunk": {…}}`…, and `{"id": n, "end": true}` or
`{"id": n, "error": {"code": …, "message": …}}`. The process ends when its input closes.

Settings, and what they cost (SmolLM2-135M Q4_1, one thread of an EPYC at 2.6 GHz; decoding behind a prompt of 190 tokens):

- no flash attention, key-value cache in float32: 125 tokens/s against 138 in float16, and what a token gets no longer
  depends on how its neighbours were batched, so that a prompt taken from the cache gives the same bytes as a cold one.
  (Flash attention: 125 tokens/s at that length, 77 behind 570 tokens, where this stays at 120.)
- 16 tokens a prefill batch: 221 tokens/s against 236 with 512, and a cancel takes effect within one batch, 70 ms.
- no warm-up and no fitting to memory: 0.2 s to load instead of 0.4 s.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
import threading
from typing import Any

PREFILL_BATCH = 16
"""Tokens a step of the prefill."""


def load(settings: dict[str, Any]) -> Any:
    """The server for {path, threads, num_ctx}. Its HTTP side can't be switched off, so it gets a key that nobody has."""
    import xllamacpp  # noqa: PLC0415 - the native library loads while the other process imports its web server

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
    params.n_batch = params.n_ubatch = PREFILL_BATCH
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.fit_params = False
    params.warmup = False
    params.verbosity = 2  # warnings and errors
    return xllamacpp.Server(params)


def main() -> None:
    """Never returns."""
    output = os.dup(1)
    os.dup2(2, 1)  # whatever the native library prints goes to the log, not between our lines
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    cancelled: set[int] = set()

    def say(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(output, data) :]

    def listen() -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "cancel" in message:
                cancelled.add(message["cancel"])
            else:
                inbox.put(message)
        os._exit(0)  # the server is gone

    threading.Thread(target=listen, daemon=True).start()
    try:
        server = load(inbox.get())
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to hear of it
        say({"error": {"code": 500, "message": f"the model could not be loaded: {error}"}})
        os._exit(1)
    say({"loaded": True})
    while True:
        message = inbox.get()
        number = message["id"]
        error = None

        def receive(chunk: Any, number: int = number) -> bool:
            nonlocal error
            for part in chunk if isinstance(chunk, list) else [chunk]:
                if "error" in part:
                    error = part["error"]
                elif number not in cancelled:
                    say({"id": number, "chunk": part})
            return number in cancelled

        try:
            if number not in cancelled:
                server.handle_chat_completions(message["chat"], receive)
        except Exception as problem:  # noqa: BLE001 - as above
            error = {"code": 500, "message": str(problem)}
        cancelled.discard(number)
        say({"id": number, "error": error} if error else {"id": number, "end": True})


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)
