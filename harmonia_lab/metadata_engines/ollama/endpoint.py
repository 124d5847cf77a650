"""The address of an Ollama server. Owns the reading of OLLAMA_HOST (not requests: `dialogue.py`)."""

from __future__ import annotations

import os
import urllib.parse

__all__ = ["server_address"]

DEFAULT_HOST = "http://127.0.0.1:11434"


def server_address(host: str | None = None) -> str:
    """Return the URL of an Ollama server, as the official client reads `host` or OLLAMA_HOST: ":11500", "http://…"."""
    text = (host or os.environ.get("OLLAMA_HOST") or DEFAULT_HOST).strip().rstrip("/")
    scheme, separator, rest = text.rpartition("://")
    parts = urllib.parse.urlsplit(f"{scheme or 'http'}://{rest}")
    name = parts.hostname or "127.0.0.1"
    name = "127.0.0.1" if name == "0.0.0.0" else name  # noqa: S104 - a server listens there, a client can't connect there
    port = parts.port or (11434 if not separator else {"https": 443}.get(scheme, 80))
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{parts.path}"
