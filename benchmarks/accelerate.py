"""What `harmonia_lab.accelerate` saves a script: `python -m benchmarks.accelerate [--pairs 3] [--json FILE]`.

Owns the method: a script as people write it, with the peer's own classes in the shape of musicgen-small and random
weights that are float16 numbers, as the released ones are; codec and text encoder included. Each pair makes the same
music by the peer's loop and by ours, in an order that alternates, from one seed; and the sounds are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from harmonia_lab import accelerate
from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft, replaced
from harmonia_lab.audio_engines.musicgen.random_checkpoint import build_model
from harmonia_lab.bench.decode_limits import bandwidth

SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "ffn_dim": 4096,
        "vocab_size": 2048,
    },
    "tiny": {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "ffn_dim": 256, "vocab_size": 512},
}
"""transformers' names for the shapes of `random_checkpoint.py`."""

PROMPT = "a calm piano melody over rain, 70 bpm"
Script = Callable[[float], Any]


def audiocraft_script(size: Any) -> tuple[Any, Script]:
    """Return audiocraft's MusicGen, and the script's call for so many seconds of music."""
    load_audiocraft()
    from audiocraft.models.lm import LMModel  # noqa: PLC0415

    with replaced(LMModel, _init_weights=lambda *_: None):  # torch's own initialisation will do, and is faster
        model = build_model(size, seed=1)
    _as_released(model.lm)

    def make(seconds: float) -> Any:
        model.set_generation_params(duration=seconds)
        return model.generate([PROMPT])

    return model, make


def transformers_script(size: Any) -> tuple[Any, Script]:
    """Return transformers' MusicgenForConditionalGeneration in the same shape, and the script's call."""
    from transformers import EncodecConfig, GenerationConfig, MusicgenConfig, MusicgenDecoderConfig  # noqa: PLC0415
    from transformers import MusicgenForConditionalGeneration as Model  # noqa: PLC0415

    text = build_model("tiny", seed=1).lm.condition_provider.conditioners["description"]
    shape = SHAPES[size]
    card = shape["vocab_size"]
    decoder = MusicgenDecoderConfig(**shape, num_codebooks=4)
    codec = EncodecConfig(
        sampling_rate=32000, num_filters=64 if size == "small" else 4, upsampling_ratios=[8, 5, 4, 4],
        codebook_size=card, target_bandwidths=[4 * 50 * (card.bit_length() - 1) / 1000], use_causal_conv=False,
    )  # fmt: skip
    ids = text.t5_tokenizer([PROMPT], return_tensors="pt")["input_ids"]
    config = MusicgenConfig(
        text_encoder=text.t5.config.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
    )
    model: Any = Model(config)
    model.eval()
    settings: Any = GenerationConfig
    special = {"decoder_start_token_id": decoder.vocab_size, "pad_token_id": decoder.vocab_size}
    model.generation_config = settings(
        do_sample=True, guidance_scale=3.0, max_length=1500, bos_token_id=decoder.vocab_size, **special
    )
    _as_released(model.decoder)

    def make(seconds: float) -> Any:
        return model.generate(input_ids=ids, max_new_tokens=round(seconds * 50) + 3)

    return model, make


SCRIPTS = {"audiocraft": audiocraft_script, "transformers": transformers_script}


def _as_released(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half())


def measure(peer: str, size: str, seconds: float, pairs: range) -> dict[str, Any]:
    """Return the seconds of each call and of accelerating the model, and whether all sounds were equal."""
    model, make = SCRIPTS[peer](size)
    row: dict[str, Any] = {"peer": peer, "size": size, "seconds": seconds, "load": []}
    row |= {name: [] for side in ("theirs", "ours") for name in (f"{side}_s", f"{side}_cpu_s")}
    begin = time.perf_counter()
    accelerate(model).undo()
    row["accelerate_s"] = time.perf_counter() - begin
    make(0.1)  # first calls are slower
    equal = True
    for pair in pairs:
        sounds = {}
        for side in ("theirs", "ours") if pair % 2 == 0 else ("ours", "theirs"):
            running = accelerate(model, "auto" if side == "ours" else "reference")
            torch.manual_seed(pair)
            begin, cpu = time.perf_counter(), time.process_time()
            sounds[side] = make(seconds)
            row[f"{side}_s"].append(time.perf_counter() - begin)
            row[f"{side}_cpu_s"].append(time.process_time() - cpu)
            running.undo()
        equal = equal and torch.equal(*sounds.values())
        row["load"].append(psutil.getloadavg()[0])
    ratios = [theirs / ours for theirs, ours in zip(row["theirs_s"], row["ours_s"], strict=True)]
    return row | {"ratios": ratios, "equal": equal, "bandwidth_gb_per_s": bandwidth(torch.device("cpu")) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="*", default=list(SCRIPTS), choices=list(SCRIPTS))
    parser.add_argument("--size", default="small")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--first-pair", type=int, default=0, help="its seed and order, to go on with earlier ones")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for peer in given.peers:
        row = measure(peer, given.size, given.seconds, range(given.first_pair, given.first_pair + given.pairs))
        rows.append(row)
        if given.json:  # after each peer, since each takes minutes
            given.json.write_text(
                json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n", encoding="utf-8"
            )
        theirs, ours, ratio = (statistics.median(row[name]) for name in ("theirs_s", "ours_s", "ratios"))
        processors = " and ".join(f"{statistics.median(row[side + '_cpu_s']):.1f}" for side in ("theirs", "ours"))
        print(
            f"{peer}, {given.size}, {given.seconds:g} s of music: theirs {theirs:.1f} s, ours {ours:.1f} s "
            f"({processors} s of processors), "
            f"{ratio:.1f} × ({min(row['ratios']):.1f} to {max(row['ratios']):.1f}, {given.pairs} pairs), sound equal: "
            f"{row['equal']}; packing {row['accelerate_s']:.1f} s; {row['bandwidth_gb_per_s']:.0f} GB/s, "
            f"{torch.get_num_threads()} threads, load {min(row['load']):.1f} to {max(row['load']):.1f}"
        )


if __name__ == "__main__":
    main()
