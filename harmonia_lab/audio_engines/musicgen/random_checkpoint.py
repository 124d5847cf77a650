"""MusicGen models with random weights: real classes, real shapes, noise for music.

For tests, for `harmonia doctor`, for benchmarks and for trying the whole way on a machine that has no model hub. Owns
the shapes, what a checkpoint folder contains and how one is recognised, and the same model built in place, without a
folder. `MusicGen.get_pretrained(folder)` loads a folder offline, through audiocraft's own code, once
`audiocraft_standins.load_audiocraft()` was called:

    state_dict.bin  compression_state_dict.bin      as audiocraft exports them; the language model's weights in float16,
                                                    as in the released checkpoints
    t5/                                             a text encoder and its tokenizer
    random_weights.json                             the marker: size, seed
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import (
    TEXT_ENCODER_FOLDER,
    load_audiocraft,
    no_progress_bars,
    text_encoder_from,
)
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.storage import storage_errors

__all__ = ["MARKER", "SIZES", "Size", "build_model", "make_checkpoint", "random_weights"]

Size = Literal[
    "tiny", "tiny-stereo", "tiny-melody",
    "small", "small-stereo", "medium", "medium-stereo", "large", "large-stereo", "melody", "melody-stereo",
]  # fmt: skip
SIZES: tuple[Size, ...] = get_args(Size)

MARKER = "random_weights.json"


@dataclass(frozen=True)
class _Shape:
    """dim, heads, layers: of the language model. card: tokens per codebook. filters, latent: EnCodec's width. t5: whose
    width the text encoder has (audiocraft knows it by name)."""

    dim: int
    heads: int
    layers: int
    card: int = 2048
    filters: int = 64
    latent: int = 128
    t5: str = "t5-base"


_TINY = _Shape(64, 2, 2, card=512, filters=4, latent=16, t5="t5-small")
_SHAPES: dict[str, _Shape] = {
    "tiny": _TINY,
    "small": _Shape(1024, 16, 24),  # 0.42 G parameters
    "medium": _Shape(1536, 24, 48),  # 1.8 G
    "large": _Shape(2048, 32, 48),  # 3.2 G
    "melody": _Shape(1536, 24, 48),  # as medium; what it hears is put before the sequence
}
_T5_WIDTH = {"t5-small": 512, "t5-base": 768}


def random_weights(folder: str | Path) -> dict[str, Any] | None:
    """What the marker in a checkpoint folder says (size, seed); None where there is none: the weights are real."""
    marker = Path(folder) / MARKER
    return dict(json.loads(marker.read_text())) if marker.is_file() else None


def make_checkpoint(folder: str | Path, size: Size, *, seed: int = 0) -> Path:
    """Makes `folder`, which must not exist or be empty, and returns it.

    On the disk: tiny 3 MB, small 0.9 GB, medium 3.8 GB, large 6.6 GB; in memory twice as much and the float32 weights
    for a while. The same seed makes the same weights with the same torch. Raises InvalidRequest, StorageError, and
    AudioError where MusicGen is not installed.
    """
    folder = Path(folder).expanduser().absolute()
    _check_size(size)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} exists and is not an empty folder.", hint="Name a new folder.")
    load_audiocraft()

    work = folder.with_name(f".{folder.name}.partial")
    with storage_errors(folder):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with _drawing(seed, "cpu"):
                _write(work, size)
            (work / MARKER).write_text(json.dumps({"weights": "random", "size": size, "seed": seed}) + "\n")
            if folder.exists():
                folder.rmdir()
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return folder


def build_model(size: Size, device: str = "cpu", dtype: str = "float32", *, seed: int = 0) -> Any:
    """Return audiocraft's MusicGen with random weights, built on `device`, without a folder.

    As `get_pretrained` returns it: `dtype` is the transformer's. The memory of another copy is never needed, so that a
    large model fits where its folder (6.6 GB, loaded by way of the CPU) would not. The weights are not those of a
    folder with the same seed. Raises InvalidRequest, and AudioError where MusicGen is not installed.
    """
    _check_size(size)
    musicgen = load_audiocraft().models.musicgen.MusicGen
    with _drawing(seed, device), tempfile.TemporaryDirectory(prefix="harmonia-model-") as scratch:
        codec, _ = _build_codec(size, device)
        lm, config = _build_language_model(size, Path(scratch), device, dtype)
    lm.cfg = config
    if "self_wav" in lm.condition_provider.conditioners:  # as `get_pretrained` sets it
        lm.condition_provider.conditioners["self_wav"].match_len_on_eval = True
        lm.condition_provider.conditioners["self_wav"]._use_masking = False  # noqa: SLF001
    return musicgen(f"random {size}", codec.eval(), lm.eval())


def _check_size(size: str) -> None:
    if size not in SIZES:
        raise InvalidRequest(f"There is no checkpoint size {size!r}.", hint=f"Choose one of {', '.join(SIZES)}.")


@contextmanager
def _drawing(seed: int, device: str) -> Iterator[None]:
    """Inside, weights are drawn from `seed`, without gradients and without progress bars."""
    import torch  # noqa: PLC0415

    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), no_progress_bars():
        torch.manual_seed(seed)
        yield


def _parts(size: Size) -> tuple[_Shape, set[str]]:
    """The shape, and which of stereo and melody the model is."""
    scale, *kinds = size.split("-")
    return _SHAPES[scale], {scale, *kinds}


def _write(folder: Path, size: Size) -> None:
    import torch  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    def save(name: str, state: dict[str, torch.Tensor], config: Any) -> None:
        content = {"best_state": state, "xp.cfg": OmegaConf.to_yaml(config), "version": "1.3.0", "exported": True}
        torch.save(content, folder / name)

    codec, config = _build_codec(size, "cpu")
    save("compression_state_dict.bin", codec.state_dict(), config)
    model, config = _build_language_model(size, folder / TEXT_ENCODER_FOLDER, "cpu", "float32")
    state = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    save("state_dict.bin", state, config)


def _build_codec(size: Size, device: str) -> tuple[Any, Any]:
    """EnCodec and its configuration."""
    from audiocraft.models import builders  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    config = OmegaConf.create(_codec(_parts(size)[0]))
    config.device = device
    codec = builders.get_compression_model(config)
    for name, buffer in codec.named_buffers():
        if name.endswith("embed"):
            buffer.normal_()  # the codebooks, which training would have filled
    return codec, config


def _build_language_model(size: Size, encoder: Path, device: str, dtype: str) -> tuple[Any, Any]:
    """The language model and its configuration. encoder: the folder that gets the text encoder."""
    from audiocraft.models import builders  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    shape, kinds = _parts(size)
    _write_text_encoder(encoder, _T5_WIDTH[shape.t5])
    config = OmegaConf.create(_language_model(shape, kinds))
    config.device, config.dtype = device, dtype
    with text_encoder_from(encoder):
        return builders.get_lm_model(config), config


def _write_text_encoder(folder: Path, width: int) -> None:
    """Two small layers as wide as the T5 they stand for, and a tokenizer that learnt a few prompts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel  # noqa: PLC0415

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False)  # noqa: S106
    tokenizer.train_from_iterator(_PROMPTS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast: Any = PreTrainedTokenizerFast
    saved = fast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
    )
    saved.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}))
    t5: Any = T5Config
    config = t5(
        vocab_size=len(saved), d_model=width, d_kv=16, d_ff=64, num_layers=2, num_heads=2, tie_word_embeddings=False
    )
    T5EncoderModel(config).save_pretrained(str(folder))


