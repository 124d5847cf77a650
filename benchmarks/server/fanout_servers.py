"""The Python servers of `make bench-fanout`, each run as a process: ours, stock python-socketio, and the floor.

Owns how each is set up and published to. All send the same bytes: one progress event, of which tick, time and status
change; the status carries the publisher's stamp. What is measured of them is `fanout.py`'s.
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
from harmonia_lab.server.broadcast import Message

__all__ = ["main"]

ROOM = f"generation-{GENERATION}"
BACKLOG = 2048


def ours() -> None:
    """The lab's server, as `lab.serve` starts it. Events go in where a generation hands them on, from another thread;
    nothing is thinned out (`progress_interval_s=0`), as the other servers don't do it either.
    """
    with scratch_lab() as lab:
        begin(lab)
        server = lab.serve(port=0, progress_interval_s=0.0)
        reply(url=server.url, token=server.token())
        event = progress(FIRST_TICK)
        for told in commands():
            for tick in _ticks(told):
                lab.events(event.model_copy(update={"tick": tick, "status": stamp(), "emitted_at": utc_now()}))
                time.sleep(told["gap_s"])
            reply(published=told["count"])


async def stock() -> None:
    """python-socketio's own room emit on aiohttp, as its documentation shows it."""
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
    told_lines = commands()
    while (told := await asyncio.to_thread(next, told_lines, None)) is not None:
        for tick in _ticks(told):
            await sio.emit(told["name"], _filled(told["payload"], tick), room=ROOM)
            await asyncio.sleep(told["gap_s"])
        reply(published=told["count"])
    await runner.cleanup()


def floor() -> None:
    """No server: the finished frame, sent to one socket after the other. Nobody can send in less from Python."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    sockets: list[socket.socket] = []
    threading.Thread(target=_let_in, args=(listener, sockets), daemon=True).start()
    reply(url=f"http://127.0.0.1:{listener.getsockname()[1]}", token="")
    for told in commands():
        for tick in _ticks(told):
            frame = Message.event(told["name"], _filled(told["payload"], tick)).frames
            for each in sockets:
                each.send(frame)
            time.sleep(told["gap_s"])
        reply(published=told["count"])


def _let_in(listener: socket.socket, sockets: list[socket.socket]) -> None:
    """Says what the client of `websocket.py`, and no other, waits for before it is in the room."""
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


def _ticks(told: dict[str, Any]) -> range:
    return range(told["first"], told["first"] + told["count"])


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
