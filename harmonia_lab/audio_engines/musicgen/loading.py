"""audiocraft's MusicGen, built from opened files.

Owns the way from a checkpoint to a model in memory: the search for parts that it only names, the parts' construction by
audiocraft's and transformers' own classes, and the checks that they fit each other. The files are `model_files.py`'s,
downloads `hub.py`'s, the cache of loaded models `models.py`'s.
"""

from __future__ import annotations

import importlib
import pickle
import shlex
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.musicgen import hub
from harmonia_lab.audio_engines.musicgen.audiocraft_standins import (
    no_progress_bars,
    replaced,
    without_initialisation,
)
from harmonia_lab.audio_engines.musicgen.checkpoint_kinds import CODEC, kind_of, model_type, snapshot_of
from harmonia_lab.audio_engines.musicgen.model_files import (
    AudiocraftCodec,
    ModelFiles,
    Named,
    TextFolder,
    TransformersPart,
    open_codec,
    open_folder,
    open_transformers,
    t5_name,
)
from harmonia_lab.audio_engines.musicgen.weight_files import read_weights, unavailable, weight_files
from harmonia_lab.storage import expanded

__all__ = ["build", "open_model"]

ReportStatus = Callable[[str], None]

_COMPUTED = (".chroma.fbanks", ".chroma.spec.window")
"""Ends of the names of buffers that a conditioner computes itself; transformers' files don't have them."""


class _Finder:
    """The search for the parts that one checkpoint names. find: `hub.fetch`, or `hub.require`."""

    def __init__(self, name: str, report: ReportStatus, find: Callable[..., Path]) -> None:
        self.name, self._report, self._find = name, report, find
        self._command = f"harmonia models --fetch {shlex.quote(name)}"

    def __call__(self, repo: str, part: hub.RepositoryKind, purpose: str) -> Path:
        return self._find(repo, part, self._report, purpose=purpose, command=self._command)

    def model(self, wanted: str, in_transformers: bool = False) -> Path:
        """Return the folder of a model by its path or its hub id. in_transformers: only in transformers' layout."""
        folder = expanded(wanted)
        if folder.is_dir():
            return folder
        if folder.is_absolute() or wanted.count("/") != 1:
            raise unavailable(f"{self.name} is an adapter of {wanted}, which is not on this machine.", "Put it there.")
        kind = hub.TRANSFORMERS_MODEL if in_transformers else hub.MODEL
        return self(wanted, kind, f"MusicGen {self.name if wanted.endswith(self.name) else wanted}")

    def codec(self, named: Named) -> AudiocraftCodec | TransformersPart:
        path = expanded(named.name)
        if named.name.startswith("dac_"):
            raise unavailable(
                f"The codec of {self.name} is DAC ({named.name}), which is not decoded here.",
                "Choose a model with EnCodec: all released MusicGen models have it.",
            )
        if path.is_dir() and not (path / CODEC).is_file():
            return _codec_in(path)
        if path.exists():
            found = open_codec(path if path.is_file() else path / CODEC)
            return self.codec(found) if isinstance(found, Named) and found != named else _checked(found)
        if path.is_absolute() or named.name.count("/") != 1:
            raise unavailable(
                f"{self.name} names its codec by a path, {named.name}, which is not on this machine.",
                f"Put the codec's export beside the language model, as {CODEC}.",
            )
        return _codec_in(self(named.name, hub.CODEC_PART, f"The codec {named.name} that {self.name} names"))

    def text(self, named: Named) -> TextFolder:
        folder = expanded(named.name)
        if folder.is_dir():
            return TextFolder(folder)
        return TextFolder(self(named.name, hub.TEXT_PART, f"The text encoder {named.name} that {self.name} needs"))


