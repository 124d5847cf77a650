"""MusicGen checkpoints: names, folders, licences, digests.

Owns what is known of a checkpoint by its name, without opening its weights. Kinds of folders are in
`checkpoint_kinds.py`, their content in `model_files.py`, models in memory in `models.py`. Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.musicgen import hub
from harmonia_lab.audio_engines.musicgen.checkpoint_kinds import CODEC, LANGUAGE_MODEL, kind_of, snapshot_of
from harmonia_lab.audio_engines.musicgen.weight_files import unavailable
from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.storage import cached_digest, expanded

__all__ = ["NAMES", "RELEASED_LICENCE", "Checkpoint", "find_checkpoint", "smaller_checkpoint"]

NAMES = {
    name: f"facebook/musicgen-{name}"
    for name in (
        "small", "medium", "large", "melody", "melody-large",
        "stereo-small", "stereo-medium", "stereo-large", "stereo-melody", "stereo-melody-large",
    )
} | {"stereo": "facebook/musicgen-stereo-small"}  # fmt: skip
"""Short name → model hub id. The weights of all are under CC-BY-NC 4.0 (audiocraft's model cards)."""

RELEASED_LICENCE = "CC-BY-NC-4.0 (Meta's MusicGen weights: no commercial use)"
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class Checkpoint:
    """source: the argument of audiocraft's `get_pretrained`: a hub id, or an absolute folder. licence: of the weights.

    random: the content of the folder's marker (size, seed) if the weights are random, else None.
    """

    name: str
    source: str
    licence: str
    random: dict[str, Any] | None = None

    @property
    def folder(self) -> Path | None:
        return Path(self.source) if Path(self.source).is_absolute() else None

    def check(self) -> None:
        """Open the files as loading does, with their parts, without running code that a pickle may hold.

        Nothing is downloaded. Raise AudioError (MUSICGEN_UNAVAILABLE) if something is damaged, unsafe, or no MusicGen;
        if it is not here, with its id in `details["missing"]`.
        """
        from harmonia_lab.audio_engines.musicgen.loading import open_model  # noqa: PLC0415 - torch loads with it

        open_model(self.source, lambda _: None, hub.require, name=self.name)

    def digest(self, paths: Sequence[Path] = ()) -> dict[str, str]:
        """Return the SHA-256 of a folder's files, by name; for a hub's model, the revision in the cache.

        paths: those that were opened.
        """
        if self.folder is not None:
            return {path.name: cached_digest(path) for path in paths}
        found = hub.cached(self.source, hub.MODEL)
        return {} if found is None else {"revision": found.name}


def find_checkpoint(model: str) -> Checkpoint:
    """Return the checkpoint for a short name ("small"), a hub id ("facebook/musicgen-small") or a folder.

    Nothing is downloaded. Raise InvalidRequest if `model` is none of these, AudioError (MUSICGEN_UNAVAILABLE) if the
    folder lacks a file.
    """
    name = model.strip()
    if name in NAMES:
        return Checkpoint(name, NAMES[name], RELEASED_LICENCE)
    try:
        folder = expanded(name)
        if name and folder.is_dir():
            return _folder(folder.absolute())
        if folder.is_file():
            raise unavailable(f"{folder} is a file.", "Name the folder that holds it.")
    except (OSError, ValueError, StorageError):
        pass  # too long, or with a NUL, or of a user who isn't there: no path of this machine
    if _HUB_ID.fullmatch(name) and not name.startswith(("./", "../")):
        released = name.startswith("facebook/musicgen-")
        return Checkpoint(name, name, RELEASED_LICENCE if released else f"see the model card of {name}")
    near = difflib.get_close_matches(name.lower(), NAMES, 3, 0.5)
    raise InvalidRequest(
        f"There is no MusicGen model {name[:80]!r}, and no such folder.",
        hint=f"{'Nearest: ' if near else 'Known: '}{', '.join(near or NAMES)}; or a folder with {LANGUAGE_MODEL} and "
        f"{CODEC}, or with config.json and safetensors.",
        details={"fields": ["audio_model"], "known": sorted(NAMES)},
    )


def smaller_checkpoint(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return the next smaller released model of the same kind; None where there is none, or for a folder."""
    name = checkpoint.name.removeprefix("facebook/musicgen-")
    smaller = {"large": "medium", "medium": "small", "melody-large": "melody"}
    kind = "stereo-" if name.startswith("stereo-") else ""
    found = smaller.get(name.removeprefix(kind))
    return find_checkpoint(kind + found) if found is not None and checkpoint.folder is None else None


def _folder(folder: Path) -> Checkpoint:
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import random_weights  # noqa: PLC0415

    kind_of(snapshot_of(folder))
    try:
        random = random_weights(folder)
    except (OSError, ValueError):
        random = {"weights": "random"}  # a damaged marker is a marker all the same
    licence = "none: the weights are random" if random else _licence(folder)
    return Checkpoint(str(folder), str(folder), licence, random)


def _licence(folder: Path) -> str:
    """Return what the folder says: by its place in the hub's cache, or in the model card's head."""
    if any(part.startswith("models--facebook--musicgen-") for part in folder.parts):
        return RELEASED_LICENCE
    try:
        head = (snapshot_of(folder) / "README.md").read_text(encoding="utf-8", errors="replace")[:10_000]
    except OSError:
        head = ""
    found = re.search(r"\A---\n(?:.*\n)*?license: *([\w.+-]+)", head)
    return f"{found[1]} (its model card)" if found else "not known: weights from the user's own folder"
