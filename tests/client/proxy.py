"""A TCP proxy that cuts connections off, for tests of what happens then."""

import asyncio
import contextlib


class Proxy:
    """`url` leads to `server`. `async with`, in the loop of the test."""

    def __init__(self, server):
        self.port = int(server.url.rpartition(":")[2])
        self.made = 0
        self.open = True
        self._writers = set()

    async def __aenter__(self):
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._listening.close()
        self.cut()
        while self._writers:  # noqa: ASYNC110 - they go as their pumps end
            await asyncio.sleep(0.005)

    def cut(self):
        """Breaks off every connection, as a cable would: nobody says goodbye."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader, writer):
        self.made += 1
        self._writers.add(writer)
        try:
            if self.open:
                await self._pass(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _pass(self, reader, writer):
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
            self._writers.add(far_writer)
            try:
                there, back = (asyncio.create_task(_pump(*p)) for p in ((reader, far_writer), (far_reader, writer)))
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                there.cancel(), back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
            finally:
                far_writer.transport.abort()
                self._writers.discard(far_writer)


async def _pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
