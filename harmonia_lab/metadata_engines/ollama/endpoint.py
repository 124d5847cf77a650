"""The server of a language model: an Ollama server on some machine, or a server that the engine starts itself.

Owns addresses, and the protocol of a server that the engine starts. Prompts are the same for both.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Endpoint", "server_address"]

DEFAULT_HOST = "http://127.0.0.1:11434"


class Endpoint(Protocol):
    """A server that the engine starts and ends, such as `embedded.EmbeddedServer`. model: its model's name."""

    @property
    def model(self) -> str: ...

    @property
    def url(self) -> str:
        """Its address, which may change with each start."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What each request must carry."""
        ...

    def start(self) -> None:
        """Start it unless it runs; quick. Raises MetadataError."""
        ...

    def check(self) -> None:
        """After it didn't answer as it should: raises MetadataError if it knows why."""
        ...

    def record(self) -> dict[str, Any]:
        """What reproducing needs to know beyond what the server says of itself."""
        ...

    def close(self) -> None:
        """End it. Idempotent; `start` works again afterwards."""
        ...


def server_address(host: str | None = None) -> str:
    """The URL of an Ollama server, as the official client reads `host` or OLLAMA_HOST: "10.0.0.5", ":11500", "http://…"."""
    text = (host or os.environ.get("OLLAMA_HOST") or DEFAULT_HOST).strip().rstrip("/")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    parts = urllib.parse.urlsplit(f"{scheme}://{rest}")
    name = parts.hostname or "127.0.0.1"
    name = "127.0.0.1" if name == "0.0.0.0" else name  # noqa: S104 - where a server listens is not where it is reached
    port = parts.port or (11434 if not separator else {"https": 443}.get(scheme, 80))
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}:{port}{parts.path}"