def open_model(
    source: str, report: ReportStatus, find: Callable[..., Path] = hub.fetch, *, name: str | None = None
) -> ModelFiles:
    """Open the model of a folder or a hub id, with all of its parts: from here, the cache, or else the hub.

    name: what a person calls it, such as "small"; None: `source`. report: gets a status while something is awaited.
    find: `hub.require` downloads nothing. Raise AudioError: MUSICGEN_UNAVAILABLE, or NETWORK_TEMPORARY where a part is
    not here and the hub can't be reached.
    """
    finder = _Finder(name or source, report, find)
    folder = snapshot_of(finder.model(source))
    files = open_folder(folder, finder.model)
    if kind_of(folder) == "audiocraft" and hub.has_transformers(folder) and not _is_here(files):
        files = open_transformers(folder)  # one folder has all, and nothing need be fetched
    codec = finder.codec(files.codec) if isinstance(files.codec, Named) else files.codec
    return replace(files, codec=codec, text=finder.text(files.text) if isinstance(files.text, Named) else files.text)


def _is_here(files: ModelFiles) -> bool:
    return all(
        not isinstance(part, Named) or hub.cached(part.name, kind) is not None
        for part, kind in ((files.codec, hub.CODEC_PART), (files.text, hub.TEXT_PART))
    )


def _checked(codec: AudiocraftCodec | Named) -> AudiocraftCodec:
    if isinstance(codec, Named):
        raise unavailable(f"The codec {codec.name} names itself.", f"Put the codec's own export there, as {CODEC}.")
    return codec


def _codec_in(folder: Path) -> TransformersPart:
    from transformers import AutoConfig  # noqa: PLC0415

    if model_type(folder) != "encodec":
        what = model_type(folder) or "without config.json"
        raise unavailable(f"The codec in {folder} is {what}, not EnCodec.", f"Put EnCodec there, or {CODEC}.")
    config: Any = AutoConfig
    return TransformersPart(
        config.from_pretrained(str(folder), local_files_only=True), read_weights(weight_files(folder)), folder
    )


def build(files: ModelFiles, name: str, device: str) -> Any:
    """Return audiocraft's MusicGen on `device`, as its `get_pretrained` would.

    Raise AudioError (MUSICGEN_UNAVAILABLE) where the parts don't fit each other, and what audiocraft raises.
    """
    from audiocraft.models import builders, loaders  # noqa: PLC0415
    from audiocraft.models.genmodel import BaseGenModel  # noqa: PLC0415
    from audiocraft.models.musicgen import MusicGen  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    config = OmegaConf.create(files.config)
    config.device, config.dtype = device, "float32" if device in ("cpu", "mps") else "float16"
    for setting in ("self_wav.chroma_stem.cache_path", "args.merge_text_conditions_p", "args.drop_desc_p"):
        loaders._delete_param(config, f"conditioners.{setting}")  # noqa: SLF001 - as `load_lm_model`
    with no_progress_bars(), _text_encoder(files), without_initialisation():
        lm: Any = builders.get_lm_model(config)
    _fill(lm, files.weights, name)
    lm.eval()
    lm.cfg = config
    if "self_wav" in lm.condition_provider.conditioners:
        lm.condition_provider.conditioners["self_wav"].match_len_on_eval = True
        lm.condition_provider.conditioners["self_wav"]._use_masking = False  # noqa: SLF001 - as `get_pretrained`
    # audiocraft's constructor takes no model whose window is shorter than 18 s.
    model: Any = MusicGen.__new__(MusicGen)
    BaseGenModel.__init__(model, name, _build_codec(files, codec_device(device)), lm)
    window = float(model.max_duration)
    model.set_generation_params(duration=min(15.0, window), extend_stride=18.0 if window > 18 else 0.6 * window)
    _check_codec(model, name)
    return model


def codec_device(device: str) -> str:
    """Return where the codec runs: on the CPU beside a model on Metal, on which its quantizer finds other codes
    (audiocraft's issues 13, 31 and 43)."""
    return "cpu" if device == "mps" else device


def _fill(lm: Any, weights: dict[str, Any], name: str) -> None:
    """Copy the weights into the model. Raise AudioError for names or shapes that don't agree."""
    wanted = lm.state_dict()
    lacking = [each for each in wanted if each not in weights and not each.endswith(_COMPUTED)]
    surplus = [each for each in weights if each not in wanted]
    if lacking or surplus:
        what = f"lack {', '.join(lacking[:3])}" if lacking else f"have {', '.join(surplus[:3])} beside it"
        count = max(len(lacking), len(surplus))
        raise unavailable(
            f"The weights of {name} {what}{f', … ({count} in all)' if count > 3 else ''}, unlike its configuration.",
            "Get the checkpoint again, or save it again with its own configuration.",
        )
    for each, tensor in weights.items():
        if tensor.shape != wanted[each].shape:
            shapes = [list(shape) for shape in (tensor.shape, wanted[each].shape)]
            raise unavailable(
                f"The weights of {name} have {each} of shape {shapes[0]}, and its configuration means {shapes[1]}.",
                "Get the checkpoint again, or save it again with its own configuration.",
            )
    lm.load_state_dict(weights, strict=False)


