"""Models in the cache of the model hub, and the one bounded try to fetch what is not there.

Owns where the caches are, whether a cached model is complete, and the download. A model that is complete in a cache is
used without asking the hub. Nothing else in this package asks it: audiocraft and transformers are given folders.
Imports nothing heavy until something is downloaded.
"""

from __future__ import annotations

import errno
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.musicgen.checkpoint_kinds import CODEC, LANGUAGE_MODEL
from harmonia_lab.audio_engines.musicgen.weight_files import unavailable, weight_files
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError
from harmonia_lab.storage import expanded, storage_error

__all__ = [
    "CODEC_PART",
    "MODEL",
    "TEXT_PART",
    "TRANSFORMERS_MODEL",
    "TRY_S",
    "RepositoryKind",
    "cache_folders",
    "cached",
    "fetch",
    "has_transformers",
    "hub_names",
    "is_offline",
    "require",
]

TRY_S = 10.0
"""Seconds in which the hub must say what a model consists of. What it sends afterwards may take longer."""

_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)

_YES = ("1", "on", "true", "yes")

_TOKENIZERS = ("tokenizer.json", "spiece.model")


@dataclass(frozen=True)
class RepositoryKind:
    """A kind of repository. what: it is, for messages. is_complete: whether a snapshot has all that is needed.

    choose: of the names of a repository's files, those to download; none where it holds no such part.
    """

    what: str
    is_complete: Callable[[Path], bool]
    choose: Callable[[Sequence[str]], list[str]]


