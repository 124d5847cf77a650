"""The server process of the embedded language model, started by `launch.py` with `python -P -m` and this module's name.

Owns its start and its end (not the HTTP side: `api.py`, nor the model: `model.py`). The settings come as one JSON line
on standard input, because other users could read arguments: {token, socket, name, path, threads}; `socket` is the
number of an inherited, listening socket. When standard input closes, the parent has ended, and this process kills its
process group: it runs in a session of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from harmonia_lab.metadata_engines.embedded.model import LanguageModel


async def serve(settings: dict[str, Any]) -> None:
    """Serve for ever. The model loads in its process while this process imports the web server."""
    model = LanguageModel(Path(settings["path"]), settings["threads"])
    await model.begin()
    from aiohttp import web  # noqa: PLC0415 - 0.12 s, in parallel with the load

    from harmonia_lab.metadata_engines.embedded.api import application  # noqa: PLC0415 - as above

    runner = web.AppRunner(
        application(model, settings["name"], settings["token"]), handler_cancellation=True, access_log=None
    )
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=settings["socket"])).start()
    await asyncio.Event().wait()


def main() -> None:
    settings = json.loads(sys.stdin.buffer.readline())

    def end_with_the_parent() -> None:
        sys.stdin.buffer.read()
        os.killpg(0, signal.SIGKILL)  # also the model's process, which may be in native code

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
