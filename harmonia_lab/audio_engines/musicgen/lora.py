"""LoRA adapters of PEFT, merged into the weights that they were trained on.

Owns the arithmetic and the names in PEFT's files (`peft/tuners/lora/layer.py`; Hu et al., "LoRA: Low-Rank Adaptation of
Large Language Models", 2021): W + s B A, with s = alpha / r, or alpha / √r for rank-stabilised ones. Owns no file.

Shapes: A is [r, inputs], B is [outputs, r], W is [outputs, inputs].
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from harmonia_lab.audio_engines.musicgen.weight_files import unavailable

__all__ = ["has_lora", "merged"]

_A = re.compile(r"(?P<module>.+)\.lora_A(?:\.\w+)?\.weight")
_UNKNOWN = ("lora_magnitude_vector", "lora_embedding_", "lora_bias")
"""Parts of DoRA and of adapters of embeddings and biases, which are merged by other rules."""


def has_lora(weights: Mapping[str, Any]) -> bool:
    """Return whether adapters are still apart from the weights that they change."""
    return any(".lora_" in name for name in weights)


def merged(base: Mapping[str, Any], adapter: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of `base` with `adapter` merged into them, by the names of `base`.

    adapter: by PEFT's names. config: of `adapter_config.json`. What the adapter trained as a whole (`modules_to_save`)
    replaces what was there. Raise AudioError (MUSICGEN_UNAVAILABLE) for an adapter of another kind or another model.
    """
    kind = str(config.get("peft_type", "LORA"))
    other = next((part for part in _UNKNOWN if any(part in name for name in adapter)), "")
    if kind != "LORA" or config.get("use_dora") or other:
        raise _refused(f"it is {kind}, not LORA" if kind != "LORA" else f"it has {other or 'use_dora'}")
    result = dict(base)
    for name, tensor in adapter.items():
        found = _A.fullmatch(name)
        if found is None:
            if ".lora_B" not in name:
                result[_place(base, _plain_name(name))] = tensor
            continue
        module = _plain_name(found["module"])
        place = _place(base, f"{module}.weight")
        up = adapter.get(name.replace(".lora_A", ".lora_B"))
        weight = base[place]
        if up is None or tensor.dim() != 2 or (up.shape[0], tensor.shape[1]) != tuple(_oriented(weight, config).shape):
            raise _refused(f"the adapter's matrices for {module} don't fit {tuple(weight.shape)}")
        change = _oriented(up.float() @ tensor.float(), config)
        result[place] = weight.float() + _scale(module, tensor.shape[0], config) * change
    return result


def _oriented(matrix: Any, config: Mapping[str, Any]) -> Any:
    return matrix.T if config.get("fan_in_fan_out") else matrix


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    alpha = float(config.get("lora_alpha", rank))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.search(rf"(^|\.){pattern}$", module):  # as PEFT looks for a module's own alpha
            alpha = float(value)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".modules_to_save.default", "")


def _place(base: Mapping[str, Any], name: str) -> str:
    """Return the name in `base`: the adapter may have been trained on the decoder alone."""
    for place in (name, f"decoder.{name}", name.removeprefix("lm.")):
        if place in base:
            return place
    raise _refused(f"the adapter changes {name}, which its base model doesn't have")


def _refused(reason: str) -> Exception:
    return unavailable(
        f"This LoRA adapter can't be merged: {reason}.",
        "Merge it with PEFT (merge_and_unload), save the model, and name that folder.",
    )
