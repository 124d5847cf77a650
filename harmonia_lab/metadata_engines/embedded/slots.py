"""llama.cpp's slots: its caches for prompts, one a sequence; emptied, and given the state of a static prompt.

Owns the calls of the native server's HTTP side, which alone can do this, and the files of states (not when they are
made: `llama.py`). A state is exact: the numbers that the passes over the prompt have left in the cache. It depends on
the model's file, on the library and on the processor, so the file's name does, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.metadata
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harmonia_lab.metadata_engines.embedded.ollama_options import ApiError
from harmonia_lab.storage import cached_digest

__all__ = ["Slots", "static_name"]

KEPT_STATES = 8
"""Files of states that are kept, 4 MB each: older versions of the package and other models may have their own."""


def static_name(messages: Any, model: Path) -> str:
    """Return the file name for the state of a prompt that begins with these messages."""
    import xllamacpp  # noqa: PLC0415 - loaded already, by the model

    version = importlib.metadata.version("xllamacpp")
    facts = [messages, cached_digest(model), version, xllamacpp.get_system_info()]
    return f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.state"


class Slots:
    """The `count` slots of the native server at `address`, such as http://127.0.0.1:40123, with its key. Blocking."""

    def __init__(self, address: str, key: str, count: int) -> None:
        self._address = urlsplit(address).netloc
        self._key = key
        self._count = count

    def erase(self) -> None:
        """Empty all slots. Raises ApiError."""
        for slot in range(self._count):
            if not self._act(slot, "erase", {}):
                raise ApiError(500, f"the model's cache {slot} could not be emptied")

    def restore(self, name: str) -> bool:
        """Give the first slot, which must be empty, the state in a file; return whether that could be done."""
        return self._act(0, "restore", {"filename": name})

    def save(self, name: str, folder: Path) -> None:
        """Save the first slot's state, where that can be done: without it, the next process reads the prompt again."""
        part = f"{secrets.token_hex(8)}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._act(0, "save", {"filename": part}):
                (folder / part).replace(folder / name)
            states = sorted(folder.glob("*.state"), key=lambda path: path.stat().st_mtime)
            for old in states[:-KEPT_STATES]:
                old.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                (folder / part).unlink(missing_ok=True)

    def _act(self, slot: int, action: str, body: dict[str, Any]) -> bool:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", f"/slots/{slot}?action={action}", json.dumps(body), headers)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
