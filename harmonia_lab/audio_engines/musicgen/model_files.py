"""A MusicGen model as its files have it: audiocraft's weights and configuration, codec and text encoder.

Owns the opening of each kind of folder (`checkpoint_kinds.py`) into one form, `ModelFiles`. Its tensors are mapped from
the disk. Nothing is downloaded and nothing is built: `loading.py` does. Where a folder names its codec, text encoder or
base model instead of holding it, the result names it too.

    audiocraft     state_dict.bin, compression_state_dict.bin, t5/ if it is there
    transformers   config.json, safetensors or pickles in one file or shards, with T5, tokenizer and codec
    lora           PEFT's adapter, merged into its base model
    dora           checkpoint.th of a training run
    lightning      *.ckpt, or a state_dict.bin that holds only weights
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harmonia_lab.audio_engines.musicgen.checkpoint_kinds import (
    CODEC,
    DORA,
    LANGUAGE_MODEL,
    adapter_config,
    check_config,
    check_weights,
    kind_of,
    lightning_file,
    snapshot_of,
)
from harmonia_lab.audio_engines.musicgen.lm_config import language_model_config
from harmonia_lab.audio_engines.musicgen.lora import has_lora, merged
from harmonia_lab.audio_engines.musicgen.transformers_layout import (
    TEXT_PROJECTION,
    audiocraft_config,
    audiocraft_state,
    unknown_config,
)
from harmonia_lab.audio_engines.musicgen.weight_files import (
    AGAIN,
    plain,
    read_pickle,
    read_weights,
    unavailable,
    weight_files,
)

__all__ = [
    "AudiocraftCodec",
    "ModelFiles",
    "Named",
    "TextFolder",
    "TransformersPart",
    "files_of",
    "open_codec",
    "open_folder",
    "open_transformers",
    "t5_name",
]

TEXT_ENCODER_FOLDER = "t5"
RELEASED_CODEC = "facebook/encodec_32khz"
"""The codec of all released models, which their checkpoints name."""

_HEAD_WIDTH = 64
"""Of the released models, for weights without a configuration."""

Locate = Callable[[str, bool], Path]
"""From the name of a model or its folder to the folder: the search in the cache, or in the hub. With True, the folder
must be in transformers' layout."""


class Named(NamedTuple):
    """A part that the checkpoint only names: a hub id, or a path of the machine where it was trained."""

    name: str


class AudiocraftCodec(NamedTuple):
    """Configuration and weights of audiocraft's EnCodec."""

    config: dict[str, Any]
    weights: dict[str, Any]


class TransformersPart(NamedTuple):
    """T5 or EnCodec inside transformers' model. config: of that part. folder: where its tokenizer is."""

    config: Any
    weights: dict[str, Any]
    folder: Path


class TextFolder(NamedTuple):
    """A text encoder and its tokenizer as transformers saves them."""

    folder: Path


@dataclass(frozen=True)
class ModelFiles:
    """What a checkpoint holds. config: audiocraft's, of the language model. weights: tensors by audiocraft's names.

    paths: the files, the first ones that of the language model. notes: what was done to use them, for the record.
    """

    config: dict[str, Any]
    weights: dict[str, Any]
    codec: AudiocraftCodec | TransformersPart | Named
    text: TextFolder | TransformersPart | Named | None
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def open_folder(folder: Path, locate: Locate) -> ModelFiles:
    """Open a checkpoint's folder. locate: finds the base model of an adapter.

    Raise AudioError (MUSICGEN_UNAVAILABLE) for what is no MusicGen, is damaged, or holds programs.
    """
    folder = snapshot_of(folder)
    kind = kind_of(folder)
    if kind == "lora":
        return _open_adapter(folder, locate)
    if kind == "transformers":
        return open_transformers(folder)
    if kind == "audiocraft":
        return _open_training(folder, folder / LANGUAGE_MODEL)
    return _open_training(folder, folder / DORA if kind == "dora" else lightning_file(folder) or folder)


