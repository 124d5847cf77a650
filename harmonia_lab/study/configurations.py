"""A configuration of a study: the parameters of `Lab` in which it differs from the others.

Owns how a configuration takes over what all have in common, and what of it a study's folder keeps: no passwords, no
values of headers. Engines that are objects are kept by what they say of themselves, and can't be made again from that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.metadata_engines.ollama.endpoint import without_userinfo

__all__ = ["PARAMETERS", "combined", "recorded", "restored"]

_STAGES = (("metadata", "model", "metadata_settings"), ("audio", "audio_model", "audio_settings"))
"""Engine, model and settings of each stage, as parameters of `Lab`."""

PARAMETERS = tuple(name for stage in _STAGES for name in stage)


def combined(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `Lab` for a configuration: its own over those that all have in common.

    An engine of its own takes no model and no settings over: they are another engine's. Settings are combined by name.
    """
    found: dict[str, Any] = {}
    for engine, model, settings in _STAGES:
        taken = {} if own.get(engine) is not None else {name: common.get(name) for name in (engine, model, settings)}
        merged = {**taken, **{name: own[name] for name in (engine, model, settings) if own.get(name) is not None}}
        merged[settings] = {**(taken.get(settings) or {}), **(own.get(settings) or {})}
        found |= {name: value for name, value in merged.items() if value not in (None, {})}
    return found


def recorded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a study's folder keeps of a configuration, as JSON values."""
    plain: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in ("metadata", "audio") and not isinstance(value, str):
            plain[name] = {"object": f"{type(value).__module__}.{type(value).__qualname__}"}
        else:
            plain[name] = json.loads(json.dumps(value, default=str))
    settings = plain.get("metadata_settings", {})
    if "headers" in settings:
        settings["headers"] = _header_names(settings["headers"])
    if isinstance(settings.get("host"), str):
        settings["host"] = without_userinfo(settings["host"])
    return plain


def restored(name: str, plain: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `Lab` that `recorded` kept. common: parameters of the lab at hand, for its headers.

    Raises InvalidRequest for an engine that was an object, and for headers that the lab doesn't have.
    """
    found: dict[str, Any] = json.loads(json.dumps(plain))
    for stage in ("metadata", "audio"):
        if isinstance(found.get(stage), dict):
            raise InvalidRequest(
                f"The configuration {name} used an engine that was an object ({found[stage].get('object')}).",
                hint="Make the study with the program that made the object, and compare: `report.against(folder)`.",
                details={"fields": [f"configurations.{name}.{stage}"]},
            )
    settings = found.get("metadata_settings", {})
    if "headers" in settings:
        here = (common.get("metadata_settings") or {}).get("headers")
        if here is None or _header_names(here) != settings["headers"]:
            raise InvalidRequest(
                f"The configuration {name} sent the headers {', '.join(settings['headers'])}, whose values a study"
                " doesn't keep.",
                hint="Give them: Lab(metadata_settings={'headers': …}), or --ollama-header NAME:VALUE.",
                details={"fields": [f"configurations.{name}.metadata_settings.headers"]},
            )
        settings["headers"] = here
    return found


def _header_names(headers: Any) -> list[str]:
    """Return the names of headers, which are values by name, or lines as "Name: value" or "@FILE"."""
    if isinstance(headers, Mapping):
        return sorted(headers)
    lines = [headers] if isinstance(headers, str) else list(headers)
    return sorted(line if line.startswith("@") else line.partition(":")[0].strip() for line in map(str, lines))
