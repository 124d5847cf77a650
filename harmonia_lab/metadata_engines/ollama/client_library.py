"""Ollama's official client, imported whatever the environment holds.

Owns this import alone. The package makes a client of its own when it is imported, which fails for an OLLAMA_HOST,
a proxy variable or an SSL_CERT_FILE that can't be used, although our clients (`connection.py`) read none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ollama"]

_ITS_VARIABLES = ("ollama_host", "ollama_api_key", "ssl_cert_file", "ssl_cert_dir")


@contextmanager
def _neutral_environment() -> Iterator[None]:
    """Hide the variables that the client reads. Only for the moment of an import that failed with them."""
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name.lower() in _ITS_VARIABLES or name.lower().endswith("_proxy")
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


try:
    import ollama
except Exception:  # noqa: BLE001 - ValueError, InvalidURL, FileNotFoundError, ImportError for a SOCKS proxy …
    with _neutral_environment():
        import ollama
