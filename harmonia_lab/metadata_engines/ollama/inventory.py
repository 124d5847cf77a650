"""The models of an Ollama server as lines of `harmonia models`. Owns nothing else; the server is asked, not changed."""

from __future__ import annotations

from typing import Any

from harmonia_lab.engines.memory_limits import available_memory
from harmonia_lab.engines.spec import ModelEntry
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.metadata_engines.ollama.connection import ServerConnection
from harmonia_lab.metadata_engines.ollama.endpoint import read_endpoint
from harmonia_lab.metadata_engines.ollama.failures import translated_errors
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings

__all__ = ["inventory"]

CONNECT_S, ANSWER_S = 1.0, 5.0
"""Seconds in which a server must accept a connection, and answer each question."""

_OVERHEAD = 1.2
"""Memory that a model takes, over the size of its file: the context and the buffers of a short dialogue. A guess."""


def inventory() -> list[ModelEntry]:
    """Return the server's models, largest last; one line that says what is missing where no server answers."""
    try:
        endpoint = read_endpoint()
        connection = ServerConnection(endpoint, OllamaSettings.of({}))
        with (
            translated_errors(connection.where, "while it listed its models"),
            connection.blocking_client(ANSWER_S, CONNECT_S) as client,
        ):
            found = sorted(client.list().models, key=lambda model: model.size or 0)
            entries = [_entry(client, model, endpoint.url, is_local=endpoint.is_local) for model in found]
    except HarmoniaError as error:
        absent = error.details.get("reached") is False
        fetch = "install and start Ollama, then: ollama pull MODEL" if absent else error.hint
        return [ModelEntry("ollama", 1, "(any model)", missing=(error.message.rstrip("."),), fetch=fetch)]
    if not entries:
        lacking = (f"a model on the server at {endpoint.url}",)
        return [ModelEntry("ollama", 1, "(any model)", endpoint.url, missing=lacking, fetch="ollama pull MODEL")]
    return entries


def _entry(client: Any, model: Any, address: str, *, is_local: bool) -> ModelEntry:
    size = int(model.size or 0)
    needs = int(size * _OVERHEAD) or None
    try:
        shown = client.show(model.model)
        licence, can = _first_line(shown.license), tuple(shown.capabilities or ())
    except Exception:  # noqa: BLE001 - an older server, or one that is busy: the list has the rest
        licence, can = "", ()
    return ModelEntry(
        engine="ollama",
        stage=1,
        name=str(model.model),
        where=address,
        size_bytes=size or None,
        licence=licence or "not told by the server",
        can=can,
        needs_bytes=needs,
        fits=needs <= available_memory() if needs and is_local else None,
    )


def _first_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return " ".join(lines[:2])[:60] if lines else ""
