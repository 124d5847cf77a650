"""transformers' MusicGen on our loop: `generate` of the text and the melody models, mono and stereo.

Owns which calls are served and what of a call our loop needs. `generate` stays transformers': it parses the arguments,
encodes text and sound, makes processors and criteria, and decodes; only `_sample`, which it calls for the tokens, is
replaced, and the pass of `_prefill` whose result it discards. Both names are private, so their parameters are checked.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.acceleration.hooks import NotServed
from harmonia_lab.audio_engines.musicgen.acceleration.plain_modules import altered, current_autocast, precision_differs
from harmonia_lab.audio_engines.musicgen.acceleration.served_model import ServedModel
from harmonia_lab.audio_engines.musicgen.acceleration.transformers_steps import (
    Steps,
    draw_for_layer_drop,
    generate_ids,
    masked_text,
)
from harmonia_lab.audio_engines.musicgen.acceleration.transformers_weights import (
    CLASSES,
    decoder_of,
    known_classes,
    packed_weights,
    position_table,
)
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights

__all__ = ["served_transformers"]

_PARAMETERS = {
    "_sample": {
        "self", "input_ids", "logits_processor", "stopping_criteria", "generation_config", "synced_gpus", "streamer",
        "prefill_outputs", "model_kwargs",
    },
    "_prefill": {"self", "input_ids", "generation_config", "model_kwargs", "is_first_iteration"},
}  # fmt: skip

_ARGUMENTS = frozenset({
    "attention_mask", "audio_scales", "decoder_delay_pattern_mask", "encoder_hidden_states", "encoder_outputs",
    "guidance_scale", "input_features", "input_values", "inputs_embeds", "padding_mask", "past_key_values",
    "prefill_outputs", "use_cache",
})  # fmt: skip
"""What `generate` hands to `_sample` that our loop reads, or that has done its part before."""


def served_transformers(model: Any, mode: str) -> ServedTransformers:
    """Return transformers' MusicGen with our loop in place. Raise NotServed for another class or an unknown release."""
    if CLASSES.get(type(model).__name__, ("",))[0] != type(model).__module__:
        raise NotServed(f"a {type(model).__name__} is not known")
    served = ServedTransformers(model, mode)
    served.install(served.methods())
    return served


