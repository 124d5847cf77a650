"""Kinds of folders, and what each is called where it can't be loaded.

Owns the recognition by names of files, by `config.json` and by audiocraft's configuration, and the words for what is no
MusicGen that can be decoded here, with the way on. Opens no weights (`model_files.py` does). Imports nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harmonia_lab.audio_engines.musicgen.weight_files import unavailable, weight_files

__all__ = [
    "CODEC",
    "DORA",
    "LANGUAGE_MODEL",
    "FolderKind",
    "adapter_config",
    "check_config",
    "check_weights",
    "kind_of",
    "lightning_file",
    "model_type",
    "snapshot_of",
]

LANGUAGE_MODEL, CODEC = "state_dict.bin", "compression_state_dict.bin"
DORA = "checkpoint.th"
"""dora's name for the checkpoint of a training run (audiocraft's solvers)."""

FolderKind = Literal["audiocraft", "transformers", "lora", "dora", "lightning"]

_EXPORT = "Export it as audiocraft's docs/TRAINING.md says (audiocraft.utils.export), and name that folder."
_CHOOSE = "Choose one of the released MusicGen models, such as small, melody or stereo-small."


class _Foreign(NamedTuple):
    what: str
    hint: str


def kind_of(folder: Path) -> FolderKind:
    """Return what a folder holds, by its files' names and `config.json`. Raise AudioError (MUSICGEN_UNAVAILABLE)."""
    try:
        return _kind_of(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise unavailable(f"{folder} can't be read: {reason}.", "Name a folder that you may read.") from error


def _kind_of(folder: Path) -> FolderKind:
    if (folder / "adapter_config.json").is_file():
        return "lora"
    if (folder / LANGUAGE_MODEL).is_file():
        return "audiocraft"
    model = model_type(folder)
    if model in ("musicgen", "musicgen_melody") and weight_files(folder):
        return "transformers"
    if (folder / DORA).is_file():
        return "dora"
    if lightning_file(folder) is not None:
        return "lightning"
    raise _unknown(folder, model)


def snapshot_of(folder: Path) -> Path:
    """Return the snapshot in a hub cache's folder of a model (`models--…`); any other folder itself."""
    if not folder.name.startswith("models--") or not (folder / "snapshots").is_dir():
        return folder
    main = folder / "refs" / "main"
    named = [folder / "snapshots" / main.read_text(encoding="utf-8").strip()] if main.is_file() else []
    newest = sorted((folder / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in [*named, *newest] if path.is_dir()), folder)


def model_type(folder: Path) -> str:
    """Return the `model_type` of a folder's `config.json`; "" if there is none. Raise AudioError if it is damaged."""
    return str(_json(folder / "config.json").get("model_type", ""))


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return PEFT's configuration of an adapter. Raise AudioError (MUSICGEN_UNAVAILABLE) if it is damaged."""
    return _json(folder / "adapter_config.json")


def lightning_file(folder: Path) -> Path | None:
    """Return the folder's checkpoint of Lightning, the newest; None where there is none."""
    found = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Raise AudioError (MUSICGEN_UNAVAILABLE) if audiocraft's configuration in `path` describes no MusicGen."""
    for foreign in _foreign_config(config):
        raise unavailable(f"{path} is no MusicGen that can be loaded: {foreign.what}.", foreign.hint)


def check_weights(names: Mapping[str, Any], path: Path) -> None:
    """Raise AudioError (MUSICGEN_UNAVAILABLE) if the names of the weights in `path` are those of another kind."""
    for foreign in _foreign_weights(names):
        raise unavailable(f"{path} is no MusicGen that can be loaded: {foreign.what}.", foreign.hint)


def _foreign_config(config: Mapping[str, Any]) -> Iterator[_Foreign]:
    model, solver = str(config.get("lm_model", "")), str(config.get("solver", ""))
    conditioners = config.get("conditioners")
    kinds = [
        str(each.get("model", ""))
        for each in (conditioners.values() if isinstance(conditioners, Mapping) else ())
        if isinstance(each, Mapping)
    ]
    if "magnet" in model or solver == "magnet":
        yield _Foreign("it is MAGNeT, which fills in masked tokens in any order", _CHOOSE)
    elif "jasco" in f"{model} {solver}" or "flow" in model or "transformer_flow" in config:
        yield _Foreign("it is JASCO, a flow over EnCodec's latents, without tokens", _CHOOSE)
    elif solver == "compression" or ("compression_model" in config and not model):
        yield _Foreign("it is a codec, not a language model", f"Name it {CODEC}, beside a language model.")
    elif "style" in kinds:
        yield _Foreign(
            "it is MusicGen-Style, whose style conditioner audiocraft 1.3.0 doesn't have",
            "Choose a melody model, which follows a recording too: --audio-model melody",
        )
    elif "clap" in kinds:
        yield _Foreign("it is conditioned by CLAP, which audiocraft keeps for training", _CHOOSE)
    elif model != "transformer_lm":
        yield _Foreign(f"its configuration names the language model {model or '(none)'}, not transformer_lm", _CHOOSE)
    elif not isinstance(config.get("transformer_lm"), Mapping) or not isinstance(config.get("dataset"), Mapping):
        yield _Foreign("its configuration lacks transformer_lm or dataset", _EXPORT)


def _foreign_weights(names: Mapping[str, Any]) -> Iterator[_Foreign]:
    for name in names:
        if name.endswith((".SCB", ".weight_format")) or ".quant_state." in name or ".absmax" in name:
            yield _Foreign(
                "its weights are quantised by bitsandbytes",
                "Save the model without quantisation; decoder=int8 quantises it here.",
            )
        elif name.endswith((".qweight", ".qzeros")):
            yield _Foreign("its weights are quantised by GPTQ or AWQ", "Save the model without quantisation.")
    if "n_bands" in names:
        yield _Foreign("it is MultiBand Diffusion, a decoder of tokens to sound", _CHOOSE)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unavailable(f"{path} cannot be read: it is no JSON.", "Get it again.") from error
    return content if isinstance(content, dict) else {}


def _unknown(folder: Path, model: str) -> Exception:
    """Return the error about a folder that holds nothing that can be loaded, by what it holds instead."""
    named = _other_format(folder) or _other_model(folder, model) or _other_files(folder)
    if named is not None:
        return unavailable(f"{folder} is no MusicGen checkpoint: {named.what}.", named.hint)
    return unavailable(
        f"{folder} is no MusicGen checkpoint: it has no {LANGUAGE_MODEL}, and no config.json with safetensors.",
        f"Name a folder with {LANGUAGE_MODEL} and {CODEC}, as audiocraft exports them, or one that transformers saved; "
        "or make one with random weights: harmonia setup musicgen --random tiny DIR",
    )


def _other_model(folder: Path, model: str) -> _Foreign | None:
    if model in ("musicgen", "musicgen_melody"):
        return _Foreign("its config.json has no weights beside it", f"Fetch them: model.safetensors in {folder}")
    if model in ("musicgen_decoder", "musicgen_melody_decoder"):
        return _Foreign(
            "it holds MusicGen's decoder alone", "Save the whole MusicgenForConditionalGeneration, with T5 and EnCodec."
        )
    if model:
        return _Foreign(f"its config.json says that it is {model}", _CHOOSE)
    index = _json(folder / "model_index.json").get("_class_name")
    if index:
        return _Foreign(f"it is {index}, a pipeline of diffusers", _CHOOSE)
    return None


_BY_SUFFIX = {
    ".gguf": ("it holds weights for llama.cpp", _CHOOSE),
    ".onnx": ("it holds graphs of ONNX", "Name the folder that they were exported from."),
    ".msgpack": ("it holds weights for Flax", "Save it with transformers and torch: save_pretrained(folder)."),
    ".h5": ("it holds weights for TensorFlow", "Save it with transformers and torch: save_pretrained(folder)."),
    ".index": ("it is a FAISS index", _CHOOSE),
}


def _other_format(folder: Path) -> _Foreign | None:
    known = (path.suffix for path in sorted(folder.iterdir()) if path.suffix in _BY_SUFFIX)
    suffix = next(known, None)
    return _Foreign(*_BY_SUFFIX[suffix]) if suffix is not None else None


def _other_files(folder: Path) -> _Foreign | None:
    if (folder / CODEC).is_file():
        return _Foreign(f"it has no {LANGUAGE_MODEL}, but a codec", f"Put {LANGUAGE_MODEL} beside {CODEC}.")
    if weight_files(folder):
        return _Foreign("it has weights, and no config.json", "Fetch config.json into it.")
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for child in filter(Path.is_dir, inside):
        files = ("adapter_config.json", LANGUAGE_MODEL, DORA)
        if any((child / name).is_file() for name in files) or model_type(child) in ("musicgen", "musicgen_melody"):
            return _Foreign(f"it holds one, {child.name}", f"Name it: {child}")
    for path in filter(Path.is_file, inside):
        if path.suffix in (".pt", ".pth", ".th", ".bin", ".safetensors"):
            return _Foreign(f"it has {path.name}, and no {LANGUAGE_MODEL}", f"Name the weights {LANGUAGE_MODEL}.")
    return None
