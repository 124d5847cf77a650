"""The kinds of folders and caches in which people have MusicGen, each made small and with what is wrong with it.

Owns the list: what a kind is, how it is made, and what is tried with it. `__main__.py` tries them, and writes
`docs/checkpoints.md`; a test compares that page with what happens.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkpoints.folders import Folders, adapter, hub_snapshot

__all__ = ["KINDS", "Kind", "Place"]

LM, CODEC = "state_dict.bin", "compression_state_dict.bin"


class Place:
    """Where one kind is made. folder: to be tried, unless `make` returns another source. cache: the hub's."""

    def __init__(self, folders: Folders, root: Path) -> None:
        self.folders = folders
        self.folder, self.cache = root / "model", root / "hub"
        self.witness = root / "ran"

    def audiocraft(self, size: str = "tiny", *, text: bool = True) -> Path:
        """Copy audiocraft's layout to the folder. text: with `t5/`."""
        shutil.copytree(self.folders.audiocraft(size), self.folder)
        if not text:
            shutil.rmtree(self.folder / "t5")
        return self.folder

    def transformers(self, **shape: Any) -> Path:
        return shutil.copytree(self.folders.transformers(**shape), self.folder)

    def edit(self, change: Callable[[dict[str, Any]], dict[str, Any] | None], name: str = LM) -> None:
        """Change the table in a file of audiocraft's layout."""
        import torch  # noqa: PLC0415

        table = torch.load(self.folder / name, weights_only=True)
        torch.save(change(table) or table, self.folder / name)

    def configure(self, change: Callable[[dict[str, Any]], object], name: str = LM) -> None:
        """Change the configuration in a file of audiocraft's layout."""
        import yaml  # noqa: PLC0415

        def edit(table: dict[str, Any]) -> None:
            config = yaml.safe_load(table["xp.cfg"])
            change(config)
            table["xp.cfg"] = yaml.safe_dump(config)

        self.edit(edit, name)

    def rename(self, change: Callable[[str], str]) -> None:
        self.edit(lambda table: {**table, "best_state": {change(n): t for n, t in table["best_state"].items()}})

    def mischief(self) -> Any:
        """Return what would make the file `witness` if its pickle were trusted."""
        witness = self.witness

        class Mischief:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, (f"touch {witness}",)

        return Mischief()


@dataclass(frozen=True)
class Kind:
    """name: what it is. make: puts it into a place, and returns what is tried: a folder, or a name. group: of the page.

    offline: with HF_HUB_OFFLINE=1. forced: with TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1.
    """

    group: str
    name: str
    make: Callable[[Place], Path | str]
    offline: bool = False
    forced: bool = False


def _without_text(place: Place) -> Path:
    return place.audiocraft(text=False)


def _text_in_cache(place: Place) -> Path:
    hub_snapshot(place.cache, "t5-small", place.folders.text())
    return place.audiocraft(text=False)


def _text_with_a_program(place: Place) -> Path:
    import torch  # noqa: PLC0415

    snapshot = hub_snapshot(place.cache, "t5-small", place.folders.text()) / "snapshots" / ("0" * 40)
    (snapshot / "model.safetensors").unlink()
    torch.save({"shared.weight": place.mischief()}, snapshot / "pytorch_model.bin")
    return place.audiocraft(text=False)


