"""A proxy that has the server under a path of its own, as nginx's `location /lab/7/` does, and that cuts connections.

In a thread, because the test drives a browser. It reads the head of a request, and passes on what follows as it comes;
one request a connection, so that each has its head rewritten.
"""

import asyncio
import contextlib
import threading

PREFIX = "/lab/7"


class PrefixProxy:
    """`with PrefixProxy(server) as proxy`: `proxy.url` leads to the server, and nothing else of the proxy does."""

    def __init__(self, server):
        self.port = int(server.url.rpartition(":")[2])
        self.made = 0
        self.open = True
        self.heads = []
        """The first line of each request, as it came."""
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        self._thread.start()
        self._listening = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}{PREFIX}"
        return self

    def __exit__(self, *_):
        async def end():
            self._listening.close()
            while self._writers:
                self._abort()
                await asyncio.sleep(0.005)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, *, stay=False):
        """Break off every connection. stay: and take no new one until `mend`."""
        self.open = not stay
        self._loop.call_soon_threadsafe(self._abort)

    def mend(self):
        self.open = True

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _abort(self):
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader, writer):
        self.made += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if self.open:
                    await self._pass(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _pass(self, head, reader, writer):
        first, _, rest = head.partition(b"\r\n")
        self.heads.append(first.decode())
        method, path, version = first.decode().split()
        if not path.startswith(f"{PREFIX}/"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
            return
        once = b"" if b"upgrade: websocket" in rest.lower() else b"Connection: close\r\n"
        kept = [line for line in rest.split(b"\r\n") if not once or not line.lower().startswith(b"connection:")]
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.add(far_writer)
        try:
            far_writer.write(f"{method} {path.removeprefix(PREFIX)} {version}\r\n".encode() + once + b"\r\n".join(kept))
            pumps = [asyncio.create_task(_pump(*ends)) for ends in ((reader, far_writer), (far_reader, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()  # what was written is sent
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)


async def _pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
