"""MusicGen models that are here, in the caches and in folders, and the released ones that could be.

Owns what is told of each without opening its weights: the configuration is read from the text in the file. Loads no
torch and asks no hub, so that `harmonia models` is quick.
"""

from __future__ import annotations

import json
import pickletools
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.musicgen import hub, install
from harmonia_lab.audio_engines.musicgen.checkpoint_kinds import CODEC, LANGUAGE_MODEL, kind_of, snapshot_of
from harmonia_lab.audio_engines.musicgen.checkpoints import NAMES, RELEASED_LICENCE, Checkpoint, find_checkpoint
from harmonia_lab.audio_engines.musicgen.fit import need_of_name, need_of_shape
from harmonia_lab.audio_engines.musicgen.model_files import TEXT_ENCODER_FOLDER, files_of, t5_name
from harmonia_lab.engines.memory_limits import available_memory
from harmonia_lab.engines.spec import ModelEntry
from harmonia_lab.errors import HarmoniaError

__all__ = ["inventory", "takes_melody"]

_SETUP = "harmonia setup musicgen"

_DOWNLOAD = {"small": 0.84e9, "medium": 3.68e9, "large": 6.5e9, "melody": 3.7e9}
"""Bytes of the released language models in float16: two for each of their weights."""
_PARTS = 1.13e9
"""Bytes of T5-base and EnCodec, which come with the first model."""


def inventory(folders: Sequence[Path]) -> list[ModelEntry]:
    """Return models in the caches and in `folders` (themselves, or one level below), then the other released ones."""
    available = available_memory()
    here = [_entry(folder, name, available) for folder, name in _found(folders)]
    names = {entry.name for entry in here}
    absent = [name for name in NAMES if not {name, NAMES[name]} & names and name != "stereo"]
    entries = here + [_absent(name, available) for name in absent]
    lacking = install.missing()
    if not lacking:
        return entries
    told = f"MusicGen itself ({', '.join(lacking)} not installed)"
    return [
        replace(entry, missing=(told, *entry.missing), fetch=" && ".join(filter(None, (_SETUP, entry.fetch))))
        for entry in entries
    ]


