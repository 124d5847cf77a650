"""The header of a GGUF model file.

Owns the parser of the header (not the weights: `q8.py`, nor running a model: `llama.py`). The format is described in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the quantisation names are llama.cpp's `llama_ftype`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

__all__ = ["GgufHeader", "TensorInfo", "read_header"]

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_COUNT = 10_000_000
"""More entries or bytes than any real header has: a damaged file may contain larger numbers."""

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
}  # fmt: skip


class TensorInfo(NamedTuple):
    """shape: weights along each axis. kind: ggml's number of the type. offset: bytes from the start of the data.

    place: where type and offset stand in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    place: int


@dataclass(frozen=True)
class GgufHeader:
    """metadata: the file's key-value pairs, with the length instead of an array of strings, such as the vocabulary.

    data_offset: where the weights begin, in bytes.
    """

    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    data_offset: int

    @property
    def parameters(self) -> int:
        """Number of weights in all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """Quantisation, such as `Q4_1`; `unknown` if the file doesn't name it."""
        return _FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def parameter_size(self) -> str:
        """`parameters` in Ollama's form: `134.52M`, `3.21B`."""
        return f"{self.parameters / 1e9:.2f}B" if self.parameters >= 1e9 else f"{self.parameters / 1e6:.2f}M"

    @property
    def context_length(self) -> int:
        """Context of the training, in tokens."""
        return int(self.metadata.get(f"{self.metadata.get('general.architecture')}.context_length", 2048))


@lru_cache(maxsize=8)
def read_header(path: Path) -> GgufHeader:
    """Read a header. Raises OSError, or ValueError if the file is not GGUF version 2 or 3, or ends too early."""
    with path.open("rb") as file:
        magic, version, tensors, pairs = _unpack(file, "4sIQQ")
        if magic != _MAGIC or version not in {2, 3} or max(tensors, pairs) > _MAX_COUNT:
            raise ValueError(f"{path} is not a GGUF model file (version 2 or 3)")
        metadata = {}
        for _ in range(pairs):
            key = _string(file)
            metadata[key] = _value(file, *_unpack(file, "I"))
        infos = []
        for _ in range(tensors):
            name = _string(file)
            (dimensions,) = _unpack(file, "I")
            shape = _unpack(file, f"{dimensions}Q")
            place = file.tell()
            kind, offset = _unpack(file, "IQ")
            infos.append(TensorInfo(name, shape, kind, offset, place))
        alignment = int(metadata.get("general.alignment", 32))
        data_offset = file.tell() + -file.tell() % max(1, alignment)
    return GgufHeader(metadata, tuple(infos), data_offset)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count) if count <= _MAX_COUNT else b""
    if len(data) != count:
        raise ValueError(f"{file.name} ends in the middle of its header")
    return data


def _unpack(file: BinaryIO, fields: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{fields}", _exactly(file, struct.calcsize(f"<{fields}")))


def _string(file: BinaryIO) -> str:
    return _exactly(file, *_unpack(file, "Q")).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = _unpack(file, "IQ")
        if count > _MAX_COUNT or (inner not in _SCALARS and inner != _STRING):
            raise ValueError(f"{file.name} has an array that cannot be read")
        if inner == _STRING:
            for _ in range(count):
                (length,) = _unpack(file, "Q")
                file.seek(length, 1)
            return count
        return list(_unpack(file, f"{count}{_SCALARS[inner]}"))
    if kind not in _SCALARS:
        raise ValueError(f"{file.name} has a value of the unknown kind {kind}")
    return _unpack(file, _SCALARS[kind])[0]
