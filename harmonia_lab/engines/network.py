"""Faults of a network, told from other errors: a connection that is reset or refused, a name that can't be resolved.

Owns how they are recognised, for the clients of Ollama and of model hubs. Imports no client.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

__all__ = ["is_network_fault", "network_reason", "says_network_fault"]

_CLIENTS = {
    "ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "WriteError", "WriteTimeout", "CloseError",
    "PoolTimeout", "RemoteProtocolError", "ConnectionError", "Timeout", "ChunkedEncodingError", "ProtocolError",
    "NameResolutionError", "NewConnectionError", "IncompleteRead",
}  # fmt: skip
"""Names of errors of httpx, requests and urllib3 that mean a network."""

_PACKAGES = {"httpx", "httpcore", "requests", "urllib3"}

_SAID = (
    "no such host", "connection refused", "connection reset", "network is unreachable", "no route to host",
    "i/o timeout", "tls handshake timeout", "temporary failure in name resolution", "unexpected eof", "broken pipe",
)  # fmt: skip
"""Go's and the C library's words, in the messages of a server that has met such a fault itself."""


def is_network_fault(error: BaseException) -> bool:
    """Return whether the error, or one that it was raised from, means that a network failed for now.

    A client that was told to stay offline has met no fault.
    """
    chain = list(_chain(error))
    offline = any(type(each).__name__ == "OfflineModeIsEnabled" for each in chain)
    return not offline and any(_is_one(each) for each in chain)


def network_reason(error: BaseException) -> str:
    """Return what happened, in a few words: the innermost error's, in the system's words where it has a number."""
    chain = list(_chain(error))
    for each in reversed(chain):
        if isinstance(each, socket.gaierror):
            return str(each.strerror).lower()
        if isinstance(each, OSError) and each.errno:
            return os.strerror(each.errno).lower()
    return " ".join(str(chain[-1]).split())[:200].rstrip(".") or type(chain[-1]).__name__


def says_network_fault(text: str) -> bool:
    """Return whether a server's message is about a network fault of its own."""
    return any(words in text.lower() for words in _SAID)


def _is_one(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | socket.gaierror | TimeoutError):
        return True
    package = type(error).__module__.partition(".")[0]
    return package in _PACKAGES and type(error).__name__ in _CLIENTS


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