def takes_melody(checkpoint: Checkpoint) -> bool | None:
    """Return whether the model follows a melody, by its name or its configuration; None if neither says."""
    if checkpoint.name in NAMES or checkpoint.source in NAMES.values():
        return "melody" in checkpoint.source.split("-")
    if checkpoint.folder is None:
        return None
    try:
        return bool(_facts(snapshot_of(checkpoint.folder))[0]["melody"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, HarmoniaError):
        return None


def _found(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the folder and the name of each model that is here."""
    seen = set()
    short = {hub_id: name for name, hub_id in NAMES.items() if name != "stereo"}
    for cache in hub.cache_folders():
        for folder in sorted(cache.glob("models--*--*")):
            snapshot = snapshot_of(folder)
            if snapshot != folder and _is_model(snapshot):
                seen.add(snapshot.resolve())
                repo = folder.name.removeprefix("models--").replace("--", "/", 1)
                yield snapshot, short.get(repo, repo)
    for given in folders:
        for folder in [given, *_inside(given)]:
            if folder.is_dir() and folder.resolve() not in seen and _is_model(folder):
                seen.add(folder.resolve())
                yield folder, str(folder)


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # it is no folder, or not for this user
        return []


def _is_model(folder: Path) -> bool:
    try:
        kind_of(folder)
    except (HarmoniaError, OSError):
        return False
    return True


def _entry(folder: Path, name: str, available: int) -> ModelEntry:
    folder = snapshot_of(folder)
    size = sum(path.stat().st_size for path in files_of(folder))
    licence = find_checkpoint(str(folder)).licence
    try:
        facts, missing = _facts(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, HarmoniaError):
        missing = ["its configuration can't be read"]
        facts = {}
    need = need_of_shape(**facts) if facts else None
    return ModelEntry(
        engine="musicgen",
        stage=2,
        name=name,
        where=str(folder),
        size_bytes=size,
        licence=licence,
        can=_can(melody=bool(facts.get("melody")), stereo=facts.get("codebooks") == 8),
        sings=False,
        needs_bytes=need.total if need else None,
        fits=need.total <= available if need else None,
        missing=tuple(missing),
        fetch=f"harmonia models --fetch {shlex.quote(name)}" if missing and facts else "",
    )


def _absent(name: str, available: int) -> ModelEntry:
    need = need_of_name(name)
    words = name.split("-")
    scale = next((word for word in ("large", "medium", "small", "melody") if word in words), "small")
    have_parts = hub.cached("t5-base", hub.TEXT_PART) and hub.cached("facebook/encodec_32khz", hub.CODEC_PART)
    return ModelEntry(
        engine="musicgen",
        stage=2,
        name=name,
        size_bytes=int(_DOWNLOAD[scale] + (0 if have_parts else _PARTS)),
        licence=RELEASED_LICENCE,
        can=_can(melody="melody" in words, stereo="stereo" in words),
        sings=False,
        needs_bytes=need.total if need else None,
        fits=need.total <= available if need else None,
        missing=("not downloaded",),
        fetch=f"harmonia models --fetch {name}",
    )


def _can(*, melody: bool, stereo: bool) -> tuple[str, ...]:
    return (*(["melody"] if melody else []), *(["stereo"] if stereo else []))


def _facts(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the shape of a model, as `need_of_shape` takes it, and what the model lacks. Raise what reading raises."""
    kind = kind_of(folder)
    if kind == "transformers":
        config = json.loads((folder / "config.json").read_bytes())
        decoder = config["decoder"]
        missing = [] if hub.has_transformers(folder) else ["weights or a tokenizer"]
        shape = {
            "width": int(decoder["hidden_size"]),
            "layers": int(decoder["num_hidden_layers"]),
            "codebooks": int(decoder["num_codebooks"]),
            "card": int(decoder.get("vocab_size", 2048)),
            "melody": config["model_type"] == "musicgen_melody",
        }
        return shape, missing
    if kind == "lora":
        return {}, []
    path = next(path for path in files_of(folder) if path.name != CODEC)
    text = _pickled_text(path, "xp.cfg")
    if text is None:
        return {}, []
    import yaml  # noqa: PLC0415 - omegaconf's, and so there

    config = yaml.safe_load(text)
    lm = config["transformer_lm"]
    shape = {
        "width": int(lm["dim"]),
        "layers": int(lm["num_layers"]),
        "codebooks": int(lm.get("n_q", 4)),
        "card": int(lm.get("card", 2048)),
        "melody": "self_wav" in (config.get("conditioners") or {}),
    }
    return shape, [] if path.name == LANGUAGE_MODEL and hub.has_transformers(folder) else _lacking(folder, config)


def _lacking(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Return the parts that a folder of audiocraft's only names, and that are not here."""
    missing = []
    name = t5_name(config)
    if name is not None and not (folder / TEXT_ENCODER_FOLDER).is_dir() and hub.cached(name, hub.TEXT_PART) is None:
        missing.append(f"the text encoder {name}")
    if (folder / CODEC).is_file():
        codec = _pickled_text(folder / CODEC, "pretrained")
    else:
        codec = str(config.get("compression_model_checkpoint") or "a codec").removeprefix("//pretrained/")
    if codec and not Path(codec).exists() and hub.cached(codec, hub.CODEC_PART) is None:
        missing.append(f"the codec {codec}")
    return missing


def _pickled_text(path: Path, key: str) -> str | None:
    """Return the text under a key of the table in a torch file, without unpickling: texts stand in it as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(name)
    except (zipfile.BadZipFile, StopIteration, OSError):
        return None
    found = False
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("BINUNICODE", "SHORT_BINUNICODE"):
            if found:
                return str(argument)
            found = argument == key
        elif operation.name not in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            found = False
    return None
