"""A Socket.IO client of the smallest kind: one websocket, no compression, and hardly any processor time.

Owns the handshake and the frames (RFC 6455; Engine.IO 4, Socket.IO 5). Received data stays bytes; the measuring module
decides when to parse them.
"""

from __future__ import annotations

import json
import socket
import struct
import zlib
from urllib.parse import urlsplit

from harmonia_lab.errors import HarmoniaError

__all__ = ["Frames", "LightSocket"]

ANSWER_S = 30.0
RECEIVED = 16 * 1024
"""Bytes of one read; larger buffers would be mapped and unmapped by the allocator each time."""
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # any value will do
_COMPRESSED, _TAIL = 0x40, b"\x00\x00\xff\xff"  # the flag, and what RFC 7692 (7.2.1) leaves out
_NO_MASK = bytes(4)  # the key must be there; zeros leave the payload as it is


class Frames:
    """Cuts a stream of bytes into frames, and inflates those that are compressed (RFC 7692)."""

    def __init__(self) -> None:
        self._rest = b""
        self._inflate = zlib.decompressobj(wbits=-15)

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads of the frames that are whole now."""
        data = self._rest + data if self._rest else data
        found, at = [], 0
        while len(data) - at >= 2:
            size, start = data[at + 1] & 0x7F, at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if len(data) < start + width:
                    break
                size = int.from_bytes(data[start : start + width])
                start += width
            if len(data) < start + size:
                break
            payload = data[start : start + size]
            found.append(self._inflate.decompress(payload + _TAIL) if data[at] & _COMPRESSED else payload)
            at = start + size
        self._rest = data[at:]
        return found


class LightSocket:
    """A client that is connected and authenticated. `socket` is for the caller to select on.

    compression: offer it, as browsers do; the server decides whether it is used.
    Raises HarmoniaError if the server refuses the connection.
    """

    def __init__(self, url: str, token: str, *, compression: bool = False) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.frames = Frames()
        self._waiting: list[bytes] = []
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=ANSWER_S)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._upgrade(parts.netloc, compression=compression)
            self._authenticate(token)
        except BaseException:
            self.socket.close()
            raise

    def send(self, text: str) -> None:
        data = text.encode()
        size = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data))
        self.socket.sendall(b"\x81" + size + _NO_MASK + data)

    def emit(self, ack_id: int, name: str, payload: object) -> None:
        """Send a command; its acknowledgement starts with `43` and the id."""
        self.send(f"42{ack_id}" + json.dumps([name, payload]))

    def receive_until(self, prefix: bytes) -> list[bytes]:
        """Wait for a packet that starts with `prefix`; return all packets up to it."""
        packets = []
        while True:
            while self._waiting:
                packets.append(self._waiting.pop(0))
                if packets[-1].startswith(prefix):
                    return packets
            self._waiting += self.frames.feed(self._receive())

    def close(self) -> None:
        self.socket.close()

    def _upgrade(self, host: str, *, compression: bool) -> None:
        request = (
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n"
        )
        if compression:
            request += "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        self.socket.sendall(f"{request}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._receive()
        head, _, rest = head.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0]
        if b" 101 " not in status:
            raise HarmoniaError(f"{host} speaks no websocket: {status[:80].decode(errors='replace')}")
        self._waiting += self.frames.feed(rest)

    def _authenticate(self, token: str) -> None:
        self.receive_until(b"0")
        self.send("40" + json.dumps({"token": token}))
        answer = self.receive_until(b"4")[-1]
        if not answer.startswith(b"40"):
            raise HarmoniaError(f"The server refuses the connection: {answer[2:200].decode(errors='replace')}")

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(RECEIVED)
        except OSError as error:
            raise HarmoniaError(f"The server did not answer: {error}.") from None
        if not data:
            raise HarmoniaError("The server has closed the connection.")
        return data
