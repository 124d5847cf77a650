"""The server process of the embedded language model, started by `launch.py` with `python -P -m` and this module's name.

Owns its start and its end (not the HTTP side: `api.py`, nor the model: `llama.py`). The settings come as one JSON line
on standard input, because other users could read arguments: {token, socket, name, path, threads, idle_s, states};
`socket` is the listening socket, as `listening_socket.py` hands it over. The process ends when standard input closes,
because then the parent has ended, and after `idle_s` seconds without a request, or up to twice as long, to free the
model's memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from harmonia_lab.metadata_engines.embedded.api import application
from harmonia_lab.metadata_engines.embedded.listening_socket import taken_over
from harmonia_lab.metadata_engines.embedded.llama import LanguageModel


async def serve(settings: dict[str, Any]) -> None:
    """Serve until no request has come for some time."""
    model = LanguageModel(Path(settings["path"]), settings["threads"], Path(settings["states"]))
    app = application(model, settings["name"], settings["token"])
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.SockSite(runner, taken_over(settings["socket"])).start()
    while model.in_use or time.monotonic() < model.used_at + settings["idle_s"]:  # noqa: ASYNC110 - checked rarely
        await asyncio.sleep(settings["idle_s"])
    os._exit(0)  # a return would drop the native server object: see `llama.py`


def main() -> None:
    settings = json.loads(sys.stdin.buffer.readline())

    def end_with_the_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
