"""The Python servers of `harmonia bench fanout`, each run as a process: ours, stock python-socketio, and the floor.

Owns how each is set up and published to. All send the same bytes: one progress event, of which tick, time and status
change; the status carries the publisher's stamp. What is measured of them is `fanout.py`'s.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harmonia_lab.bench.children import commands, say
from harmonia_lab.protocol.events import AudioGenerationProgress, utc_now
from harmonia_lab.protocol.models import Job, SongRequest
from harmonia_lab.server.broadcast import Message

__all__ = ["GENERATION", "example", "main"]

GENERATION = "bench"
ROOM = f"generation-{GENERATION}"
BACKLOG = 2048


def example() -> AudioGenerationProgress:
    """The event, as a song's second stage reports it. Its numbers read the same in Python's and JavaScript's JSON."""
    return AudioGenerationProgress(
        generation_id=GENERATION,
        tick=100_000,
        progress=37.5,
        status=_status(),
        overall_progress=58.25,
        eta_seconds=12.5,
        current_instrument="acoustic guitar",
        instruments_completed=2,
        total_instruments=5,
    )


def ours() -> None:
    """The lab's server, as `lab.serve` starts it. Events go in where a generation hands them on, from another thread;
    the generation is only said to run, so that its own work isn't counted as the server's.

    Nothing is thinned out (`progress_interval_s=0`), as the other servers don't do it either.
    """
    from harmonia_lab.lab import Lab  # noqa: PLC0415 - the other servers don't need it
    from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch,
        Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=Path(scratch) / "songs", home=scratch) as lab,
    ):
        request = SongRequest(narrative="A song that is never finished.", generation_id=GENERATION)
        now = utc_now()
        lab.journal.begin(Job(id=GENERATION, user_id="local", created_at=now, updated_at=now), request)
        server = lab.serve(port=0, progress_interval_s=0.0)
        say(url=server.url, token=server.token())
        event = example()
        for told in commands():
            for tick in _ticks(told):
                lab.events(event.model_copy(update={"tick": tick, "status": _status(), "emitted_at": utc_now()}))
                time.sleep(told["gap_s"])
            say(published=told["count"])


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
    say(url=f"http://127.0.0.1:{runner.addresses[0][1]}", token="")
    told_lines = commands()
    while (told := await asyncio.to_thread(next, told_lines, None)) is not None:
        for tick in _ticks(told):
            await sio.emit(told["name"], _filled(told["payload"], tick), room=ROOM)
            await asyncio.sleep(told["gap_s"])
        say(published=told["count"])
    await runner.cleanup()


def floor() -> None:
    """No server: the finished frame, sent to one socket after the other. Nobody can send in less from Python."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    sockets: list[socket.socket] = []
    threading.Thread(target=_let_in, args=(listener, sockets), daemon=True).start()
    say(url=f"http://127.0.0.1:{listener.getsockname()[1]}", token="")
    for told in commands():
        for tick in _ticks(told):
            frame = Message.event(told["name"], _filled(told["payload"], tick)).frames
            for each in sockets:
                each.send(frame)
            time.sleep(told["gap_s"])
        say(published=told["count"])


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
    return payload | {"emittedAt": now, "tick": tick, "status": _status()}


def _status() -> str:
    return f"Rendering instruments... @{time.monotonic_ns():020d}"


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
