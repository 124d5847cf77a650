"""What the run log says of an audio engine: model, settings, the decode loop that ran, and a digest of its weights.

Owns the way from an engine's `identity` or `record` to those columns. The columns are `store/run_log.py`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["audio_columns"]


def audio_columns(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns. told: `AudioEngine.identity()` before stage 2, `record()` after it, which knows more."""
    settings = told.get("settings")
    return {
        "audio_model": told.get("model"),
        "audio_settings": dict(settings) if isinstance(settings, Mapping) else None,
        "audio_decoder": told.get("decoderRunning"),
        "audio_digest": _digest(told.get("sha256") or told.get("digest")),
    }


def _digest(found: Any) -> str | None:
    """Return the digest; of several files, each with its own, one over all of them."""
    if isinstance(found, Mapping) and found:
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return found if isinstance(found, str) else None
