"""Tiny MusicGen models with random weights, in every layout in which people have them.

Owns their making, by the real classes of audiocraft and transformers. `kinds.py` makes of them the folders and caches
that are tried.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint

__all__ = ["Folders", "adapter", "hub_snapshot", "transformers_model"]

CARD, WIDTH = 256, 64
"""Tokens in a codebook, and the decoder's width, of the tiny models in transformers' layout."""


class Folders:
    """The sources of copies, each made when it is first asked for. root: where they go."""

    def __init__(self, root: Path, audiocraft: Callable[[str], Path] | None = None) -> None:
        """audiocraft: makes or finds the folder with random weights of a size, such as "tiny"."""
        self._root = root
        self._made: dict[str, Path] = {}
        self._audiocraft = audiocraft

    def audiocraft(self, size: str = "tiny") -> Path:
        if self._audiocraft is not None:
            return self._audiocraft(size)
        return self._once(size, lambda folder: make_checkpoint(folder, size, seed=1))  # type: ignore[arg-type] # a Size

    def transformers(self, *, channels: int = 1, melody: bool = False, text_width: int = 16) -> Path:
        def make(folder: Path) -> None:
            model = transformers_model(channels=channels, melody=melody, text_width=text_width)
            model.save_pretrained(str(folder))
            self._add_tokenizer(folder)

        return self._once(f"transformers-{channels}-{melody}-{text_width}", make)

    def shards(self) -> Path:
        def make(folder: Path) -> None:
            transformers_model().save_pretrained(str(folder), max_shard_size="200KB")
            self._add_tokenizer(folder)

        return self._once("shards", make)

    def pickled(self) -> Path:
        """The layout of transformers before safetensors."""

        def make(folder: Path) -> None:
            import torch  # noqa: PLC0415
            from safetensors.torch import load_file  # noqa: PLC0415

            shutil.copytree(self.transformers(), folder)
            torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()

        return self._once("pickled", make)

    def codec(self) -> Path:
        """A codec of its own in transformers' layout, which fits `audiocraft("tiny")`."""

        def make(folder: Path) -> None:
            from transformers import EncodecModel  # noqa: PLC0415

            network: Any = EncodecModel
            network(_codec_config(512)).save_pretrained(str(folder))

        return self._once("codec", make)

    def text(self, width: int = 512) -> Path:
        """A T5 of its own with its tokenizer."""
        from harmonia_lab.audio_engines.musicgen.random_checkpoint import _write_text_encoder  # noqa: PLC0415

        return self._once(f"text-{width}", lambda folder: _write_text_encoder(folder, width))

    def _add_tokenizer(self, folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self.audiocraft() / "t5" / name, folder)

    def _once(self, name: str, make: Callable[[Path], Any]) -> Path:
        if name not in self._made:
            self._made[name] = self._root / name
            make(self._root / name)
        return self._made[name]


def transformers_model(*, channels: int = 1, melody: bool = False, text_width: int = 16, seed: int = 1) -> Any:
    """Return transformers' `Musicgen(Melody)ForConditionalGeneration` with random weights."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    kinds: Any = transformers
    name = "MusicgenMelody" if melody else "Musicgen"
    decoder = getattr(kinds, f"{name}DecoderConfig")(
        vocab_size=CARD,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=2 * WIDTH,
        num_codebooks=4 * channels,
        audio_channels=channels,
        pad_token_id=CARD,
        bos_token_id=CARD,
    )
    text = kinds.T5Config(vocab_size=160, d_model=text_width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    parts = {"text_encoder": text, "audio_encoder": _codec_config(CARD), "decoder": decoder}
    config = getattr(kinds, f"{name}Config")(**{key: part.to_dict() for key, part in parts.items()})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(kinds, f"{name}ForConditionalGeneration")(config).eval()
        codebooks = [buffer for key, buffer in model.audio_encoder.named_buffers() if key.endswith("embed")]
        for tensor in [*model.parameters(), *codebooks]:
            tensor.data.normal_(0, 0.3)
    model.generation_config = kinds.GenerationConfig(
        do_sample=True,
        guidance_scale=3.0,
        max_length=1500,
        decoder_start_token_id=CARD,
        pad_token_id=CARD,
        bos_token_id=CARD,
    )
    return model


def adapter(folder: Path, base: str, *, rank: int = 2, seed: int = 3) -> Path:
    """Write a LoRA adapter of PEFT for a tiny model in transformers' layout, in PEFT's form, and return its folder."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(2):
        for part in ("q_proj", "v_proj"):
            module = f"base_model.model.decoder.model.decoder.layers.{layer}.self_attn.{part}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, WIDTH, generator=generator)
            tensors[f"{module}.lora_B.weight"] = torch.randn(WIDTH, rank, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def hub_snapshot(cache: Path, repo: str, source: Path) -> Path:
    """Put a copy of `source` into the hub's cache, as a download would lay it out, and return the model's folder."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(source, folder / "snapshots" / ("0" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    return folder


def _codec_config(card: int) -> Any:
    import math  # noqa: PLC0415

    from transformers import EncodecConfig  # noqa: PLC0415

    kind: Any = EncodecConfig
    return kind(
        sampling_rate=32000,
        num_filters=4,
        upsampling_ratios=[8, 5, 4, 4],
        codebook_size=card,
        codebook_dim=16,
        hidden_size=16,
        target_bandwidths=[4 * 50 * math.log2(card) / 1000],
        use_causal_conv=False,
    )
