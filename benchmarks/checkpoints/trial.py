"""What happens with one kind of folder or cache: tried, timed, and told without this machine's paths.

Owns a trial and its surroundings: a cache of its own, and a hub that refuses connections. The kinds are `kinds.py`'s.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpoints.folders import Folders
from benchmarks.checkpoints.kinds import Kind, Place
from harmonia_lab.audio_engines.musicgen.checkpoints import find_checkpoint
from harmonia_lab.audio_engines.musicgen.models import Choice, ModelCache
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import HarmoniaError

__all__ = ["Outcome", "attempt"]

NO_HUB = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""


@dataclass(frozen=True)
class Outcome:
    """loads: whether the model can be used. said: the notes of its record, or the error. ran: a pickle's program did.

    seconds: from the name to the model or the error, imports not counted.
    """

    loads: bool
    code: str
    said: str
    hint: str
    ran: bool
    seconds: float


def attempt(kind: Kind, folders: Folders, root: Path) -> Outcome:
    """Make `kind` in `root`, which must be a new folder, and try to load it."""
    root.mkdir()
    place = Place(folders, root)
    place.cache.mkdir()
    source = str(kind.make(place))
    with _surroundings(kind, place):
        began = time.perf_counter()
        loads, code, said, hint = _load(source)
        seconds = time.perf_counter() - began
    said, hint = (_anonymous(text, source, root, folders) for text in (said, hint))
    return Outcome(loads, code, said, hint, place.witness.exists(), seconds)


def _load(source: str) -> tuple[bool, str, str, str]:
    try:
        choice = Choice(find_checkpoint(source), device="cpu")
        with ModelCache().lease(choice, CancelToken(), lambda _: None) as model:
            note = f" The decoder: {model.decoder.reason}." if model.decoder.reason else ""
            return True, "", " ".join(model.notes) + note, ""
    except HarmoniaError as error:
        return False, str(error.code), error.message, error.hint


@contextlib.contextmanager
def _surroundings(kind: Kind, place: Place) -> Iterator[None]:
    wanted = {"HF_ENDPOINT": NO_HUB, "HF_HUB_CACHE": str(place.cache), "AUDIOCRAFT_CACHE_DIR": None}
    wanted["HF_HUB_OFFLINE"] = "1" if kind.offline else None
    wanted["TRANSFORMERS_OFFLINE"] = None
    wanted["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1" if kind.forced else None
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _anonymous(text: str, source: str, root: Path, folders: Folders) -> str:
    """Return the text with FOLDER, CACHE and BASE in place of this trial's paths."""
    base = str(folders.transformers())
    named = [(str(root / "hub"), "CACHE"), (str(root / "model"), "FOLDER"), (source, "FOLDER"), (base, "BASE")]
    for path, name in named:
        if path.startswith("/"):
            text = text.replace(path, name)
    return text.replace(str(root), "FOLDER").replace(NO_HUB, "https://hub.example")
