"""The copy as Q8_0 has the same weights, in a file that the header's reader, and llama.cpp, can read."""

import struct

import numpy as np

from harmonia_lab.metadata_engines.embedded.gguf import read_header
from harmonia_lab.metadata_engines.embedded.q8 import has_q4_1, q4_1_to_q8_0, write_q8_0


def q4_1_block(scale, least, nibbles):
    """Return a block: element i in the low half of byte i, element i + 16 in its high half."""
    numbers = np.array(nibbles, np.uint8)
    return np.concatenate([np.array([scale, least], np.float16).view(np.uint8), numbers[:16] | numbers[16:] << 4])


def q8_0_weights(data):
    blocks = data.reshape(-1, 34)
    return blocks[:, :2].copy().view(np.float16).astype(np.float32) * blocks[:, 2:].copy().view(np.int8)


def test_the_weights_are_the_same_to_half_a_step():
    nibbles = [*range(16), *range(15, -1, -1)]
    blocks = np.concatenate([q4_1_block(0.125, -1.0, nibbles), q4_1_block(0.0, 0.0, nibbles)])
    weights = q8_0_weights(q4_1_to_q8_0(blocks))
    assert np.abs(weights[0] - (0.125 * np.array(nibbles) - 1.0)).max() <= 0.51 / 127
    assert not weights[1].any()


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def test_a_file_is_copied_with_its_header_and_its_other_weights(tmp_path):
    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("tiny"),
        text("general.file_type") + struct.pack("<II", 4, 3),
    ]
    infos = [
        text("a.weight") + struct.pack("<I2QIQ", 2, 32, 3, 3, 0),
        text("b.norm") + struct.pack("<IQIQ", 1, 4, 0, 64),
    ]
    blocks = np.concatenate([q4_1_block(0.5, -2.0, [number % 16] * 32) for number in range(3)])
    norm = np.arange(4, dtype=np.float32)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, len(pairs)) + b"".join(pairs + infos)
    head += bytes(-len(head) % 32)
    old, new = tmp_path / "old.gguf", tmp_path / "new.gguf"
    old.write_bytes(head + blocks.tobytes() + bytes(4) + norm.tobytes())
    assert has_q4_1(old)
    write_q8_0(old, new)
    header = read_header(new)
    assert (header.quantization, header.parameters, has_q4_1(new)) == ("Q8_0", 100, False)
    data = np.frombuffer(new.read_bytes(), np.uint8)[header.data_offset :]
    first, second = header.tensors
    assert (first.kind, second.kind, second.offset % 32) == (8, 0, 0)
    weights = q8_0_weights(data[first.offset : first.offset + 3 * 34])
    assert np.abs(weights[:, 0] - [-2.0, -1.5, -1.0]).max() < 0.02
    assert data[second.offset : second.offset + 16].view(np.float32).tolist() == norm.tolist()