def _build_codec(files: ModelFiles, device: str) -> Any:
    import torch  # noqa: PLC0415
    from audiocraft.models import builders  # noqa: PLC0415
    from audiocraft.models.encodec import HFEncodecCompressionModel  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    part: Any = files.codec
    if isinstance(part, AudiocraftCodec):
        config = OmegaConf.create(part.config)
        config.device = device
        codec = builders.get_compression_model(config)
        codec.load_state_dict(part.weights)
        return codec.eval()
    from transformers import EncodecModel  # noqa: PLC0415

    network: Any = EncodecModel
    with no_progress_bars():
        loaded = network.from_pretrained(None, config=part.config, state_dict=part.weights, dtype=torch.float32)
    return HFEncodecCompressionModel(loaded).to(device).eval()


def _check_codec(model: Any, name: str) -> None:
    codec, lm = model.compression_model, model.lm
    if codec.num_codebooks != lm.n_q:
        try:
            codec.set_num_codebooks(lm.n_q)
        except (AssertionError, ValueError):
            raise unavailable(
                f"The codec of {name} has {codec.num_codebooks} codebooks, and its language model {lm.n_q}.",
                "Name the folder of the codec that it was trained with.",
            ) from None
    if codec.cardinality != lm.card:
        raise unavailable(
            f"The codec of {name} has {codec.cardinality} tokens in a codebook, and its language model {lm.card}.",
            "Name the folder of the codec that it was trained with.",
        )


@contextmanager
def _text_encoder(files: ModelFiles) -> Iterator[None]:
    """Let audiocraft's T5 conditioner find the model's own text encoder and tokenizer, whatever T5 it is."""
    if files.text is None:
        yield
        return
    tokenizer, encoder = _build_text(files.text)
    conditioners: Any = importlib.import_module("audiocraft.modules.conditioners")

    def given(part: Any) -> Any:
        return types.SimpleNamespace(from_pretrained=lambda *_, **__: part)

    name = t5_name(files.config)
    known = {"MODELS": [name], "MODELS_DIMS": {name: int(encoder.config.d_model)}}
    with (
        replaced(conditioners, T5Tokenizer=given(tokenizer), T5EncoderModel=given(encoder)),
        replaced(conditioners.T5Conditioner, **known),
    ):
        yield


def _build_text(text: Any) -> tuple[Any, Any]:
    """Return tokenizer and encoder. Raise AudioError (MUSICGEN_UNAVAILABLE) where the files can't be used."""
    import torch  # noqa: PLC0415
    from transformers import AutoTokenizer, T5EncoderModel, T5Tokenizer  # noqa: PLC0415

    network: Any = T5EncoderModel
    t5_tokenizer: Any = T5Tokenizer
    any_tokenizer: Any = AutoTokenizer
    folder: Path = text.folder
    try:
        if isinstance(text, TextFolder):
            tokenizer = t5_tokenizer.from_pretrained(str(folder), local_files_only=True)
            encoder = network.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        else:
            # The folder's own class: T5's adds an end that others don't.
            tokenizer = any_tokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            encoder = network.from_pretrained(None, config=text.config, state_dict=text.weights, dtype=torch.float32)
    except Exception as error:
        said = " ".join(str(error).split())
        program = isinstance(error, pickle.UnpicklingError) or "weights_only" in said
        reason = "it holds more than weights, and opening it could run a program" if program else said[:200]
        raise unavailable(
            f"The text encoder in {folder} can't be used: {reason}.",
            "Save T5 and its tokenizer there again (transformers' save_pretrained).",
        ) from error
    return tokenizer, encoder
