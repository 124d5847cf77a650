"""Validation of Ollama's chat requests, and their translation to llama.cpp's. No I/O.

Option names and defaults: https://github.com/ollama/ollama/blob/main/docs/modelfile.md and `DefaultOptions` in Ollama's
`api/types.go`; llama.cpp's names: `tools/server/README.md` of https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["KEEP_ALIVE_S", "ApiError", "keep_alive_seconds", "known_options", "logprob_entry", "parse_body", "to_llama"]

KEEP_ALIVE_S = 300.0
"""Ollama's default: the model is unloaded five minutes after the last request."""

FOREVER_S = 1e8
"""Three years: the longest keep_alive, whatever a request asks for."""

MAX_TOP_LOGPROBS = 1_000_000
"""More than the tokens of any vocabulary."""

_DEFAULTS: dict[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
}
"""Ollama's defaults, which differ from llama.cpp's."""

_WHOLE = {"num_predict", "num_ctx", "seed", "top_k", "repeat_last_n"}
_REAL = {"temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"}
_INT32 = 2**31 - 1


class ApiError(Exception):
    """A request that the server can't answer. status: HTTP status of its error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_body(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a request's body. Raises ApiError."""
    try:
        body = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def to_llama(body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the chat request for llama.cpp, which answers with a chunk per token and prefill step. Raises ApiError.

    options: from `known_options`.
    """
    for key, feature in (("tools", "tools"), ("think", "thinking")):
        if body.get(key):
            raise ApiError(400, f'"{body["model"]}" does not support {feature}')
    seed = options.get("seed", -1)
    limit = options.get("num_predict", -1)
    chat = _DEFAULTS | {key: value for key, value in options.items() if key not in {"num_predict", "num_ctx"}}
    chat |= {
        "messages": _messages(body["messages"]),
        "max_tokens": limit if limit > 0 else -1,
        "seed": seed if seed >= 0 else -1,
        "cache_prompt": True,  # the same bytes as a cold prompt, also with a seed: see `llama.py`
        "stream": True,
        "timings_per_token": True,
        "return_progress": True,  # a chunk per step, so that a prefill can be stopped
    }
    top = body.get("top_logprobs") or 0
    if not isinstance(top, int) or not 0 <= top <= MAX_TOP_LOGPROBS:
        raise ApiError(400, f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    if body.get("logprobs"):
        chat |= {"logprobs": True, "top_logprobs": max(1, top)}  # llama.cpp gives none at all for 0
    if body.get("format"):
        chat["grammar"] = _grammar(body["format"])
    return chat


def known_options(options: Any) -> dict[str, Any]:
    """Return the supported options, in llama.cpp's ranges; like Ollama, ignore others. Raises ApiError."""
    if not isinstance(options or {}, dict):
        raise ApiError(400, "options must be an object")
    known: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if value is None or key not in _WHOLE | _REAL | {"stop"}:
            continue
        kinds = (int,) if key in _WHOLE else (int, float) if key in _REAL else (str, list)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ApiError(400, f"option {key!r} has the wrong type")
        known[key] = max(-1, min(value, _INT32)) if key in _WHOLE - {"seed"} else value
    if known.get("seed", -1) >= 0:
        known["seed"] %= 2**32 - 1  # to llama.cpp, 2**32 - 1 means any seed
    if isinstance(known.get("stop"), str):
        known["stop"] = [known["stop"]]
    return known


def keep_alive_seconds(value: Any) -> float:
    """Return the seconds of `keep_alive`, a number or a Go duration ("1h30m"); negative: forever. Raises ApiError."""
    if value is None:
        return KEEP_ALIVE_S
    if isinstance(value, int | float):
        return min(float(value), FOREVER_S)
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    match = re.fullmatch(r"(-?)((?:\d+(?:\.\d+)?(?:ms|s|m|h))+|\d+(?:\.\d+)?)", str(value))
    if not match:
        raise ApiError(400, f"keep_alive {value!r} is not a duration")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", match[2]) or [(match[2], "s")]
    return (-1 if match[1] else 1) * min(sum(float(number) * units[unit] for number, unit in parts), FOREVER_S)


def logprob_entry(entry: dict[str, Any], top: int = 0) -> dict[str, Any]:
    """Return a token of an answer in Ollama's form, from llama.cpp's."""
    value = {"token": entry["token"], "logprob": entry["logprob"]}
    return value | {"top_logprobs": [logprob_entry(other) for other in entry["top_logprobs"]]} if top else value


def _messages(messages: Any) -> list[dict[str, str]]:
    plain = []
    for message in messages if isinstance(messages, list) else [None]:
        if not isinstance(message, dict) or message.get("role") not in {"system", "user", "assistant"}:
            raise ApiError(400, "messages must be a list of {role: system | user | assistant, content}")
        content = message.get("content") or ""
        if not isinstance(content, str):
            raise ApiError(400, "a message's content must be a string")
        plain.append({"role": message["role"], "content": content})
    return plain


def _grammar(form: Any) -> str:
    """Return a grammar for llguidance: llama.cpp's own compiler allows Markdown fences and endless white space."""
    schema = {"type": "object"} if form == "json" else form
    if not isinstance(schema, dict):
        raise ApiError(400, 'format must be "json" or a JSON schema')
    return "%llguidance {}\nstart: %json " + json.dumps(schema | {"x-guidance": {"whitespace_flexible": False}})


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