_PROMPTS = [
    "a calm piano melody over rain, 70 bpm",
    "epic strings and brass at dawn",
    "lofi hip hop drums with warm bass",
    "dark ambient pad, slow and wide",
    "bright acoustic guitar, 90 bpm, major key",
    "solo violin lament in d minor, 120 bpm",
    "jazz trio, upright bass, brushes, 3456789",
]


def _language_model(shape: _Shape, kinds: set[str]) -> dict[str, Any]:
    """The configuration of the released models (`config/model/lm/musicgen_lm.yaml`), in this shape."""
    stereo, melody = "stereo" in kinds, "melody" in kinds
    codebooks = 8 if stereo else 4
    delays = [k // 2 for k in range(8)] if stereo else list(range(4))
    chroma = {"sample_rate": 32000, "n_chroma": 12, "radix2_exp": 14, "argmax": True, "match_len_on_eval": False}
    t5 = {"name": shape.t5, "finetune": False, "word_dropout": 0.3, "normalize_text": False}
    conditioners: dict[str, Any] = {"description": {"model": "t5", "t5": t5}}
    if melody:
        conditioners = {"self_wav": {"model": "chroma_stem", "chroma_stem": chroma}} | conditioners
    return {
        "device": "cpu",
        "dtype": "float32",
        "lm_model": "transformer_lm",
        "sample_rate": 32000,
        "channels": 2 if stereo else 1,
        "interleave_stereo_codebooks": {"use": stereo, "per_timestep": False},
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": delays, "flatten_first": 0, "empty_initial": 0},
        },
        "transformer_lm": {
            "dim": shape.dim,
            "num_heads": shape.heads,
            "num_layers": shape.layers,
            "hidden_scale": 4,
            "n_q": codebooks,
            "card": shape.card,
            "dropout": 0.0,
            "emb_lr": None,
            "activation": "gelu",
            "norm_first": True,
            "bias_ff": False,
            "bias_attn": False,
            "bias_proj": False,
            "past_context": None,
            "causal": True,
            "custom": False,
            "memory_efficient": True,
            "attention_as_float32": False,
            "layer_scale": None,
            "positional_embedding": "sin",
            "xpos": False,
            "checkpointing": "none",
            "weight_init": "gaussian",
            "depthwise_init": "current",
            "zero_bias_init": True,
            "norm": "layer_norm",
            "cross_attention": False,  # switched on by the fuser where it has something to cross
            "qk_layer_norm": False,
            "qk_layer_norm_cross": False,
            "attention_dropout": None,
            "kv_repeat": 1,
            "two_step_cfg": False,
        },
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {},
        "fuser": {
            "cross_attention_pos_emb": False,
            "cross_attention_pos_emb_scale": 1,
            "sum": [],
            "prepend": ["self_wav", "description"] if melody else [],
            "cross": [] if melody else ["description"],
            "input_interpolate": [],
        },
        "conditioners": conditioners,
        "dataset": {"segment_duration": 30},
    }


def _codec(shape: _Shape) -> dict[str, Any]:
    """EnCodec at 32 kHz with 50 frames a second (`config/model/encodec/encodec_large_nq4_s640.yaml`), in this width."""
    return {
        "device": "cpu",
        "dtype": "float32",
        "compression_model": "encodec",
        "sample_rate": 32000,
        "channels": 1,
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": 32000,
            "channels": 1,
            "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": shape.latent,
            "channels": 1,
            "causal": False,
            "n_filters": shape.filters,
            "n_residual_layers": 1,
            "ratios": [8, 5, 4, 4],
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": "weight_norm",
            "norm_params": {},
            "kernel_size": 7,
            "residual_kernel_size": 3,
            "last_kernel_size": 7,
            "dilation_base": 2,
            "pad_mode": "constant",
            "true_skip": True,
            "compress": 2,
            "lstm": 2,
            "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
            "encoder": {},
        },
        "rvq": {
            "n_q": 4,
            "q_dropout": False,
            "bins": shape.card,
            "decay": 0.99,
            "kmeans_init": False,
            "kmeans_iters": 50,
            "threshold_ema_dead_code": 2,
            "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
    }
