"""The decode loops that `harmonia bench decode` compares. Each runs some steps from a position, and times them.

Owns how each loop is run, and how many bytes a step of it must read. All loops decode the same shape of language model
with the same guidance, and sample from the 250 likeliest tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype

__all__ = ["GUIDANCE", "AudiocraftLoop", "DecoderLoop", "Loop", "Stopwatch", "TransformersLoop", "random_codes"]

GUIDANCE = 3.0
TOP_K = 250


class Stopwatch:
    """Times steps: call it after each. On a GPU it synchronises, and therefore only at every sixteenth step.

    skip: the number of first steps that don't count.
    """

    GPU_BLOCK = 16

    def __init__(self, device: torch.device, skip: int) -> None:
        self._device, self._skip = device, skip
        self._block = self.GPU_BLOCK if device.type == "cuda" else 1
        self._calls = 0
        self._stamps: list[float] = []

    def __call__(self, *_: Any) -> None:
        self._calls += 1
        if self._calls >= self._skip and (self._calls - self._skip) % self._block == 0:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._stamps.append(time.perf_counter())

    @property
    def steps_s(self) -> list[float]:
        """Seconds of each step that counts."""
        return [(after - before) / self._block for before, after in zip(self._stamps, self._stamps[1:], strict=False)]


class Loop(Protocol):
    """name: for the table. weight_bytes: of all matrices that a step reads, as this loop stores them."""

    name: str

    weight_bytes: int

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        """Run `steps` steps from frame `position` on. Call `watch` after each."""
        ...


def _matrix_elements(lm: Any) -> tuple[int, int]:
    """Return the numbers of weights that a step multiplies by: in the layers, and in the heads."""
    layers = lm.transformer.layers
    elements = sum(weight.numel() for weight in layers.parameters() if weight.ndim == 2)
    if layers[0].cross_attention is not None:
        elements -= 2 * lm.dim**2 * len(layers)  # the text's keys and values are cached
    return elements, sum(head.weight.numel() for head in lm.linears)


def random_codes(lm: Any, rows: int, frames: int, *, seed: int) -> Tensor:
    """Return random codes [B, K, frames]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, lm.card, (rows, lm.n_q, frames), generator=generator).to(lm.emb[0].weight.device)


class DecoderLoop:
    """Our loop, with its weights packed in one of the ways of `packed_weights.py`."""

    def __init__(self, name: str, musicgen: Any, decoder: Decoder) -> None:
        self.name, self.decoder, self._musicgen = name, decoder, musicgen
        layers, heads = _matrix_elements(musicgen.lm)
        size = {"half": 2, "int8": 1, "onednn": 4, "dense": compute_dtype(musicgen.lm).itemsize}
        packings = decoder.packings
        exact = next((packing for packing in packings if packing != "int8"), "dense")
        self.weight_bytes = layers * size["int8" if "int8" in packings else exact] + heads * size[exact]

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        _generate(self._musicgen, self.decoder.generate, texts, position, steps, on_step=watch)


class AudiocraftLoop:
    """audiocraft's own loop."""

    name = "audiocraft"

    def __init__(self, musicgen: Any) -> None:
        self._musicgen = musicgen
        self.weight_bytes = sum(_matrix_elements(musicgen.lm)) * compute_dtype(musicgen.lm).itemsize

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        with self._musicgen.autocast:
            _generate(self._musicgen, self._musicgen.lm.generate, texts, position, steps, callback=watch)


def _generate(
    musicgen: Any, generate: Callable[..., Tensor], texts: list[str], position: int, steps: int, **callback: Any
) -> None:
    """callback: the callback that `generate` calls after each step, under its name."""
    attributes, _ = musicgen._prepare_tokens_and_attributes(texts, None)  # noqa: SLF001 - as MusicGen.generate does
    lm = musicgen.lm
    frames = position + max(1, steps - max(lm.pattern_provider.delays))
    prompt = random_codes(lm, len(texts), position, seed=0)
    generate(prompt, attributes, max_gen_len=frames, top_k=TOP_K, cfg_coef=GUIDANCE, **callback)


class TransformersLoop:
    """transformers' MusicGen in the same shape and precision on the same device, with random weights of its own."""

    name = "transformers"

    def __init__(self, musicgen: Any) -> None:
        from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig  # noqa: PLC0415
        from transformers import MusicgenForConditionalGeneration as Model  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        lm = musicgen.lm
        text = lm.condition_provider.conditioners["description"]
        layer = lm.transformer.layers[0]
        decoder = MusicgenDecoderConfig(
            vocab_size=lm.card,
            num_hidden_layers=len(lm.transformer.layers),
            num_attention_heads=layer.self_attn.num_heads,
            hidden_size=lm.dim,
            ffn_dim=layer.linear1.out_features,
            num_codebooks=lm.n_q,
            audio_channels=musicgen.audio_channels,
            max_position_embeddings=2048,
            pad_token_id=lm.card,
            bos_token_id=lm.card,
            dropout=0.0,
        )
        codec = EncodecConfig(
            sampling_rate=musicgen.sample_rate,
            target_bandwidths=[2.2],
            upsampling_ratios=[8, 5, 4, 4],
            codebook_size=lm.card,
            num_filters=4,
            hidden_size=16,
            use_causal_conv=False,
        )
        weight = lm.emb[0].weight
        silence: Any = logging.set_verbosity_error
        silence()  # it warns about padding with the special token, which is right for MusicGen
        config = MusicgenConfig(text_encoder=text.t5.config, audio_encoder=codec, decoder=decoder)
        with weight.device:  # a GPU draws a large model's weights in a second, the CPU in a minute
            model: Any = Model(config)
        self._model = model.eval().to(device=weight.device, dtype=compute_dtype(lm))
        settings = self._model.generation_config
        settings.update(guidance_scale=GUIDANCE, do_sample=True, top_k=TOP_K, decoder_start_token_id=lm.card)
        settings.update(pad_token_id=lm.card, bos_token_id=lm.card)
        settings.eos_token_id = None
        self._tokenizer, self._lm = text.t5_tokenizer, lm
        self.weight_bytes = AudiocraftLoop(musicgen).weight_bytes

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        from transformers import StoppingCriteria, StoppingCriteriaList  # noqa: PLC0415

        class Watched(StoppingCriteria):
            """Never stops; transformers calls it after each step."""

            def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
                del scores, kwargs
                watch()
                return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

        device = self._lm.emb[0].weight.device
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True).to(device)
        prompt = random_codes(self._lm, len(texts), position, seed=0)
        more = {"decoder_input_ids": prompt.flatten(0, 1)} if position else {}
        with torch.inference_mode():
            self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=steps,
                stopping_criteria=StoppingCriteriaList([Watched()]),
                **more,
            )
