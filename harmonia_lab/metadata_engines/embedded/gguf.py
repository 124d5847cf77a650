"""What a GGUF model file says about itself: its metadata, its size, its digest.

Reads the header only, never a weight, and knows nothing about running a model. The format is described in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the quantisation names are llama.cpp's `llama_ftype`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["GgufHeader", "read_header"]

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_COUNT = 10_000_000
"""More entries than any real header has: a damaged file must not be believed."""

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
}  # fmt: skip


@dataclass(frozen=True)
class GgufHeader:
    """metadata: the file's key-value pairs; an array of strings, such as the vocabulary, is given by its length alone.

    parameters: number of weights in all tensors.
    """

    metadata: dict[str, Any]
    parameters: int

    @property
    def family(self) -> str:
        """The architecture, such as `llama`."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def quantization(self) -> str:
        """Such as `Q4_1`; `unknown` where the file does not say."""
        return _FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def parameter_size(self) -> str:
        """Ollama's spelling: `134.52M`, `3.21B`."""
        return f"{self.parameters / 1e9:.2f}B" if self.parameters >= 1e9 else f"{self.parameters / 1e6:.2f}M"

    @property
    def licence(self) -> str | None:
        """An SPDX name, as the file spells it."""
        value = self.metadata.get("general.license")
        return str(value) if value else None

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained for."""
        return int(self.metadata.get(f"{self.family}.context_length", 2048))


@lru_cache(maxsize=8)
def read_header(path: Path) -> GgufHeader:
    """Raises OSError, or ValueError where the file is not GGUF version 2 or 3, or ends too early."""
    with path.open("rb") as file:
        magic, version, tensors, pairs = struct.unpack("<4sIQQ", _exactly(file, 24))
        if magic != _MAGIC or version not in {2, 3} or max(tensors, pairs) > _MAX_COUNT:
            raise ValueError(f"{path} is not a GGUF model file (version 2 or 3)")
        metadata = {}
        for _ in range(pairs):
            key = _string(file)
            metadata[key] = _value(file, *struct.unpack("<I", _exactly(file, 4)))
        parameters = 0
        for _ in range(tensors):
            _string(file)
            (dimensions,) = struct.unpack("<I", _exactly(file, 4))
            size = 1
            for length in struct.unpack(f"<{dimensions}Q", _exactly(file, 8 * dimensions)):
                size *= length
            parameters += size
            _exactly(file, 12)
    return GgufHeader(metadata, parameters)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count) if count <= _MAX_COUNT else b""
    if len(data) != count:
        raise ValueError(f"{file.name} ends in the middle of its header")
    return data


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    return _exactly(file, length).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if count > _MAX_COUNT or (inner not in _SCALARS and inner != _STRING):
            raise ValueError(f"{file.name} has an array that cannot be read")
        if inner == _STRING:
            for _ in range(count):
                (length,) = struct.unpack("<Q", _exactly(file, 8))
                file.seek(length, 1)
            return count
        return list(
            struct.unpack(f"<{count}{_SCALARS[inner]}", _exactly(file, count * struct.calcsize(_SCALARS[inner])))
        )
    if kind not in _SCALARS:
        raise ValueError(f"{file.name} has a value of the unknown kind {kind}")
    return struct.unpack(f"<{_SCALARS[kind]}", _exactly(file, struct.calcsize(_SCALARS[kind])))[0]
