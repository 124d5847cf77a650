"""The address of a language model: of an Ollama server, or of a server that the engine starts itself.

Owns the reading of OLLAMA_HOST, and the interface of a server that the engine starts (not requests: `dialogue.py`).
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Endpoint", "server_address"]

DEFAULT_HOST = "http://127.0.0.1:11434"


class Endpoint(Protocol):
    """A server that the engine starts and ends, such as `EmbeddedServer` of `embedded/launch.py`.

    model: the one that it serves. url: its address, which may change with each start. headers: of each request.
    """

    @property
    def model(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def start(self) -> None:
        """Start the server unless it runs; returns quickly. Raises MetadataError."""
        ...

    def check(self) -> None:
        """Raise MetadataError with the reason if the server has failed. The engine calls it after a failed request."""
        ...

    def record(self) -> dict[str, Any]:
        """Return the facts for reproducing a song that the server's own API doesn't give."""
        ...

    def close(self) -> None:
        """End the server. Idempotent; `start` works again afterwards."""
        ...


def server_address(host: str | None = None) -> str:
    """Return the URL of an Ollama server, as the official client reads `host` or OLLAMA_HOST: ":11500", "http://…"."""
    text = (host or os.environ.get("OLLAMA_HOST") or DEFAULT_HOST).strip().rstrip("/")
    scheme, separator, rest = text.rpartition("://")
    parts = urllib.parse.urlsplit(f"{scheme or 'http'}://{rest}")
    name = parts.hostname or "127.0.0.1"
    name = "127.0.0.1" if name == "0.0.0.0" else name  # noqa: S104 - a server listens there, a client can't connect there
    port = parts.port or (11434 if not separator else {"https": 443}.get(scheme, 80))
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{parts.path}"
