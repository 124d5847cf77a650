"""The `ollama` engine's description for `engine_registry.py`: its options, and when "auto" takes it.

Owns nothing else. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.spec import Check, Claim, EngineOption, MetadataEngineSpec, ModelEntry
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, MetadataError
from harmonia_lab.metadata_engines.ollama.endpoint import is_host_given, read_endpoint
from harmonia_lab.metadata_engines.ollama.names import match_name
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings

if TYPE_CHECKING:
    from harmonia_lab.engines.base import MetadataEngine

__all__ = ["ENGINE"]

CONNECT_S, NAMED_CONNECT_S = 0.5, 3.0
"""How long "auto" waits for a server to accept a connection: one that may be there, and one that a person named."""

ANSWER_S = 5.0
"""How long "auto" waits for the answer of a server that accepted: it may be busy with another song."""


def _make(model: str | None, settings: Mapping[str, Any]) -> MetadataEngine:
    from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine  # noqa: PLC0415 - its client loads in 0.3 s

    return OllamaEngine(model, **settings)


def _models(timeout_s: float, settings: Mapping[str, Any], connect_s: float | None = None) -> Sequence[str]:
    from harmonia_lab.metadata_engines.ollama.engine import installed_models  # noqa: PLC0415 - as above

    return installed_models(settings, timeout_s, connect_s)


def _claims_auto(model: str | None, settings: Mapping[str, Any]) -> Claim:
    """Decline quietly only where no person named a server and none is there."""
    given = OllamaSettings.of(settings)
    named = bool(settings) or is_host_given()
    try:
        address = read_endpoint(given.host).url
        models = _models(ANSWER_S, settings, NAMED_CONNECT_S if named else CONNECT_S)
    except InvalidRequest:
        raise
    except HarmoniaError as error:
        absent = error.details.get("reached") is False
        reason = f"no Ollama answers at {address}" if absent else error.message.rstrip(".")
        return Claim(False, reason, str(error) if named or not absent else "")
    if not models and model is None:
        reason = f"Ollama at {address} has no model"
        return Claim(False, reason, f"{reason}: run `ollama pull` with a model's name." if named else "")
    return Claim(True, f"Ollama answers at {address}")


def _asked_for(settings: Mapping[str, Any]) -> str:
    return f"asked for, at {read_endpoint(OllamaSettings.of(settings).host).url}"


def _check() -> Check:
    try:
        address = read_endpoint().url
        models = _models(3.0, {})
    except HarmoniaError as error:
        if error.details.get("reached") is False:
            hint = "install and start Ollama, then: ollama pull MODEL"
            return Check("Ollama", "optional", f"nothing answers at {address}", hint)
        return Check("Ollama", "optional", error.message, error.hint)
    if not models:
        return Check("Ollama", "optional", f"at {address}, without a model", "ollama pull MODEL")
    return Check("Ollama", "ok", f"at {address}: {', '.join(models[:5])}{' …' if len(models) > 5 else ''}")


def _check_asked(model: str | None, settings: Mapping[str, Any]) -> str:
    """Raises MetadataError where the server doesn't answer, or hasn't the model and may not fetch it."""
    given = OllamaSettings.of(settings)
    address = read_endpoint(given.host).url
    installed = _models(ANSWER_S, settings)
    chosen = next(iter(installed), None) if model is None else match_name(model, installed)
    if chosen is None and not (model and given.pull):
        raise MetadataError(
            f"Ollama at {address} has {f'no model {model}' if model else 'no model'}.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=f"run: ollama pull {model or 'MODEL'}",
        )
    return f"{chosen or f'{model}, which the first song downloads,'} on Ollama at {address}"


def _inventory(_folders: Sequence[Path]) -> Sequence[ModelEntry]:
    from harmonia_lab.metadata_engines.ollama.inventory import inventory  # noqa: PLC0415 - as above

    return inventory()


ENGINE = MetadataEngineSpec(
    name="ollama",
    help="a model of an Ollama server",
    make=_make,
    claims_auto=_claims_auto,
    asked_for=_asked_for,
    models=_models,
    options=(
        EngineOption(
            "ca",
            "a PEM file: the CA that signed the Ollama server's certificate, instead of the system's",
            flag="--ollama-ca",
            metavar="FILE",
        ),
        EngineOption(
            "headers",
            "a header of each request to the Ollama server, as curl's -H; may be repeated; @FILE reads lines, which"
            " keeps a key out of the list of processes",
            flag="--ollama-header",
            metavar="NAME:VALUE",
            repeated=True,
        ),
        EngineOption(
            "timeouts",
            "seconds to wait for the Ollama server: connect=5, load=300 (the model), first=300 (token), between=60"
            " (tokens), busy=120 (HTTP 429 and 503); such as first=900,load=600",
            flag="--ollama-timeout",
            metavar="NAME=SECONDS,…",
        ),
        EngineOption(
            "restart",
            "a command that starts the Ollama server again when it is gone and reconnecting has not helped, such as"
            " 'systemctl --user restart ollama'; without a shell",
            flag="--ollama-restart",
            metavar="COMMAND",
        ),
    ),
    settings_to_json=lambda settings: OllamaSettings.of(settings).to_json(),
    song_settings=lambda settings: OllamaSettings.of(settings).for_songs(),
    note=lambda model, reason: f"{model} ({reason})",
    invitation="A bigger one writes better lyrics: start Ollama, `ollama pull` a model, and it is found by itself.",
    check=_check,
    check_asked=_check_asked,
    inventory=_inventory,
)
