"""Whether modules are as their classes made them: what somebody has done to a model that our loop would not see.

Owns the reasons. The layouts that can be decoded are in `lm_weights.py`, for audiocraft, and `transformers_weights.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import nn

__all__ = ["altered", "current_autocast", "precision_differs"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def altered(around: Mapping[str, nn.Module], parts: Mapping[str, nn.Module], known: Collection[type]) -> str:
    """Return what our loop would not see of these modules; "" if there is nothing.

    parts: looked at with the modules inside them. around: looked at alone. known: the exact classes that the loop
    computes: LoRA and quantisation replace a class; hooks, offloading and torch.compile replace a call.
    """
    return next(_all_reasons(around, parts, known), "")


def _all_reasons(
    around: Mapping[str, nn.Module], parts: Mapping[str, nn.Module], known: Collection[type]
) -> Iterator[str]:
    for name, module in around.items():
        yield from _reasons(name, module)
    devices = set()
    for prefix, part in parts.items():
        for name, module in part.named_modules(prefix=prefix):
            if type(module) not in known:
                yield f"{name} is a {type(module).__module__}.{type(module).__qualname__}"
            yield from _reasons(name, module)
            yield from _parameter_reasons(name, module)
            devices |= {str(parameter.device) for parameter in module.parameters(recurse=False)}
    if len(devices) > 1:
        yield f"its parts are on {' and '.join(sorted(devices))}"


def _reasons(name: str, module: nn.Module) -> Iterator[str]:
    if module.training:
        yield f"{name} is in training mode"
    if "forward" in module.__dict__ or "__call__" in module.__dict__:
        yield f"the forward pass of {name} has been replaced"
    if getattr(module, "_compiled_call_impl", None) is not None:
        yield f"{name} is compiled"
    if any(getattr(module, hooks) for hooks in _HOOKS) or _has_global_hooks():
        yield f"{name} has hooks"


def _parameter_reasons(name: str, module: nn.Module) -> Iterator[str]:
    for part, parameter in module.named_parameters(recurse=False):
        if type(parameter) is not nn.Parameter or type(parameter.data) is not torch.Tensor:
            yield f"{name}.{part} is a {type(parameter.data).__name__}"
        elif parameter.device.type == "meta":
            yield f"{name}.{part} is on no device (offloaded)"


def _has_global_hooks() -> bool:
    module = nn.modules.module
    return bool(module._global_forward_hooks or module._global_forward_pre_hooks)  # noqa: SLF001 - no public way


def current_autocast(kind: str) -> torch.dtype | None:
    """Return the precision of the autocast that is on for this kind of device, or None."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def precision_differs(matrix: torch.Tensor, others: Collection[torch.Tensor], cast: torch.dtype | None) -> str:
    """Return why our loop would round elsewhere than the model's own; "" if both compute alike.

    matrix: one of the transformer's. others: an embedding, a head, a norm. cast: the autocast in use. Alike are float32
    throughout, and on a GPU audiocraft's half precision: matrices in it, the rest in float32, under autocast.
    """
    kind, dtype = matrix.device.type, matrix.dtype
    halves = {tensor.dtype for tensor in others} - {torch.float32}
    if dtype == torch.float32 and not halves:
        return f"autocast computes in {_name(cast)}" if cast is not None else ""
    if kind != "cpu" and not halves and cast == dtype:
        return ""
    named = _name(dtype if dtype != torch.float32 else next(iter(halves)))
    return f'weights in {named} are rounded elsewhere by our loop (decoder="fast" accepts that)'


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