def _not_a_number(name: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        def edit(table: dict[str, Any]) -> None:
            state = table["best_state"]
            last = next(name for name in reversed(state) if name.endswith(("linears.3.weight", "codebook.embed")))
            state[last].view(-1)[0] = float("nan")

        place.audiocraft()
        place.edit(edit, name)
        return place.folder

    return make


def _codec_named(named: str, *, is_cached: bool = False) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        import torch  # noqa: PLC0415

        if is_cached:
            hub_snapshot(place.cache, named, place.folders.codec())
        place.audiocraft()
        torch.save({"pretrained": named, "exported": True, "version": "1.3.0"}, place.folder / CODEC)
        return place.folder

    return make


def _no_codec(place: Place) -> Path:
    place.audiocraft()
    (place.folder / CODEC).unlink()
    return place.folder


def _no_codec_but_its_name(place: Place) -> Path:
    hub_snapshot(place.cache, "facebook/encodec_32khz", place.folders.codec())
    folder = _no_codec(place)
    place.configure(lambda config: config.update(compression_model_checkpoint="//pretrained/facebook/encodec_32khz"))
    return folder


def _prefixed(prefix: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        place.audiocraft()
        place.rename(lambda name: prefix + name)
        return place.folder

    return make


def _compiled_within(place: Place) -> Path:
    place.audiocraft()
    place.rename(lambda name: name.replace("transformer.", "transformer._orig_mod._fsdp_wrapped_module."))
    return place.folder


def _table(place: Place) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    table: dict[str, Any] = torch.load(place.folder / LM, weights_only=True)
    return table


def _as_objects(table: dict[str, Any]) -> dict[str, Any]:
    import yaml  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    return {**table, "xp.cfg": OmegaConf.create(yaml.safe_load(table["xp.cfg"]))}


def _dict_config(place: Place) -> Path:
    place.audiocraft()
    place.edit(_as_objects)
    return place.folder


def _dora(place: Place) -> Path:
    import torch  # noqa: PLC0415

    place.audiocraft()
    table = _as_objects(_table(place))
    run = {"best_state": {"model": table["best_state"]}, "model": {}, "history": [{"train": {"ce": 2.5}}]}
    torch.save({**run, "xp.cfg": table["xp.cfg"], "optimizer": {"state": {}}}, place.folder / "checkpoint.th")
    (place.folder / LM).unlink()
    return place.folder


def _wide(place: Place) -> dict[str, Any]:
    """Put a model into the folder whose heads have the released models' width; return its table."""
    import torch  # noqa: PLC0415

    place.audiocraft()
    place.configure(lambda config: config["transformer_lm"].update(num_heads=1))
    table = _table(place)
    torch.save(table, place.folder / LM)
    return table


def _lightning(place: Place) -> Path:
    import torch  # noqa: PLC0415

    state = {f"model.lm.{name}": tensor for name, tensor in _wide(place)["best_state"].items()}
    run = {"state_dict": state, "pytorch-lightning_version": "2.5.0", "epoch": 3, "callbacks": {}}
    torch.save(run, place.folder / "epoch=3.ckpt")
    (place.folder / LM).unlink()
    return place.folder


def _weights_alone(place: Place) -> Path:
    import torch  # noqa: PLC0415

    torch.save(_wide(place)["best_state"], place.folder / LM)
    return place.folder


def _configured(change: Callable[[dict[str, Any]], object], *, size: str = "tiny") -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        place.audiocraft(size)
        place.configure(change)
        return place.folder

    return make


def _conditioner(kind: str) -> Callable[[Place], Path]:
    return _configured(lambda config: config["conditioners"].update(self_wav={"model": kind, kind: {}}))


def _flan(place: Place) -> Path:
    """MusicGen with flan-T5-XL, whose width audiocraft doesn't have in its table."""
    import torch  # noqa: PLC0415

    place.audiocraft()
    shutil.rmtree(place.folder / "t5")
    shutil.copytree(place.folders.text(24), place.folder / "t5")
    place.configure(lambda config: config["conditioners"]["description"]["t5"].update(name="google/flan-t5-xl"))
    name = "condition_provider.conditioners.description.output_proj.weight"
    place.edit(lambda table: {**table, "best_state": {**table["best_state"], name: torch.zeros(64, 24).half()}})
    return place.folder


def _added(names: dict[str, tuple[int, ...]]) -> Callable[[Place], Path]:
    """Add weights of these shapes to the language model's."""

    def make(place: Place) -> Path:
        import torch  # noqa: PLC0415

        place.audiocraft()
        more = {name: torch.zeros(shape) for name, shape in names.items()}
        place.edit(lambda table: {**table, "best_state": {**table["best_state"], **more}})
        return place.folder

    return make


def _codec_in_place_of_the_model(place: Place) -> Path:
    place.audiocraft()
    shutil.copy(place.folder / CODEC, place.folder / LM)
    return place.folder


def _table_of(table: dict[str, Any]) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        import torch  # noqa: PLC0415

        place.audiocraft()
        torch.save(table, place.folder / LM)
        return place.folder

    return make


def _program(place: Place) -> Path:
    import torch  # noqa: PLC0415

    place.audiocraft()
    torch.save({"best_state": place.mischief(), "xp.cfg": ""}, place.folder / LM)
    return place.folder


def _program_in_cache(place: Place) -> str:
    (place.folder.parent / "made").mkdir()
    hub_snapshot(place.cache, "facebook/musicgen-small", _program(place))
    return "small"


def _cut(layout: str, name: str, kept: int) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        getattr(place, layout)()
        path = place.folder / name
        path.write_bytes(path.read_bytes()[:kept])
        return place.folder

    return make


def _pointer(layout: str, name: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        getattr(place, layout)()
        digest = "0" * 64
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 841000000\n"
        (place.folder / name).write_text(pointer, encoding="utf-8")
        return place.folder

    return make


def _misfit(place: Place) -> Path:
    import torch  # noqa: PLC0415

    place.audiocraft()
    place.edit(lambda table: {**table, "best_state": {**table["best_state"], "emb.0.weight": torch.zeros(3, 4)}})
    return place.folder


def _cached(source: Callable[[Folders], Path], repo: str, tried: str) -> Callable[[Place], Path | str]:
    def make(place: Place) -> Path | str:
        folder = hub_snapshot(place.cache, repo, source(place.folders))
        return folder if tried == "folder" else tried

    return make


def _both_layouts(place: Place) -> str:
    """As most caches hold the released models: both layouts, and T5 only in transformers'."""
    place.transformers()
    shutil.copy(place.folders.audiocraft() / LM, place.folder)
    shutil.copy(place.folders.audiocraft() / CODEC, place.folder)
    hub_snapshot(place.cache, "facebook/musicgen-small", place.folder)
    return "small"


def _half_cached(place: Place) -> str:
    _without_text(place)
    (place.folder / CODEC).unlink()
    hub_snapshot(place.cache, "facebook/musicgen-small", place.folder)
    return "small"


def _half_precision(place: Place) -> Path:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    path = place.transformers() / "model.safetensors"
    tensors = {name: t.bfloat16() if t.is_floating_point() else t for name, t in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    return place.folder


def _shard_missing(place: Place) -> Path:
    shutil.copytree(place.folders.shards(), place.folder)
    sorted(place.folder.glob("model-*.safetensors"))[1].unlink()
    return place.folder


def _part_missing(part: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        from safetensors.torch import load_file, save_file  # noqa: PLC0415

        path = place.transformers() / "model.safetensors"
        kept = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(part)}
        save_file(kept, path, {"format": "pt"})
        return place.folder

    return make


def _config(change: Callable[[dict[str, Any]], object]) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        path = place.transformers() / "config.json"
        config = json.loads(path.read_bytes())
        change(config)
        path.write_text(json.dumps(config), encoding="utf-8")
        return place.folder

    return make


def _without_configuration(place: Place) -> Path:
    place.audiocraft()
    place.edit(lambda table: {**table, "xp.cfg": ""})
    return place.folder


def _config_is_no_json(place: Place) -> Path:
    (place.transformers() / "config.json").write_text("{", encoding="utf-8")
    return place.folder


def _config_alone(place: Place) -> Path:
    (place.transformers() / "model.safetensors").unlink()
    return place.folder


def _adapter(place: Place) -> Path:
    return adapter(place.folder, str(place.folders.transformers()))


def _adapter_without_base(place: Place) -> Path:
    return adapter(place.folder, "somebody/finetuned")


def _transformers_program(place: Place) -> Path:
    import torch  # noqa: PLC0415

    place.transformers()
    (place.folder / "model.safetensors").unlink()
    torch.save({"decoder": place.mischief()}, place.folder / "pytorch_model.bin")
    return place.folder


def _files(**content: str | bytes) -> Callable[[Place], Path]:
    """A folder with these files; __ in a name stands for a dot."""

    def make(place: Place) -> Path:
        place.folder.mkdir()
        for name, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            (place.folder / name.replace("__", ".")).write_bytes(data)
        return place.folder

    return make


def _one_inside(place: Place) -> Path:
    place.audiocraft()
    return place.folder.parent


def _a_file(place: Place) -> Path:
    return place.audiocraft() / LM


A, T, H, O = "audiocraft's layout", "transformers' layout", "By name, and in the hub's cache", "Other folders"  # noqa: E741

KINDS: tuple[Kind, ...] = (
    Kind(A, "exported, with its text encoder in `t5/`", lambda place: place.audiocraft()),
    Kind(A, "stereo", lambda place: place.audiocraft("tiny-stereo")),
    Kind(A, "melody", lambda place: place.audiocraft("tiny-melody")),
    Kind(A, "without `t5/`, which is in the cache", _text_in_cache),
    Kind(A, "without `t5/`, and no network", _without_text),
    Kind(A, "without `t5/`, and HF_HUB_OFFLINE=1", _without_text, offline=True),
    Kind(A, "the codec by its name, which is in the cache", _codec_named("facebook/encodec_32khz", is_cached=True)),
    Kind(A, "the codec by its name, and no network", _codec_named("facebook/encodec_32khz")),
    Kind(A, "the codec by a path of another machine", _codec_named("/checkpoint/ann/xps/codec.th")),
    Kind(A, "the codec is DAC", _codec_named("dac_44khz")),
    Kind(A, "no codec file; the configuration names it", _no_codec_but_its_name),
    Kind(A, "no codec file, and no name of one", _no_codec),
    Kind(A, "`module.` before each name (DataParallel)", _prefixed("module.")),
    Kind(A, "compiled or sharded (`_orig_mod.`, `_fsdp_wrapped_module.`)", _compiled_within),
    Kind(A, "the configuration as an object of omegaconf", _dict_config),
    Kind(A, "dora's `checkpoint.th`, not exported", _dora),
    Kind(A, "Lightning's `.ckpt`", _lightning),
    Kind(A, "weights alone, without configuration", _weights_alone),
    Kind(A, "trained on segments of 10 s", _configured(lambda config: config["dataset"].update(segment_duration=10))),
    Kind(
        A,
        "melody, trained on segments of 10 s",
        _configured(lambda config: config["dataset"].update(segment_duration=10), size="tiny-melody"),
    ),
    Kind(A, "conditioned by flan-T5-XL", _flan),
    Kind(
        A, "LoRA's matrices among the weights", _added({"transformer.layers.0.linear1.lora_A.default.weight": (2, 64)})
    ),
    Kind(A, "quantised by bitsandbytes", _added({"transformer.layers.0.linear1.SCB": (256,)})),
    Kind(A, "MusicGen-Style", _conditioner("style")),
    Kind(A, "conditioned by CLAP", _conditioner("clap")),
    Kind(A, "MAGNeT", _configured(lambda config: config.update(lm_model="transformer_lm_magnet", solver="magnet"))),
    Kind(A, "JASCO", _configured(lambda config: config.update(lm_model="transformer_lm", solver="jasco"))),
    Kind(A, "a codec in place of the language model", _codec_in_place_of_the_model),
    Kind(A, "the codec's name in place of the language model", _table_of({"pretrained": "facebook/encodec_32khz"})),
    Kind(A, "MultiBand Diffusion", _table_of({"n_bands": 4, "sample_rate": 32000})),
    Kind(A, "another program's table", _table_of({"weights": {}, "step": 3})),
    Kind(A, "weights that don't fit the configuration", _misfit),
    Kind(A, "one weight that is not a number", _not_a_number(LM)),
    Kind(A, "one weight of the codec that is not a number", _not_a_number(CODEC)),
    Kind(A, "an empty configuration", _without_configuration),
    Kind(A, "truncated", _cut("audiocraft", LM, 20_000)),
    Kind(A, "Git LFS's pointer", _pointer("audiocraft", LM)),
    Kind(A, "a pickle that runs a program", _program),
    Kind(A, "the same, and TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1", _program, forced=True),
    Kind(T, "one file", lambda place: place.transformers()),
    Kind(T, "shards", lambda place: shutil.copytree(place.folders.shards(), place.folder)),
    Kind(T, "a pickle, `pytorch_model.bin`", lambda place: shutil.copytree(place.folders.pickled(), place.folder)),
    Kind(T, "stereo", lambda place: place.transformers(channels=2)),
    Kind(T, "melody", lambda place: place.transformers(melody=True)),
    Kind(T, "T5 as wide as the decoder", lambda place: place.transformers(text_width=64)),
    Kind(T, "saved in bfloat16", _half_precision),
    Kind(T, "a LoRA adapter of PEFT, its base model here", _adapter),
    Kind(T, "a LoRA adapter, its base model elsewhere", _adapter_without_base),
    Kind(T, "a shard is missing", _shard_missing),
    Kind(T, "without the text encoder's weights", _part_missing("text_encoder.")),
    Kind(T, "without the weights of a layer", _part_missing("decoder.model.decoder.layers.1.")),
    Kind(T, "truncated", _cut("transformers", "model.safetensors", 5_000)),
    Kind(T, "Git LFS's pointer", _pointer("transformers", "model.safetensors")),
    Kind(T, "`config.json` that is no JSON", _config_is_no_json),
    Kind(T, "`config.json` alone", _config_alone),
    Kind(T, "quantised by bitsandbytes", _config(lambda c: c.update(quantization_config={"load_in_8bit": True}))),
    Kind(T, "another activation", _config(lambda config: config["decoder"].update(activation_function="silu"))),
    Kind(
        T, "a pickle that runs a program, with TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1", _transformers_program, forced=True
    ),
    Kind(
        H,
        "a name, transformers' layout in the cache",
        _cached(Folders.transformers, "facebook/musicgen-small", "small"),
    ),
    Kind(H, "a name, both layouts in the cache, T5 apart not", _both_layouts),
    Kind(H, "the cache's folder of a model", _cached(Folders.transformers, "ann/finetuned", "folder")),
    Kind(H, "a hub id in the cache", _cached(Folders.transformers, "ann/finetuned", "ann/finetuned")),
    Kind(H, "a name that is not in the cache, and no network", lambda _: "small"),
    Kind(H, "a name that is not in the cache, and HF_HUB_OFFLINE=1", lambda _: "small", offline=True),
    Kind(H, "a download that was broken off", _half_cached),
    Kind(H, "a pickle that runs a program in the cache, and TORCH_FORCE_NO_…", _program_in_cache, forced=True),
    Kind(H, "a pickle that runs a program in T5's cache, and TORCH_FORCE_NO_…", _text_with_a_program, forced=True),
    Kind(O, "an empty folder", _files()),
    Kind(O, "a folder with a model inside", _one_inside),
    Kind(O, "a file", _a_file),
    Kind(O, "`.gguf`", _files(model__gguf=b"GGUF")),
    Kind(O, "ONNX", _files(decoder__onnx=b"\x08")),
    Kind(O, "Flax", _files(config__json='{"model_type": "musicgen"}', flax_model__msgpack=b"\x80")),
    Kind(O, "a pipeline of diffusers", _files(model_index__json='{"_class_name": "AceStepPipeline"}')),
    Kind(O, "another model of transformers", _files(config__json='{"model_type": "t5"}', model__safetensors=b"")),
    Kind(O, "a pickle of another name", _files(lm_final__pt=pickle.dumps([1]))),
)
