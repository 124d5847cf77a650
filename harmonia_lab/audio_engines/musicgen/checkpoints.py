"""MusicGen checkpoints: names, folders, licences, and checks of the files.

Owns the errors about a checkpoint that can be found before loading. `models.py` loads it. Imports nothing heavy until a
file is opened.
"""

from __future__ import annotations

import difflib
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest
from harmonia_lab.storage import cached_digest

__all__ = ["NAMES", "Checkpoint", "find_checkpoint", "unavailable"]

NAMES = {
    name: f"facebook/musicgen-{name}"
    for name in (
        "small", "medium", "large", "melody", "melody-large",
        "stereo-small", "stereo-medium", "stereo-large", "stereo-melody", "stereo-melody-large",
    )
} | {"stereo": "facebook/musicgen-stereo-small"}  # fmt: skip
"""Short name → model hub id. The weights of all are under CC-BY-NC 4.0 (audiocraft's model cards)."""

LANGUAGE_MODEL, CODEC = FILES = ("state_dict.bin", "compression_state_dict.bin")

_RELEASED = "CC-BY-NC-4.0 (Meta's MusicGen weights: no commercial use)"
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
        """Open a folder's files as loading does, without running code that a pickle may hold.

        Raise AudioError (MUSICGEN_UNAVAILABLE) if a file is damaged, unsafe or no audiocraft checkpoint.
        """
        if self.folder is not None:
            for name in FILES:
                _check_file(self.folder / name)

    def digest(self) -> dict[str, str]:
        """Return the SHA-256 of a folder's two files, by name; for a hub's model, the revision in the cache."""
        if self.folder is not None:
            return {name: cached_digest(self.folder / name) for name in FILES}
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415

        path = try_to_load_from_cache(self.source, LANGUAGE_MODEL)
        return {"revision": Path(path).parent.name} if isinstance(path, str) else {}


def find_checkpoint(model: str) -> Checkpoint:
    """Return the checkpoint for a short name ("small"), a hub id ("facebook/musicgen-small") or a folder.

    Nothing is downloaded. Raise InvalidRequest if `model` is none of these, AudioError (MUSICGEN_UNAVAILABLE) if the
    folder lacks a file.
    """
    name = model.strip()
    if name in NAMES:
        return Checkpoint(name, NAMES[name], _RELEASED)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _folder(folder.absolute())
    if folder.is_file():
        raise unavailable(f"{folder} is a file.", "Name the folder that holds it.")
    if _HUB_ID.fullmatch(name) and not name.startswith(("./", "../")):
        released = name.startswith("facebook/musicgen-")
        return Checkpoint(name, name, _RELEASED if released else f"see the model card of {name}")
    near = difflib.get_close_matches(name.lower(), NAMES, 3, 0.5)
    raise InvalidRequest(
        f"There is no MusicGen model {name[:80]!r}, and no such folder.",
        hint=f"{'Nearest: ' if near else 'Known: '}{', '.join(near or NAMES)}; or a folder with {' and '.join(FILES)}.",
        details={"fields": ["audio_model"], "known": sorted(NAMES)},
    )


def _folder(folder: Path) -> Checkpoint:
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import random_weights  # noqa: PLC0415

    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise unavailable(
            f"{folder} is no MusicGen checkpoint: it has no {' and no '.join(missing)}.",
            f"Name a folder with {' and '.join(FILES)}, as audiocraft exports them; or make one with random weights: "
            "harmonia setup musicgen --random tiny DIR",
        )
    try:
        random = random_weights(folder)
    except (OSError, ValueError):
        random = {"weights": "random"}  # a damaged marker is a marker all the same
    licence = "none: the weights are random" if random else "not known: weights from the user's own folder"
    return Checkpoint(str(folder), str(folder), licence, random)


def _check_file(path: Path) -> None:
    import torch  # noqa: PLC0415

    again = "Get it again, or name another folder."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise unavailable(
            f"{path} is refused: it holds more than weights, and opening it could run a program.",
            "Use a checkpoint from a source that you trust, exported by audiocraft 1.0 or later.",
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is truncated, or no torch file"
        raise unavailable(f"{path} cannot be read: {reason}.", again) from error
    table = content if isinstance(content, dict) else {}
    if path.name == CODEC and isinstance(table.get("pretrained"), str):
        return  # the released checkpoints hold only the name of a codec in transformers
    if not {"best_state", "xp.cfg"} <= table.keys():
        found = ", ".join(sorted(map(str, table))[:5]) or "no table"
        raise unavailable(f"{path} is no audiocraft checkpoint: it has {found}.", again)


def unavailable(message: str, hint: str) -> AudioError:
    return AudioError(message, code=ErrorCode.MUSICGEN_UNAVAILABLE, hint=hint)
