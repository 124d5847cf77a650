"""Files of weights, opened without running what they may hold: torch's pickles and safetensors.

Owns the reading of one file, or of one model's shards, and the errors about files: damaged, no weights, pointers of Git
LFS, pickles that hold programs. Tensors are mapped from the disk, not copied. `model_files.py` says what they mean.

A pickle is read by torch's restricted unpickler, whatever TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD says. Objects of a few
packages that training leaves in its checkpoints (configurations of omegaconf, callbacks of Lightning, …) become
`Inert` ones, which only keep their state: none of their packages is imported or called.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["Inert", "is_lfs_pointer", "plain", "read_pickle", "read_weights", "unavailable", "weight_files"]

AGAIN = "Get it again, or name another folder."

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_OF_A_POINTER = 1024
"""Bytes. The format's own limit (git-lfs, docs/spec.md)."""

_INERT_PACKAGES = ("argparse", "audiocraft", "dora", "flashy", "lightning", "lightning_fabric", "omegaconf", "pathlib",
                   "pytorch_lightning")  # fmt: skip
_INERT_NAMES = {
    "typing.Any", "builtins.dict", "builtins.list", "builtins.tuple", "builtins.int", "builtins.float", "builtins.str",
    "builtins.bool", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
}  # fmt: skip

_lock = threading.Lock()
"""torch's list of allowed names is the process's."""


class Inert:
    """What stands in a checkpoint for an object of another package. Its state is in `vars`; it does nothing."""

    def __new__(cls, *_args: Any, **_named: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update({str(name): value for name, value in state.items()})


def _empty(*_args: Any) -> dict[str, Any]:
    """A defaultdict, of which only the name is known."""
    return {}


def plain(value: Any) -> Any:
    """Return a configuration of omegaconf, read as `Inert` objects, as dicts, lists and values. Interpolations stay."""
    content = getattr(value, "__dict__", {})
    if "_content" in content:
        return plain(content["_content"])
    if "_val" in content:
        return content["_val"]
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, Inert) else value


def unavailable(message: str, hint: str, code: ErrorCode = ErrorCode.MUSICGEN_UNAVAILABLE) -> AudioError:
    return AudioError(message, code=code, hint=hint)


def is_lfs_pointer(path: Path) -> bool:
    """Return whether the file is what Git leaves in place of a big file that was not fetched."""
    try:
        if path.stat().st_size > _MOST_OF_A_POINTER:
            return False
        with path.open("rb") as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False


def read_pickle(path: Path) -> Any:
    """Return a torch file's content. Raise AudioError (MUSICGEN_UNAVAILABLE) if it is damaged, or more than weights."""
    import torch  # noqa: PLC0415

    _check_there(path)
    try:
        with _lock, torch.serialization.safe_globals(_stand_ins(path)):
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap" not in str(error):
                    raise
                return torch.load(path, map_location="cpu", weights_only=True)  # a file of torch before 1.6
    except pickle.UnpicklingError as error:
        raise unavailable(
            f"{path} is refused: it holds more than weights, and opening it could run a program.",
            "Use a checkpoint from a source that you trust, as safetensors, or exported by audiocraft 1.0 or later.",
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AssertionError, AttributeError, TypeError) as error:
        # Without a file's name, it is torch's own: it can't map what ends too early.
        known = isinstance(error, OSError) and error.filename is not None and error.strerror
        reason = known or "it is truncated, or no torch file"
        raise unavailable(f"{path} cannot be read: {reason}.", AGAIN) from error


def _stand_ins(path: Path) -> list[Any]:
    """Return what stands for the names in the pickle that torch doesn't allow, as far as they are known."""
    import torch  # noqa: PLC0415

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - no file of torch's present format: reading it says so
        return []
    found: list[Any] = []
    for name in names:
        if name == "collections.defaultdict":
            found.append((_empty, name))
        elif name.partition(".")[0] in _INERT_PACKAGES or name in _INERT_NAMES:
            found.append((Inert, name))
    return found


def read_weights(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the tensors of one model's files, by name. Raise AudioError (MUSICGEN_UNAVAILABLE) as `read_pickle`."""
    weights: dict[str, Any] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            weights |= _read_safetensors(path)
            continue
        table = read_pickle(path)
        if not isinstance(table, dict):
            raise unavailable(f"{path} holds no table of weights.", AGAIN)
        weights |= {str(name): value for name, value in table.items() if hasattr(value, "shape")}
    return weights


def weight_files(folder: Path, stem: str = "model", pickled: str = "pytorch_model") -> list[Path]:
    """Return the files of transformers' weights in a folder, one or shards, safetensors before pickles; [] for none.

    A shard that the index names may be missing. Raise AudioError (MUSICGEN_UNAVAILABLE) for an index that is damaged.
    """
    for name, suffix in ((stem, "safetensors"), (pickled, "bin")):
        if (folder / f"{name}.{suffix}").is_file():
            return [folder / f"{name}.{suffix}"]
        index = folder / f"{name}.{suffix}.index.json"
        if index.is_file():
            try:
                shards = sorted({str(shard) for shard in json.loads(index.read_bytes())["weight_map"].values()})
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise unavailable(f"{index} cannot be read: it is damaged.", AGAIN) from error
            return [folder / Path(shard).name for shard in shards]
    return []


def _check_there(path: Path) -> None:
    """Raise AudioError if there is no file, or Git LFS's pointer in its place."""
    if is_lfs_pointer(path):
        raise unavailable(
            f"{path} is a pointer of Git LFS: the file itself was not fetched.",
            f"Fetch it: git -C {path.parent} lfs pull",
        )
    if not path.is_file():
        raise unavailable(f"{path} is missing, though another file names it.", "Fetch the whole folder again.")


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    _check_there(path)
    try:
        tensors: dict[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is truncated, or no safetensors"
        raise unavailable(f"{path} cannot be read: {reason}.", AGAIN) from error
    return tensors