class ServedTransformers(ServedModel[Weights]):
    """transformers' MusicGen, which our `_sample` is called for."""

    peers = "transformers'"

    def __init__(self, model: Any, mode: str) -> None:
        super().__init__(model, mode)
        self._call = threading.local()
        """skipped: the arguments of the `_prefill` that `generate` asked for. theirs: whether its own loop runs."""

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return our methods by the names of those that they replace. Raise NotServed if this release has others."""
        for name, known in _PARAMETERS.items():
            method = getattr(type(self.owner), name, None)
            if method is None or not set(inspect.signature(method).parameters) <= known:
                version = importlib.import_module("transformers").__version__
                raise NotServed(f"transformers {version} has another {name} than the releases that are known")
        return {"_sample": self.sample, "_prefill": self.prefill}

    def check_model(self, *, called: bool) -> None:
        model = self.owner
        decoder = model.decoder
        around = {"it": model, "decoder": decoder, "decoder.model": decoder.model}
        parts = {"decoder.model.decoder": decoder_of(model), "decoder.lm_heads": decoder.lm_heads}
        reason = altered(around, parts, known_classes(model))
        if not reason and any(linear.bias is not None for linear in _linears(model)):
            reason = "its layers have biases"
        if not reason and self.mode == "auto":
            others = [decoder_of(model).embed_tokens[0].weight, decoder_of(model).layer_norm.weight]
            matrix = decoder_of(model).layers[0].fc1.weight
            reason = precision_differs(matrix, others, current_autocast(matrix.device.type) if called else None)
        if reason:
            raise NotServed(reason)

    def weights(self) -> list[Tensor]:
        return [*decoder_of(self.owner).parameters(), *self.owner.decoder.lm_heads.parameters()]

    def pack(self) -> Weights:
        rounded = self.mode == "int8" and self.owner.decoder.lm_heads[0].weight.device.type == "cpu"
        self.loop = "int8" if rounded else "fast"
        return packed_weights(self.owner, "int8" if rounded else None)

    def prefill(self, *args: Any, **kwargs: Any) -> Any:
        """Skip the pass that `generate` makes and `_sample` makes again; transformers' own loop makes both."""
        if getattr(self._call, "theirs", False):
            return type(self.owner)._prefill(self.owner, *args, **kwargs)  # noqa: SLF001 - what is replaced
        self._call.skipped = args, kwargs
        return None

    def sample(
        self,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        streamer: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return what `_sample` returns for these arguments."""
        skipped, self._call.skipped = getattr(self._call, "skipped", None), None
        try:
            _check_settings(generation_config, stopping_criteria, synced_gpus, kwargs, prefilled=skipped is not None)
            weights = self.packed()
            steps = self._steps(input_ids, logits_processor, stopping_criteria, generation_config, streamer, kwargs)
        except NotServed as reason:
            named = {
                "input_ids": input_ids, "logits_processor": logits_processor, "stopping_criteria": stopping_criteria,
                "generation_config": generation_config, "synced_gpus": synced_gpus, "streamer": streamer,
            }  # fmt: skip
            return self.fall_back(reason, lambda: self._sample_theirs(skipped, named | kwargs))
        if skipped is not None:
            draw_for_layer_drop(weights)
        return generate_ids(weights, steps, lambda positions: position_table(self.owner, positions))

    def _sample_theirs(self, skipped: tuple[Any, Any] | None, arguments: dict[str, Any]) -> Any:
        """Return what transformers' own loop returns, after the pass that it had made before, if it had."""
        self._call.theirs = True
        try:
            if skipped is not None:
                args, kwargs = skipped
                outputs = type(self.owner)._prefill(self.owner, *args, **kwargs)  # noqa: SLF001 - what is replaced
                if "prefill_outputs" in arguments:
                    arguments["prefill_outputs"] = outputs
            return type(self.owner)._sample(self.owner, **arguments)  # noqa: SLF001 - what is replaced
        finally:
            self._call.theirs = False

    def _steps(
        self, ids: Tensor, processors: Any, criteria: Any, config: Any, streamer: Any, kwargs: Mapping[str, Any]
    ) -> Steps:
        """Return the call as our loop takes it. Raise NotServed if transformers has to serve, or to refuse, it."""
        guidance = _guidance(processors)
        text, mask, prefix = self._conditions(kwargs)
        steps = Steps(
            ids=ids,
            known=kwargs["decoder_delay_pattern_mask"],
            guidance=guidance,
            text=text,
            text_mask=mask,
            prefix=prefix,
            processors=processors if guidance is None else type(processors)(processors[1:]),
            criteria=criteria,
            streamer=streamer,
            do_sample=config.do_sample,
        )
        for reason in _unserved_shapes(self.owner.decoder.config, steps):
            raise NotServed(reason)
        return steps

    def _conditions(self, kwargs: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return text, its mask and the prefix, as `forward` projects and masks them."""
        model = self.owner
        if type(model).__name__ == "MusicgenMelodyForConditionalGeneration":
            return (
                None,
                None,
                kwargs.get("encoder_hidden_states"),
            )  # text and melody, projected and masked by `generate`
        if kwargs.get("encoder_outputs") is None:
            return None, None, None
        text, mask = kwargs["encoder_outputs"][0], kwargs.get("attention_mask")
        config = model.decoder.config
        if model.text_encoder.config.hidden_size != config.hidden_size and config.cross_attention_hidden_size is None:
            text = model.enc_to_dec_proj(text)
        if mask is not None and mask.shape != text.shape[:2]:
            raise NotServed("the attention mask has another shape than the text")
        return *masked_text(text, mask), None


def _linears(model: Any) -> Iterator[Any]:
    for layer in decoder_of(model).layers:
        yield from (layer.fc1, layer.fc2)
        for attention in filter(None, (layer.self_attn, getattr(layer, "encoder_attn", None))):
            yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
    yield from model.decoder.lm_heads


def _guidance(processors: Any) -> float | None:
    """Return the guidance coefficient, None without guidance. Raise NotServed if processors come before it."""
    names = [type(processor).__name__ for processor in processors]
    if not any("ClassifierFreeGuidance" in name for name in names):
        return None
    if names[0] != "ClassifierFreeGuidanceLogitsProcessor" or any("ClassifierFree" in name for name in names[1:]):
        raise NotServed("a logits processor comes before guidance, or guides by itself")
    return float(processors[0].guidance_scale)


def _check_settings(
    config: Any, criteria: Any, synced_gpus: bool, kwargs: Mapping[str, Any], *, prefilled: bool
) -> None:
    """Raise NotServed for what our loop has no part for. prefilled: whether `generate` asked for a pass before."""
    # Melody models prepare an empty cache. One of the caller's is written to, by that pass also where it is empty.
    cache = kwargs.get("past_key_values")
    filled = cache is not None and (prefilled or getattr(cache, "_is_user_defined", False) or cache.get_seq_length())
    ending = config._eos_token_tensor is not None or any(hasattr(c, "eos_token_id") for c in criteria)  # noqa: SLF001
    asked = {
        "synced_gpus": synced_gpus,
        "return_dict_in_generate, for scores, attentions or a cache": config.return_dict_in_generate,
        "num_return_sequences": config.num_return_sequences != 1,
        "an end token": ending,
        "prefill_chunk_size": getattr(config, "prefill_chunk_size", None) is not None,
        "use_cache=False": not kwargs.get("use_cache", True),
        "a cache": filled,
    }
    asked |= {name: value is not None for name, value in kwargs.items() if name not in _ARGUMENTS}
    named = [name for name, given in asked.items() if given]
    if named:
        raise NotServed(f"the call has {' and '.join(named)}")
    if kwargs.get("decoder_delay_pattern_mask") is None:
        raise NotServed("no pattern of codebooks is given")


def _unserved_shapes(config: Any, steps: Steps) -> Iterator[str]:
    rows, length = steps.known.shape
    first = steps.ids.shape[-1]
    if len(steps.ids) != rows or rows % config.num_codebooks or not 0 < first < length:
        yield "there is nothing to generate after the prompt"
    conditions = steps.text if steps.text is not None else steps.prefix
    if conditions is None:
        yield "neither text nor melody is given"
    elif conditions.dim() != 3 or len(conditions) * config.num_codebooks != rows * (1 if steps.guidance is None else 2):
        yield "text or melody have another number of rows than the prompt"
    elif conditions.device != steps.ids.device or conditions.shape[-1] != config.hidden_size:
        yield "text or melody are on another device, or of another width, than the model"
    tokens = torch.cat([steps.ids.flatten(), steps.known[steps.known >= 0]])
    if not bool(((tokens >= 0) & (tokens <= config.vocab_size)).all()):
        yield "the prompt has tokens that are not in the vocabulary"
