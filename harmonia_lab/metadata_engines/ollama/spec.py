"""The `ollama` engine's description for `engine_registry.py`. Owns nothing else. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harmonia_lab.engines.spec import Check, MetadataEngineSpec
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.metadata_engines.ollama.endpoint import server_address

if TYPE_CHECKING:
    from harmonia_lab.engines.base import MetadataEngine

__all__ = ["ENGINE"]

PROBE_S = 0.5
"""How long "auto" waits for an Ollama server to answer."""


def _make(model: str | None) -> MetadataEngine:
    from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine  # noqa: PLC0415 - its client loads in 0.3 s

    return OllamaEngine(model)


def _models(timeout_s: float) -> Sequence[str]:
    from harmonia_lab.metadata_engines.ollama.engine import installed_models  # noqa: PLC0415 - as above

    return installed_models(timeout_s=timeout_s)


def _claims_auto(model: str | None) -> tuple[bool, str]:
    address = server_address()
    try:
        models = _models(PROBE_S)
    except HarmoniaError:
        return False, f"no Ollama answers at {address}"
    if not models and model is None:
        return False, f"Ollama at {address} has no model"
    return True, f"Ollama answers at {address}"


def _check() -> Check:
    address = server_address()
    try:
        models = _models(3.0)
    except HarmoniaError:
        hint = "install and start Ollama, then: ollama pull MODEL"
        return Check("Ollama", "optional", f"nothing answers at {address}", hint)
    if not models:
        return Check("Ollama", "optional", f"at {address}, without a model", "ollama pull MODEL")
    return Check("Ollama", "ok", f"at {address}: {', '.join(models[:5])}{' …' if len(models) > 5 else ''}")


ENGINE = MetadataEngineSpec(
    name="ollama",
    help="a model of an Ollama server",
    make=_make,
    claims_auto=_claims_auto,
    asked_for=lambda: f"asked for, at {server_address()}",
    models=_models,
    note=lambda model, reason: f"{model} ({reason})",
    invitation="A bigger one writes better lyrics: start Ollama, `ollama pull` a model, and it is found by itself.",
    check=_check,
)
