"""MusicGen models with random weights: audiocraft's classes in the released models' shapes; what they make is noise.

For tests, `harmonia doctor`, benchmarks, and trials on a machine without a model hub. Owns the shapes, the content and
the marker of a checkpoint folder, and a model built in memory without a folder. `MusicGen.get_pretrained(folder)` loads
a folder offline through audiocraft's own code, after `audiocraft_standins.load_audiocraft()`:

    state_dict.bin  compression_state_dict.bin      as audiocraft exports them; the language model's weights in float16,
                                                    as in the released checkpoints
    t5/                                             a text encoder and its tokenizer
    random_weights.json                             the marker: size, seed
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections import Counter
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
from harmonia_lab.audio_engines.musicgen.lm_config import language_model_config
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.storage import absolute, storage_errors

__all__ = ["MARKER", "SIZES", "Size", "build_model", "make_checkpoint", "random_weights"]

Size = Literal[
    "tiny", "tiny-stereo", "tiny-melody",
    "small", "small-stereo", "medium", "medium-stereo", "large", "large-stereo", "melody", "melody-stereo",
]  # fmt: skip
SIZES: tuple[Size, ...] = get_args(Size)

MARKER = "random_weights.json"


@dataclass(frozen=True)
class _Shape:
    """dim, heads, layers: of the language model. card: tokens per codebook. filters, latent: EnCodec's width.

    t5: the T5 model whose width the text encoder has; audiocraft looks the width up by this name.
    """

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
    "melody": _Shape(1536, 24, 48),  # as medium; its conditions are put before the sequence
}
_T5_WIDTH = {"t5-small": 512, "t5-base": 768}


def random_weights(folder: str | Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint folder's marker (size, seed); None if the weights are trained."""
    marker = Path(folder) / MARKER
    return dict(json.loads(marker.read_text(encoding="utf-8"))) if marker.is_file() else None


def make_checkpoint(folder: str | Path, size: Size, *, seed: int = 0) -> Path:
    """Make the checkpoint folder `folder`, which must be new or empty, and return it.

    On the disk: tiny 3 MB, small 0.9 GB, medium 3.8 GB, large 6.6 GB. In memory, for a while: three times as much. With
    the same torch, the same seed makes the same files. Raise InvalidRequest, StorageError, and AudioError if MusicGen
    is not installed.
    """
    folder = absolute(folder)
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
            (work / MARKER).write_text(
                json.dumps({"weights": "random", "size": size, "seed": seed}) + "\n", encoding="utf-8"
            )
            if folder.exists():
                folder.rmdir()
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return folder


def build_model(size: Size, device: str = "cpu", dtype: str = "float32", *, seed: int = 0) -> Any:
    """Return audiocraft's MusicGen with random weights, built on `device`, without a folder.

    Like `get_pretrained`'s result, with the transformer in `dtype`. There is never a second copy in memory, so a large
    model fits where loading its folder (6.6 GB, by way of the CPU) would not. The weights differ from those of a folder
    with the same seed. Raise InvalidRequest, and AudioError if MusicGen is not installed.
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
    """Draw weights from `seed`, without gradients and progress bars. Restore torch's random stream afterwards."""
    import torch  # noqa: PLC0415

    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), no_progress_bars():
        torch.manual_seed(seed)
        yield


def _parts(size: Size) -> tuple[_Shape, set[str]]:
    """Return the shape, and the words of the size's name, such as "stereo" and "melody"."""
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
    """Return EnCodec and its configuration."""
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
    """Return the language model and its configuration. encoder: the folder to write the text encoder to."""
    from audiocraft.models import builders  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    shape, kinds = _parts(size)
    _write_text_encoder(encoder, _T5_WIDTH[shape.t5])
    config = OmegaConf.create(_language_model(shape, kinds))
    config.device, config.dtype = device, dtype
    with text_encoder_from(encoder):
        return builders.get_lm_model(config), config


def _write_text_encoder(folder: Path, width: int) -> None:
    """Write a text encoder of two small layers, as wide as a real T5, and a tokenizer of letters and their pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel  # noqa: PLC0415

    special = ["<pad>", "</s>", "<unk>"]
    # Not trained: the library's trainer makes another vocabulary in each process, and with it other tokens of a prompt.
    vocabulary = [(piece, 0.0) for piece in special] + _pieces(PIECES - len(special))
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast: Any = PreTrainedTokenizerFast  # transformers' constructors have no types
    saved = fast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")  # noqa: S106
    saved.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}),
        encoding="utf-8",
    )
    t5: Any = T5Config
    config = t5(
        vocab_size=len(saved), d_model=width, d_kv=16, d_ff=64, num_layers=2, num_heads=2, tie_word_embeddings=False
    )
    T5EncoderModel(config).save_pretrained(str(folder))


def _pieces(count: int) -> list[tuple[str, float]]:
    """Return the letters of some prompts, and their commonest pairs, with scores by which a pair beats its letters."""
    words = [f"\N{LOWER ONE EIGHTH BLOCK}{word}" for prompt in _PROMPTS for word in prompt.split()]
    letters = sorted(set("".join(words)))
    pairs = Counter(first + second for word in words for first, second in itertools.pairwise(word))
    common = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
    return [(letter, -4.0) for letter in letters] + [(pair, -6.0) for pair in common[: count - len(letters)]]


PIECES = 70
"""Of the tokenizer. The text encoder's weights, and those that are drawn after them, depend on how many there are."""

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
    stereo = "stereo" in kinds
    return language_model_config(
        dim=shape.dim,
        heads=shape.heads,
        layers=shape.layers,
        codebooks=8 if stereo else 4,
        card=shape.card,
        stereo=stereo,
        melody="melody" in kinds,
        t5=shape.t5,
    )


def _codec(shape: _Shape) -> dict[str, Any]:
    """Return the codec's configuration (`config/model/encodec/encodec_large_nq4_s640.yaml`), in this width.

    It is EnCodec at 32 kHz with 50 frames a second. Options that have audiocraft's default value there are left out.
    """
    return {
        "compression_model": "encodec",
        "encodec": {"autoencoder": "seanet", "quantizer": "rvq", "sample_rate": 32000, "channels": 1},
        "seanet": {
            "dimension": shape.latent,
            "n_filters": shape.filters,
            "n_residual_layers": 1,
            "ratios": [8, 5, 4, 4],
            "norm": "weight_norm",
            "pad_mode": "constant",
            "lstm": 2,
            "encoder": {},
            "decoder": {},
        },
        "rvq": {"n_q": 4, "bins": shape.card, "kmeans_init": False},
    }
