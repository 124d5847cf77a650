"""Numbers that are none: weights and logits that are infinite or NaN, which would become a song of noise.

Owns both checks and their error. A matrix is checked by its sum, at load, because a short trial may not show its NaN:
torch's attention on a CPU hides a NaN in a query among fewer than 16 keys. The logits of every step are added up on
the device, and the total is read once for each piece of sound, so that a step of a GPU waits for nothing. What has
been NaN or infinite once stays so in a sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["require_finite", "require_finite_weights"]

_TRIES = {"float16": ("bfloat16", "float32"), "bfloat16": ("float32",)}
"""What to try after a precision. float16 ends at 65,504; bfloat16 reaches as far as float32, with fewer digits."""


def require_finite(total: Tensor, *, step: int, precision: str) -> None:
    """Raise AudioError (MUSICGEN_ERROR) if `total`, the sum of all logits so far [1], isn't finite. Waits for a GPU.

    step: the latest step that `total` counts; the one at fault is it or an earlier one. precision: float32, float16,
    bfloat16 or int8; the error's details name it, so that a recovery can take a wider one.
    """
    if bool(total.isfinite()):
        return
    tries = _TRIES.get(precision)
    if tries:
        hint = f"{precision} overflows with this model: try dtype={' or dtype='.join(tries)}."
    elif precision == "int8":
        hint = "Try decoder=fast, which doesn't round the weights."
    else:
        hint = "The checkpoint may be damaged: get it again, or name another model."
    raise AudioError(
        f"MusicGen's logits in {precision} were infinite or not a number by step {step}, so no music can come of them.",
        code=ErrorCode.MUSICGEN_ERROR,
        hint=hint,
        details={"precision": precision, "step": step},
    )


def require_finite_weights(module: nn.Module, what: str, precision: str) -> None:
    """Raise AudioError if a weight of `module` is infinite or not a number, and name its matrix.

    what: the module's part in the model, for the message. precision: that of its matrices. The error is MUSICGEN_ERROR
    where a wider precision may help (values beyond the end of float16 are infinite after the conversion), otherwise
    MUSICGEN_UNAVAILABLE. Costs 160 µs for 4 million weights; a GPU is waited for once.
    """
    named = list(_named_weights(module))
    if not named:
        return
    with torch.no_grad():
        finite = torch.stack([weight.sum(dtype=torch.float32) for _, weight in named]).isfinite().tolist()
    for (name, weight), summed in zip(named, finite, strict=True):
        # Finite weights may have an infinite sum, in theory.
        if not summed and not bool(weight.isfinite().all()):
            raise _spoilt(f"{what} {name}", weight, precision)


def _named_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all weights, with those of text encoders, which audiocraft keeps out of its modules' parameters, and the
    codec's codebooks, which are buffers, since they were not learned by gradients."""
    yield from module.named_parameters()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name.endswith("codebook.embed"))
    for name, part in module.named_modules():
        encoder = vars(part).get("t5")
        if isinstance(encoder, nn.Module):
            for inner, weight in encoder.named_parameters():
                yield f"{name}.t5.{inner}", weight


def _spoilt(where: str, weight: Tensor, precision: str) -> AudioError:
    nans = int(weight.isnan().sum())
    infinite = int(weight.isinf().sum())
    found = " and ".join(f"{n:,} are {kind}" for n, kind in ((nans, "not a number"), (infinite, "infinite")) if n)
    tries = _TRIES.get(precision) if weight.dtype != torch.float32 and not nans else None
    details: dict[str, Any] = {"precision": precision, "matrix": where}
    shape = ", ".join(map(str, weight.shape))
    message = f"The weights can't be used: of the values of {where} [{shape}], {found}."
    if tries:
        hint = f"{precision} may be too narrow for them: try dtype={' or dtype='.join(tries)}."
        return AudioError(message, code=ErrorCode.MUSICGEN_ERROR, hint=hint, details=details)
    hint = "The checkpoint is damaged: get it again, or name another model."
    return AudioError(message, code=ErrorCode.MUSICGEN_UNAVAILABLE, hint=hint, details=details)
