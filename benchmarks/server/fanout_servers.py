"""The Python servers of `make bench-fanout`, each run as a process: ours, stock python-socketio, and the floor.

Owns how each is started and how events are published. All send the same bytes: one progress event, of which tick, time
and status change; the status carries the publisher's time stamp. `fanout.py` measures.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.server.children import commands, reply
from benchmarks.server.generation import FIRST_TICK, GENERATION, begin, progress, scratch_lab, stamp
from harmonia_lab.protocol.models import utc_now
from harmonia_lab.server.encoding import EncodedMessage

__all__ = ["main"]

ROOM = f"generation-{GENERATION}"
BACKLOG = 2048


def ours() -> None:
    """Run the lab's server, as `lab.serve` starts it. Events are published from another thread, as generations do; no
    progress event is dropped (`progress_interval_s=0`), because the other servers drop none either.
    """
    with scratch_lab() as lab:
        begin(lab)
        server = lab.serve(port=0, progress_interval_s=0.0, max_sockets_per_user=10_000)
        reply(url=server.url, token=server.token())
        event = progress(FIRST_TICK)
        for command in commands():
            for tick in _ticks(command):
                lab.events(event.model_copy(update={"tick": tick, "status": stamp(), "emitted_at": utc_now()}))
                time.sleep(command["gap_s"])
            reply(published=command["count"])


async def stock() -> None:
    """Run python-socketio's own room emit on aiohttp, as its documentation shows it."""
    import socketio  # noqa: PLC0415
    from aiohttp import web  # noqa: PLC0415

    sio = socketio.AsyncServer(async_mode="aiohttp")
    app = web.Application()
    sio.attach(app)

    @sio.on("join-generation")  # type: ignore[untyped-decorator] # untyped library
    async def join(sid: str, generation_id: str) -> dict[str, Any]:
        del generation_id
        await sio.enter_room(sid, ROOM)
        return {"ok": True}

    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    reply(url=f"http://127.0.0.1:{runner.addresses[0][1]}", token="")
    lines = commands()
    while (command := await asyncio.to_thread(next, lines, None)) is not None:
        for tick in _ticks(command):
            await sio.emit(command["name"], _filled(command["payload"], tick), room=ROOM)
            await asyncio.sleep(command["gap_s"])
        reply(published=command["count"])
    await runner.cleanup()


def floor() -> None:
    """Send the finished frame to one socket after the other: the least that a server in Python can do."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    sockets: list[socket.socket] = []
    threading.Thread(target=_accept, args=(listener, sockets), daemon=True).start()
    reply(url=f"http://127.0.0.1:{listener.getsockname()[1]}", token="")
    for command in commands():
        for tick in _ticks(command):
            frame = EncodedMessage.event(command["name"], _filled(command["payload"], tick)).frames
            for each in sockets:
                each.send(frame)
            time.sleep(command["gap_s"])
        reply(published=command["count"])


def _accept(listener: socket.socket, sockets: list[socket.socket]) -> None:
    """Accept connections, and send what the client in `websocket.py` (and no other) expects when it joins a room."""
    while True:
        one, _ = listener.accept()
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.recv(4096)
        one.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + _short_frame("0{}"))
        for answer in ("40{}", "430[]"):
            one.recv(4096)
            one.sendall(_short_frame(answer))
        sockets.append(one)


def _short_frame(text: str) -> bytes:
    return bytes((0x81, len(text))) + text.encode()


def _ticks(command: dict[str, Any]) -> range:
    return range(command["first"], command["first"] + command["count"])


def _filled(payload: dict[str, Any], tick: int) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return payload | {"emittedAt": now, "tick": tick, "status": stamp()}


def main(kind: str) -> None:
    if kind == "ours":
        ours()
    elif kind == "floor":
        floor()
    elif kind == "stock":
        asyncio.run(stock())
    else:
        import uvloop  # noqa: PLC0415 - not there on every system

        uvloop.run(stock())


if __name__ == "__main__":
    main(*sys.argv[1:])