def files_of(folder: Path) -> list[Path]:
    """Return the files of weights and configuration in a folder that can be opened, for digests and sizes."""
    folder = snapshot_of(folder)
    kind = kind_of(folder)
    if kind == "audiocraft":
        names = [folder / LANGUAGE_MODEL, folder / CODEC]
    elif kind == "transformers":
        names = [*weight_files(folder), folder / "config.json"]
    elif kind == "lora":
        names = [*weight_files(folder, "adapter_model", "adapter_model"), folder / "adapter_config.json"]
    else:
        names = [folder / DORA if kind == "dora" else lightning_file(folder) or folder, folder / CODEC]
    return [path for path in names if path.is_file()]


def t5_name(config: Mapping[str, Any]) -> str | None:
    """Return the name of the T5 that audiocraft's configuration asks for; None for a model without one."""
    conditioners = config.get("conditioners")
    for each in conditioners.values() if isinstance(conditioners, Mapping) else ():
        if isinstance(each, Mapping) and each.get("model") == "t5":
            return str((each.get("t5") or {}).get("name", "t5-base"))
    return None


def _open_training(folder: Path, path: Path) -> ModelFiles:
    """Open audiocraft's export, or what a training run of dora or Lightning wrote."""
    table = read_pickle(path)
    if not isinstance(table, dict):
        raise unavailable(f"{path} is no audiocraft checkpoint: it has {_content(table)}.", AGAIN)
    check_weights(table, path)
    config = _config(table["xp.cfg"], path) if "xp.cfg" in table else None
    if config is not None:
        check_config(config, path)
    state, notes = _state(table, path)
    state = _without_wrappers(state, path)
    check_weights(state, path)
    if has_lora(state):
        raise unavailable(
            f"{path} has LoRA adapters that are not merged into its weights.",
            "Merge them with PEFT (merge_and_unload) and save again; or save the adapter alone, whose folder has "
            "adapter_config.json, and name that.",
        )
    if config is None:
        config = _config_of_weights(state, path)
        notes = (*notes, "The configuration was taken from the shapes of the weights.")
    codec = _codec(folder, config, trained="xp.cfg" not in table)
    t5 = folder / TEXT_ENCODER_FOLDER
    name = t5_name(config)
    text = None if name is None else TextFolder(t5) if t5.is_dir() else Named(name)
    paths = tuple(each for each in (path, folder / CODEC) if each.is_file())
    return ModelFiles(config, state, codec, text, paths, notes)