def cache_folders() -> list[Path]:
    """Return the caches to look in, as their variables say: audiocraft's own, and the hub's, which gets downloads."""
    given = os.environ
    home = given.get("HF_HOME") or f"{given.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    hub = given.get("HF_HUB_CACHE") or given.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return [expanded(folder) for folder in (given.get("AUDIOCRAFT_CACHE_DIR"), hub) if folder]


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids to ask the hub."""
    return any(os.environ.get(name, "").lower() in _YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def hub_names(name: str) -> list[str]:
    """Return the ids under which a model may be cached: T5 moved to an organisation of its own."""
    return [name, f"google-t5/{name}"] if "/" not in name else [name]


def cached(repo: str, part: RepositoryKind) -> Path | None:
    """Return the newest complete snapshot of a model, that of `main` before others; None where there is none."""
    return next((snapshot for snapshot in _snapshots(repo) if part.is_complete(snapshot)), None)


def fetch(repo: str, part: RepositoryKind, report: Callable[[str], None], *, purpose: str, command: str) -> Path:
    """Return a complete snapshot of a model: the cached one, or else a new one from the hub.

    report: gets a status that says what is awaited. purpose: what the model is for, in errors. command: that fetches
    it. Raise AudioError: NETWORK_TEMPORARY if the hub can't be reached within `TRY_S`, MUSICGEN_UNAVAILABLE if it may
    not be asked, or refuses, or hasn't got the model. Raise StorageError if the cache can't be written.
    """
    found = cached(repo, part)
    if found is not None:
        return found
    fault = f"{purpose} is {'only partly' if any(_snapshots(repo)) else 'not'} on this machine"
    if is_offline():
        raise unavailable(
            f"{fault}, and HF_HUB_OFFLINE forbids to download {repo}.",
            f"Unset HF_HUB_OFFLINE, or, where there is a network: {command}",
        )
    host = endpoint().partition("://")[2].rstrip("/")
    report(f"asking {host} for {repo} (at most {TRY_S:.0f} s)")
    repo = hub_names(repo)[-1]
    sizes = _asked(repo, fault, command)
    names = part.choose(list(sizes))
    if not names:
        raise unavailable(
            f"{repo} on the model hub is no {part.what}: it has {', '.join(sorted(sizes)[:5]) or 'no files'}.",
            "Name a MusicGen model, such as small, or a folder: --audio-model FOLDER",
        )
    return _downloaded(repo, names, sizes, report, fault, command)


def require(repo: str, part: RepositoryKind, report: Callable[[str], None], *, purpose: str, command: str) -> Path:
    """Return a complete cached snapshot of a model, as `fetch`, which it can replace where nothing may be downloaded.

    Raise AudioError (MUSICGEN_UNAVAILABLE) with the model's id in `details["missing"]`.
    """
    del report
    found = cached(repo, part)
    if found is None:
        error = unavailable(f"{purpose} is not on this machine.", f"Fetch it: {command}")
        error.details["missing"] = repo
        raise error
    return found


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _snapshots(repo: str) -> Iterator[Path]:
    """Yield a model's snapshots in the caches: in each cache that of `main`, then from the newest to the oldest."""
    for cache in cache_folders():
        for name in hub_names(repo):
            folder = cache / f"models--{name.replace('/', '--')}"
            main = folder / "refs" / "main"
            try:
                wanted = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
                newest = sorted((folder / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            except OSError:
                continue
            yield from sorted(newest, key=lambda path: path.name != wanted)


def _asked(repo: str, fault: str, command: str) -> dict[str, int]:
    """Return sizes in bytes by the names of a repository's files. In a thread: looking up a name has no time limit."""
    answer: list[dict[str, int] | Exception] = []

    def ask() -> None:
        try:
            from huggingface_hub import HfApi  # noqa: PLC0415 - only for a download

            info: Any = HfApi(endpoint=endpoint()).model_info(repo, timeout=TRY_S, files_metadata=True)
            answer.append({str(each.rfilename): int(each.size or 0) for each in info.siblings or []})
        except Exception as error:  # noqa: BLE001 - the hub's client raises anything
            answer.append(error)

    asking = threading.Thread(target=ask, name="harmonia-hub", daemon=True)
    asking.start()
    asking.join(TRY_S)
    found = answer[0] if answer else TimeoutError(f"no answer within {TRY_S:.0f} s")
    if isinstance(found, Exception):
        raise _explained(found, repo, fault, command) from None
    return found


def _downloaded(
    repo: str, names: Sequence[str], sizes: dict[str, int], report: Callable[[str], None], fault: str, command: str
) -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only for a download

    utils: Any = importlib.import_module("huggingface_hub.utils")
    total, done = sum(sizes[name] for name in names), 0
    shown = not utils.are_progress_bars_disabled()
    path = Path()
    try:
        utils.disable_progress_bars()
        for name in sorted(names, key=lambda name: sizes[name]):
            report(f"downloading {repo}: {name}, {sizes[name] / 1e6:,.0f} MB ({done / 1e6:,.0f} of {total / 1e6:,.0f})")
            path = Path(hf_hub_download(repo, name, cache_dir=str(cache_folders()[-1]), endpoint=endpoint()))
            done += sizes[name]
    except Exception as error:  # noqa: BLE001 - as above
        raise _explained(error, repo, fault, command) from None
    finally:
        if shown:
            utils.enable_progress_bars()
    return path.parents[len(Path(name).parts) - 1]


def _explained(error: Exception, repo: str, fault: str, command: str) -> HarmoniaError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    hint = f"Where there is a network: {command}; or give a folder: --audio-model FOLDER"
    if status in (401, 403) or type(error).__name__ == "GatedRepoError":
        return unavailable(
            f"{fault}, and the model hub gives {repo} only to users who signed in, if there is such a model.",
            f"Check the name; accept the model's terms on its page, and run: hf auth login; then: {command}",
        )
    if status == 404:
        return unavailable(f"{fault}, and the model hub has no {repo}.", "Check the name, or give a folder.")
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        return storage_error(error, cache_folders()[-1] / repo)
    if isinstance(error, TypeError | ValueError) and status is None:
        return unavailable(f"{fault}, and the model hub's answer can't be used: {reason}", hint)
    message = f"{fault}, and the model hub ({endpoint()}) can't be reached: {reason}"
    return AudioError(message, code=ErrorCode.NETWORK_TEMPORARY, hint=hint)


def _has_weights(folder: Path) -> bool:
    files = weight_files(folder)
    return bool(files) and all(path.is_file() for path in files) and (folder / "config.json").is_file()


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZERS)


def _has_model(folder: Path) -> bool:
    audiocraft = (folder / LANGUAGE_MODEL).is_file() and (folder / CODEC).is_file()
    adapter = (folder / "adapter_config.json").is_file() and bool(weight_files(folder, "adapter_model"))
    return audiocraft or adapter or has_transformers(folder)


def has_transformers(folder: Path) -> bool:
    """Return whether a folder has all of a model in transformers' layout: with T5, its tokenizer and the codec."""
    return _has_weights(folder) and _has_tokenizer(folder)


def _chosen_weights(names: Iterable[str]) -> list[str]:
    """Return transformers' weights among a repository's files: safetensors before pickles, with their index."""
    at_top = [name for name in names if "/" not in name]
    for kind, stem in ((".safetensors", "model"), (".bin", "pytorch_model")):
        found = [name for name in at_top if name.startswith(stem) and f"{kind}" in name]
        if found:
            return found
    return []


def _chosen_part(names: Sequence[str]) -> list[str]:
    weights = _chosen_weights(names)
    small = [name for name in names if name.endswith((".json", ".txt")) or name == "spiece.model"]
    return [*weights, *(name for name in small if "/" not in name and name not in weights)] if weights else []


def _chosen_model(names: Sequence[str]) -> list[str]:
    if LANGUAGE_MODEL in names and CODEC in names:
        return [LANGUAGE_MODEL, CODEC]
    if "adapter_config.json" in names:
        return [name for name in names if name.startswith("adapter_")]
    return _chosen_part(names) if "config.json" in names else []


MODEL = RepositoryKind("MusicGen model", _has_model, _chosen_model)
TRANSFORMERS_MODEL = RepositoryKind("MusicGen model in transformers' layout", has_transformers, _chosen_part)
CODEC_PART = RepositoryKind("codec", _has_weights, _chosen_part)
TEXT_PART = RepositoryKind("text encoder", has_transformers, _chosen_part)
