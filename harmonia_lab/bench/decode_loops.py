"""The decode loops that `harmonia bench decode` compares. Each runs some steps from a position, and times them.

Owns how each loop is run, and what a step of it must read and multiply. All loops decode the same shape of language
model with the same guidance, and sample from the 250 likeliest tokens.

A late position is not prefilled, which would take longer than all the steps: the loops find keys and values of zeros
for the positions before it. Their steps take as long as with any others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import replaced
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.forward_pass import Sequencer
from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype
from harmonia_lab.audio_engines.musicgen.packed_weights import Packing
from harmonia_lab.bench.decode_limits import matrix_elements

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
    """name: for the table. weight_bytes: of all matrices that a step reads, as this loop stores them.

    packing: of most of them. guided_first: guidance comes before the heads.
    """

    name: str
    packing: Packing
    guided_first: bool
    weight_bytes: int

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        """Run `steps` steps from frame `position` on. Call `watch` after each."""
        ...


def random_codes(lm: Any, rows: int, frames: int, *, seed: int) -> Tensor:
    """Return random codes [B, K, frames]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, lm.card, (rows, lm.n_q, frames), generator=generator).to(lm.emb[0].weight.device)


class DecoderLoop:
    """Our loop, with its weights packed in one of the ways of `packed_weights.py`."""

    guided_first = True

    def __init__(self, name: str, musicgen: Any, decoder: Decoder) -> None:
        self.name, self.decoder, self._musicgen = name, decoder, musicgen
        layers, heads = matrix_elements(musicgen.lm)
        dense = compute_dtype(musicgen.lm).itemsize
        size: dict[Packing, int] = {"half_rows": 2, "half": 2, "int8": 1, "float_rows": 4, "onednn": 4, "dense": dense}
        packed = [packing for packing in size if packing in decoder.packings]
        exact: Packing = next((packing for packing in packed if packing != "int8"), "dense")
        self.packing = "int8" if "int8" in packed else exact
        self.weight_bytes = layers * size[self.packing] + heads * size[exact]

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        with replaced(Sequencer, prefill=_write_zeros):
            _generate(self._musicgen, self.decoder.generate, texts, position, steps, on_step=watch)


def _write_zeros(sequencer: Sequencer, _first: int) -> None:
    """Write all keys and values. Memory that was never written is read from one page, which stays in the cache."""
    for part in sequencer.passes:
        for cache in part.caches:
            cache.both.zero_()


class AudiocraftLoop:
    """audiocraft's own loop."""

    name = "audiocraft"
    packing: Packing = "dense"
    guided_first = False

    def __init__(self, musicgen: Any) -> None:
        self._musicgen = musicgen
        self.weight_bytes = sum(matrix_elements(musicgen.lm)) * compute_dtype(musicgen.lm).itemsize

    def run(self, texts: list[str], position: int, steps: int, watch: Callable[..., None]) -> None:
        with self._musicgen.autocast, _without_prefill(self._musicgen.lm):
            _generate(self._musicgen, self._musicgen.lm.generate, texts, position, steps, callback=watch)


@contextmanager
def _without_prefill(lm: Any) -> Iterator[None]:
    """Make the first step of `lm.generate` find keys and values of zeros for all positions but its last."""
    sample = lm._sample_next_token  # noqa: SLF001 - what `generate` calls at each step

    def sample_last(sequence: Tensor, conditions: Any, *args: Any, **kwargs: Any) -> Tensor:
        if sequence.shape[-1] > 1:
            prefixes = [conditions[name][0].shape[1] for name in lm.fuser.fuse2cond["prepend"]]
            _fill_with_zeros(lm, 2 * len(sequence), sum(prefixes) + sequence.shape[-1] - 1)
            sequence = sequence[..., -1:]
        tokens: Tensor = sample(sequence, conditions, *args, **kwargs)
        return tokens

    lm._sample_next_token = sample_last  # noqa: SLF001
    try:
        yield
    finally:
        del lm._sample_next_token  # noqa: SLF001 - uncovers the class's method


def _fill_with_zeros(lm: Any, rows: int, positions: int) -> None:
    """Set the streaming state that audiocraft's modules have after `positions` positions."""
    from audiocraft.modules.transformer import _get_attention_time_dimension  # noqa: PLC0415

    for layer in lm.transformer.layers:
        attention = layer.self_attn
        shape = [rows, positions, attention.num_heads, attention.embed_dim // attention.num_heads]
        if _get_attention_time_dimension(attention.memory_efficient) == 2:
            shape[1:3] = shape[2], shape[1]
        past = {name: torch.zeros(shape, dtype=compute_dtype(lm), device=lm.emb[0].weight.device) for name in _PAST}
        attention._streaming_state |= past | {"offset": torch.tensor(0)}  # noqa: SLF001
    offsets = torch.full((rows,), positions, device=lm.emb[0].weight.device)
    for module in (lm.transformer, lm.fuser):
        module._streaming_state["offsets"] = offsets  # noqa: SLF001


_PAST = ("past_keys", "past_values")


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
    packing: Packing = "dense"
    guided_first = False

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
        more: dict[str, Any] = {}
        if position:
            more = {"decoder_input_ids": prompt.flatten(0, 1), "past_key_values": self._zeros(2 * len(texts), position)}
        prepare = self._model.prepare_inputs_for_generation

        def last_only(*args: Any, **kwargs: Any) -> Any:
            return prepare(*args, **kwargs | {"next_sequence_length": 1})

        with torch.inference_mode(), replaced(self._model, prepare_inputs_for_generation=last_only):
            self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=steps,
                stopping_criteria=StoppingCriteriaList([Watched()]),
                **more,
            )

    def _zeros(self, rows: int, positions: int) -> Any:
        """Return a cache of that many positions."""
        from transformers import DynamicCache, EncoderDecoderCache  # noqa: PLC0415

        cache: Any = DynamicCache
        config, lm = self._model.decoder.config, self._lm
        own, text = cache(config=config), cache(config=config)
        heads = config.num_attention_heads
        for layer in range(config.num_hidden_layers):
            zeros = lm.emb[0].weight.new_zeros(rows, heads, positions, lm.dim // heads, dtype=compute_dtype(lm))
            own.update(zeros, zeros, layer)
        both: Any = EncoderDecoderCache
        return both(own, text)