def _state(table: dict[Any, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the weights in a table of one of the known forms, and a note about it. Raise AudioError."""
    for key in ("fsdp_best_state", "best_state", "ema", "state_dict", "model"):
        found = table.get(key)
        if isinstance(found, Mapping) and found:
            nested = next((found[name] for name in ("model", "state") if isinstance(found.get(name), Mapping)), found)
            if any(hasattr(value, "shape") for value in nested.values()):
                exported = key == "best_state" and nested is found
                note = () if exported else (f"The weights are those of a training run ({key} in {path.name}).",)
                return {str(name): value for name, value in nested.items() if hasattr(value, "shape")}, note
    if table and all(hasattr(value, "shape") for value in table.values()):
        return {str(name): value for name, value in table.items()}, ()
    if isinstance(table.get("pretrained"), str):
        raise unavailable(
            f"{path} is no audiocraft checkpoint of a language model: it names the codec {table['pretrained']}.",
            f"That is the content of {CODEC}. Get {LANGUAGE_MODEL} again.",
        )
    raise unavailable(f"{path} is no audiocraft checkpoint: it has {_content(table)}.", AGAIN)


def _content(table: Any) -> str:
    return (", ".join(sorted(map(str, table))[:5]) if isinstance(table, dict) else "") or "no table"


def _without_wrappers(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the language model's weights by their own names: without `module.`, `_orig_mod.`, `model.lm.`, …"""
    for wrapper in ("_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module."):
        state = {name.replace(wrapper, ""): tensor for name, tensor in state.items()}
    first = "emb.0.weight"
    prefixes = sorted((name.removesuffix(first) for name in state if name.endswith(first)), key=len)
    if not prefixes or (prefixes[0] and not prefixes[0].endswith(".")):
        found = ", ".join(sorted(state)[:3])
        raise unavailable(
            f"{path} is no audiocraft checkpoint of a language model: it has {found}, …, and no {first}.", AGAIN
        )
    return {name.removeprefix(prefixes[0]): tensor for name, tensor in state.items() if name.startswith(prefixes[0])}


def _config(given: Any, path: Path) -> dict[str, Any]:
    """Return audiocraft's configuration, which is YAML in an export, and an object of omegaconf in a training run."""
    content = given if isinstance(given, str) else plain(given)
    if isinstance(given, str):
        from omegaconf import OmegaConf  # noqa: PLC0415 - MusicGen's own need, which loads with it

        try:
            content = OmegaConf.to_container(OmegaConf.create(given), resolve=False)
        except Exception as error:
            raise unavailable(f"{path} cannot be used: its configuration is no YAML.", AGAIN) from error
    if not isinstance(content, dict) or not content:
        raise unavailable(f"{path} cannot be used: its configuration is empty.", AGAIN)
    return content


def _config_of_weights(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the configuration of a released model with these shapes. Raise AudioError for other shapes."""
    layers = {name.split(".")[2] for name in state if name.startswith("transformer.layers.")}
    codebooks = sum(name.startswith("emb.") and name.endswith(".weight") for name in state)
    up, text = (state.get(name) for name in ("transformer.layers.0.linear1.weight", f"{TEXT_PROJECTION}.weight"))
    width = state["emb.0.weight"].shape[1]
    t5 = {512: "t5-small", 768: "t5-base", 1024: "t5-large"}.get(text.shape[1] if text is not None else 0)
    if not layers or up is None or t5 is None or codebooks not in (4, 8) or width % _HEAD_WIDTH:
        raise unavailable(
            f"{path} has weights without a configuration, and not in the shape of a released model.",
            "Save it with its configuration: audiocraft.utils.export.export_lm.",
        )
    return language_model_config(
        dim=width,
        heads=width // _HEAD_WIDTH,
        layers=len(layers),
        codebooks=codebooks,
        card=state["emb.0.weight"].shape[0] - 1,
        stereo=codebooks == 8,
        melody=any("conditioners.self_wav." in name for name in state),
        t5=t5,
        hidden_scale=up.shape[0] / width,
    )


def _codec(folder: Path, config: Mapping[str, Any], *, trained: bool) -> AudiocraftCodec | Named:
    """Return the codec beside a language model, or its name. trained: the weights have no configuration to name it."""
    path = folder / CODEC
    if not path.is_file():
        named = str(config.get("compression_model_checkpoint") or "").removeprefix("//pretrained/")
        if named or trained:
            return Named(named or RELEASED_CODEC)
        raise unavailable(
            f"{folder} has no {CODEC}, and its configuration names no codec.",
            f"Put {CODEC} beside {LANGUAGE_MODEL}: export_pretrained_compression_model of audiocraft.utils.export "
            "writes it; or make a folder with random weights: harmonia setup musicgen --random tiny DIR",
        )
    return open_codec(path)


def open_codec(path: Path) -> AudiocraftCodec | Named:
    """Return what a file of audiocraft's codec holds. Raise AudioError (MUSICGEN_UNAVAILABLE)."""
    table = read_pickle(path)
    if isinstance(table, dict) and isinstance(table.get("pretrained"), str):
        return Named(table["pretrained"])  # the released checkpoints hold only the name of a codec in transformers
    if not isinstance(table, dict) or not {"best_state", "xp.cfg"} <= table.keys():
        raise unavailable(f"{path} is no audiocraft checkpoint of a codec: it has {_content(table)}.", AGAIN)
    state, _ = _state(table, path)
    config = _config(table["xp.cfg"], path)
    if config.get("compression_model") != "encodec":
        kind = config.get("compression_model") or f"no codec but a language model ({config.get('lm_model')})"
        raise unavailable(f"{path} is {kind}, not EnCodec.", f"Put the codec's export there, as {CODEC}.")
    return AudiocraftCodec(config, state)


def open_transformers(folder: Path, weights: dict[str, Any] | None = None) -> ModelFiles:
    """Open a folder in transformers' layout. weights: its tensors, if they were changed. Raise as `open_folder`."""
    weights = read_weights(weight_files(folder)) if weights is None else weights
    check_weights(weights, folder)
    config = _transformers_config(folder)
    unknown = unknown_config(config)
    if unknown:
        raise unavailable(f"{folder} is no MusicGen that can be loaded: {unknown}.", "Choose a released model.")
    try:
        state = audiocraft_state(weights)
    except KeyError as error:
        raise unavailable(f"{folder} lacks {error.args[0]}.", AGAIN) from error

    def part(name: str) -> TransformersPart:
        inside = f"{name}."
        tensors = {key.removeprefix(inside): tensor for key, tensor in weights.items() if key.startswith(inside)}
        if not tensors:
            raise unavailable(
                f"{folder} has no weights of its {name}.", "Save the whole MusicgenForConditionalGeneration there."
            )
        return TransformersPart(getattr(config, name), tensors, folder)

    text = part("text_encoder")
    paths = (*weight_files(folder), folder / "config.json")
    return ModelFiles(audiocraft_config(config, "t5-base"), state, part("audio_encoder"), text, paths)


def _transformers_config(folder: Path) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415

    kind: Any = AutoConfig
    logging: Any = importlib.import_module("transformers.utils.logging")
    level = logging.get_verbosity()
    try:
        logging.set_verbosity_error()  # it warns of the special token of every MusicGen
        config = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise unavailable(f"{folder / 'config.json'} cannot be used: {said}", "Get it again.") from error
    finally:
        logging.set_verbosity(level)
    if getattr(config, "quantization_config", None) is not None:
        raise unavailable(
            f"{folder} is no MusicGen that can be loaded: its weights are quantised.",
            "Save the model without quantisation; decoder=int8 quantises it here.",
        )
    return config


def _open_adapter(folder: Path, locate: Locate) -> ModelFiles:
    """Merge an adapter into its base model, in the names that the adapter has: transformers' or audiocraft's."""
    config = adapter_config(folder)
    paths = weight_files(folder, "adapter_model", "adapter_model")
    name = config.get("base_model_name_or_path")
    if not paths or not isinstance(name, str) or not name:
        what = "adapter_model.safetensors" if not paths else "base_model_name_or_path in adapter_config.json"
        raise unavailable(f"{folder} is a LoRA adapter without {what}.", "Save it again with PEFT.")
    adapter = read_weights(paths)
    theirs = any(".decoder.layers." in each for each in adapter)  # trained in transformers
    base = snapshot_of(locate(name, theirs))
    if kind_of(base) == "lora":
        raise unavailable(
            f"{folder} is a LoRA adapter of {name}, which is an adapter too.",
            "Merge that one with PEFT (merge_and_unload), and save it.",
        )
    note = f"A LoRA adapter, merged into {name}."
    if theirs and kind_of(base) in ("transformers", "audiocraft") and weight_files(base):
        opened = open_transformers(base, merged(read_weights(weight_files(base)), adapter, config))
    else:
        opened = open_folder(base, locate)
        opened = replace(opened, weights=merged(opened.weights, adapter, config))
    return replace(opened, paths=(*paths, folder / "adapter_config.json", *opened.paths), notes=(*opened.notes, note))
