"""audiocraft's language model on our loop: `LMModel.generate` of MusicGen and AudioGen.

Owns which calls are served and how their arguments are passed on. What surrounds the call (conditions, windows beyond
30 s, the codec) stays audiocraft's.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from harmonia_lab.audio_engines.musicgen.acceleration.hooks import NotServed
from harmonia_lab.audio_engines.musicgen.acceleration.plain_modules import altered, current_autocast, precision_differs
from harmonia_lab.audio_engines.musicgen.acceleration.served_model import ServedModel
from harmonia_lab.audio_engines.musicgen.decoder import Decoder, StepView
from harmonia_lab.audio_engines.musicgen.lm_weights import unknown_layout

__all__ = ["served_lm"]

_METHODS = ("_sample_next_token", "forward", "generate")


def served_lm(lm: Any, mode: str) -> ServedLanguageModel:
    """Return audiocraft's LMModel with our loop in place of its `generate`. Raise NotServed if it is another class."""
    if f"{type(lm).__module__}.{type(lm).__qualname__}" != "audiocraft.models.lm.LMModel":
        raise NotServed(f"its language model is a {type(lm).__name__}")
    served = ServedLanguageModel(lm, mode)
    served.install({"generate": served.generate})
    return served


class ServedLanguageModel(ServedModel[Decoder]):
    """audiocraft's LMModel, which our `generate` is called for."""

    peers = "audiocraft's"

    def __init__(self, lm: Any, mode: str) -> None:
        super().__init__(lm, mode)
        self._signature = inspect.signature(type(lm).generate)

    def check_model(self, *, called: bool) -> None:
        lm = self.owner
        reason = _class_altered(lm) or altered({"it": lm, "its fuser": lm.fuser}, _parts(lm), _known_classes())
        if not reason and lm._fsdp is not None:  # noqa: SLF001 - audiocraft's own switch, without a public name
            reason = "it is wrapped by FSDP"
        if not reason:
            reason = unknown_layout(lm)
        if not reason and self.mode == "auto":
            reason = self._precision_differs(called=called)
        if reason:
            raise NotServed(reason)

    def _precision_differs(self, *, called: bool) -> str:
        lm = self.owner
        matrix: Tensor = lm.transformer.layers[0].linear1.weight
        if called:
            cast = current_autocast(matrix.device.type)
        else:  # MusicGen's own
            cast = matrix.dtype if matrix.device.type != "cpu" and matrix.dtype != torch.float32 else None
        return precision_differs(matrix, [lm.emb[0].weight, lm.linears[0].weight, lm.out_norm.weight], cast)

    def weights(self) -> list[Tensor]:
        return [tensor for part in _parts(self.owner).values() for tensor in part.parameters()]

    def pack(self) -> Decoder:
        decoder = Decoder(self.owner, self.mode, attend_padding=True)
        if decoder.running == "reference":
            raise NotServed(decoder.reason)
        self.loop = decoder.running
        return decoder

    def generate(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return what `LMModel.generate` returns for these arguments."""
        try:
            call = self._checked(args, kwargs)
            decoder = self.packed()
        except NotServed as reason:
            codes: Tensor = self.fall_back(reason, lambda: type(self.owner).generate(self.owner, *args, **kwargs))
            return codes
        prompt = call["prompt"].long() if call["prompt"] is not None else None
        passed = ("max_gen_len", "use_sampling", "temp", "top_k", "top_p", "cfg_coef", "two_step_cfg")
        parameters: dict[str, Any] = {name: call[name] for name in passed}
        if call["callback"] is not None:
            parameters["on_step"] = _relay(call["callback"])
        codes = decoder.generate(prompt, call["conditions"], **parameters)
        return codes[..., prompt.shape[-1] :] if call["remove_prompts"] and prompt is not None else codes

    def _checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by name. Raise NotServed if audiocraft has to serve, or to refuse, the call."""
        try:
            bound = self._signature.bind(self.owner, *args, **kwargs)
        except TypeError as error:
            raise NotServed(str(error)) from error
        bound.apply_defaults()
        call = bound.arguments
        for reason in _unserved(self.owner, call):
            raise NotServed(reason)
        return call


def _unserved(lm: Any, call: dict[str, Any]) -> Iterable[str]:
    prompt, conditions, rows = call["prompt"], call["conditions"], call["num_samples"]
    if not conditions:
        yield "no conditions are given"
    if rows is not None and rows != len(conditions):
        yield f"{rows} samples of {len(conditions)} conditions are asked for"
    length = 0
    if prompt is not None:
        if not isinstance(prompt, Tensor) or prompt.dim() != 3 or prompt.shape[:2] != (len(conditions), lm.n_q):
            yield "the prompt has another shape than the conditions"
        elif prompt.device != lm.emb[0].weight.device:
            yield "the prompt is on another device than the model"
        elif prompt.numel() and not bool(((prompt >= 0) & (prompt < lm.card)).all()):
            yield "the prompt has tokens that are not in the vocabulary"
        length = prompt.shape[-1]
    if length >= call["max_gen_len"]:
        yield "there is nothing to generate after the prompt"
    if not 0 <= call["top_k"] <= lm.card or not 0 <= call["top_p"] <= 1:
        yield "top_k or top_p is out of range"


def _relay(callback: Callable[[int, int], None]) -> Callable[[StepView], None]:
    """Return a callback for our loop that calls the caller's as audiocraft does: without gradients only."""
    outside = torch.is_inference_mode_enabled()

    def relay(view: StepView) -> None:
        with torch.inference_mode(outside), torch.no_grad():
            callback(view.done, view.total)

    return relay


def _class_altered(lm: Any) -> str:
    """Return how the model's class or its methods differ from audiocraft's; "" if they don't."""
    module = importlib.import_module("audiocraft.models.lm")
    for name in _METHODS:
        own = lm.__dict__.get(name) if name != "generate" else None
        if own is not None or getattr(module.LMModel, name).__module__ != module.__name__:
            return f"its method {name} has been replaced"
    return ""


def _parts(lm: Any) -> dict[str, nn.Module]:
    """Return the modules that our loop computes; the conditioners, which it calls, are none of them."""
    return {"transformer": lm.transformer, "emb": lm.emb, "linears": lm.linears, "out_norm": lm.out_norm}


def _known_classes() -> frozenset[type]:
    modules = importlib.import_module("audiocraft.modules.transformer")
    embedding: type = importlib.import_module("audiocraft.models.lm").ScaledEmbedding
    streaming = (
        modules.StreamingTransformer,
        modules.StreamingTransformerLayer,
        modules.StreamingMultiheadAttention,
        modules.LayerScale,  # refused by the layout, with a better reason
    )
    torchs = (nn.Linear, nn.LayerNorm, nn.Identity, nn.Dropout, nn.ModuleList)
    return frozenset((embedding, *streaming, *torchs))
