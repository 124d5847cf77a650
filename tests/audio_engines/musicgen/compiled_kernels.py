"""Each Triton kernel, compiled for GPUs that needn't be there: registers, and the order of loads and the wait.

Run by test_triton_kernels.py in a process of its own, where Triton compiles.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from harmonia_lab.audio_engines.musicgen import triton_kernels as kernels
from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial
from harmonia_lab.audio_engines.musicgen.lm_weights import Norm
from harmonia_lab.audio_engines.musicgen.sampling import Sampling

SIZES = {"small": (1024, 16), "medium": (1536, 24), "large": (2048, 32)}
TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int64: "*i64",
    torch.int32: "*i32",
}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Recorder:
    """Stands in for a kernel, and keeps what it is launched with."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        self.grid = grid
        return self.launch

    def launch(self, *args, **kwargs):
        self.named = dict(zip(self.kernel.arg_names, args, strict=False))
        self.options = {name: kwargs.pop(name) for name in ("num_warps", "launch_pdl") if name in kwargs}
        self.constants = kwargs


def launches(size, rows, dtype, splits=4):
    """A function per kernel that launches it at a model's shapes, on tensors without memory."""
    dim, heads = SIZES[size]

    def new(*shape, dtype=dtype):
        return torch.empty(shape, dtype=dtype, device="meta")

    prompts, codebooks, card = max(1, rows // 2), 4, 2048
    exact = {"dtype": torch.float32}
    norm = Norm(new(dim, **exact), new(dim, **exact), 1e-5)
    x, hidden, query = new(rows, dim, **exact), new(rows, 4 * dim), new(rows, dim)
    step = new(1, dtype=torch.int64)
    cache = new(rows, 2, heads, 1503, dim // heads)
    text = new(rows, 2, heads, 32, dim // heads)
    partial, of_text = (Partial.allocate(rows, heads, each, dim // heads, "meta") for each in (splits, 1))
    sequence = new(1504, prompts, codebooks, dtype=torch.int64)
    logits = new(prompts, codebooks, card, **exact)
    offsets, begins = new(codebooks, dtype=torch.int64), new(rows, dtype=torch.int64)
    total = new(1, **exact)
    embeddings, table = new(codebooks * (card + 1), dim, **exact), new(1600, dim, **exact)
    return {
        "embed": lambda: kernels.embed(sequence, step, embeddings, offsets, table, step, begins, x),
        "norm_project": lambda: kernels.norm_project(x, norm, new(dim, dim), query),
        "norm_project gelu": lambda: kernels.norm_project(x, norm, new(4 * dim, dim), hidden, gelu=True),
        "norm_project_cache": lambda: kernels.norm_project_cache(x, norm, new(3 * dim, dim), query, cache, step, step),
        "attend": lambda: kernels.attend(query, cache, begins, step, step, query, partial, grows=True),
        "attend text": lambda: kernels.attend(query, text, begins, step, step, query, of_text, grows=False),
        "project square": lambda: kernels.project(query, new(dim, dim), x),
        "project": lambda: kernels.project(hidden, new(dim, 4 * dim), x),
        "guided_logits": lambda: kernels.guided_logits(x, norm, new(codebooks * card, dim), 3.0, logits),
        "sample": lambda: kernels.sample(logits, logits, sequence, sequence, step, total, Sampling()),
        "sample greedy": lambda: kernels.sample(logits, None, sequence, sequence, step, total, Sampling(False)),
    }


def compiled(patch, name, launch, architecture):
    """Returns Triton's compiled kernel, what it was launched with, and its registers and stack bytes a thread."""
    patch.setattr(kernels, "machine", lambda _: kernels.Machine(132, dependent=architecture >= 90))
    attribute = name.split()[0] + "_kernel"
    recorder = Recorder(getattr(kernels, attribute))
    patch.setattr(kernels, attribute, recorder)
    launch()
    patch.undo()
    names = recorder.kernel.arg_names
    exempt = {names.index(each) if isinstance(each, str) else each for each in recorder.kernel.do_not_specialize}
    signature, attributes = {}, {}
    for index, (argument, value) in enumerate(recorder.named.items()):
        if isinstance(value, torch.Tensor):
            signature[argument] = TYPES[value.dtype]
            attributes[index,] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "fp32" if isinstance(value, float) else "i32"
            assert isinstance(value, float) or index in exempt, f"{argument} would be specialised"
    signature |= dict.fromkeys(recorder.constants, "constexpr")
    source = ASTSource(recorder.kernel, signature=signature, constexprs=recorder.constants, attrs=attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=recorder.options)
    return binary, recorder, *usage(binary)


def tool(name, binary, *options):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        return subprocess.run([TOOLS / name, *options, file.name], capture_output=True, text=True, check=True).stdout


def usage(binary):
    """Registers a thread, and bytes of its stack: what is spilled, since no kernel has arrays of its own."""
    found = re.search(r"REG:(\d+) STACK:(\d+)", tool("cuobjdump", binary, "--dump-resource-usage"))
    return int(found[1]), int(found[2])


def early_loads(kernel, constants, itemsize, warps):
    """How many loads of at most 16 bytes a thread needs for its first tile, and for the norm's weight and bias.

    Attention takes its first keys and values early, and the counters that say which.
    """
    threads = 32 * warps
    if kernel == "attend_kernel":
        return 2 * max(1, constants["BLOCK"] * constants["D"] * itemsize // (16 * threads)) + 3
    if "ROWS" not in constants:
        return 0
    tile = constants["ROWS"] * constants["WIDTH"] * itemsize // (16 * threads)
    of_norm = 0 if kernel == "project_kernel" else 2 * max(1, constants["WIDTH"] * 4 // (16 * threads))
    return tile + of_norm


def split_at(lines, mark):
    at = next(index for index, line in enumerate(lines) if mark in line)
    return lines[:at], lines[at + 1 :]


def count(lines, *marks):
    return sum(any(mark in line for mark in marks) for line in lines)


CASES = [
    ("small", 2, torch.float16, 90),
    ("medium", 2, torch.float16, 90),
    ("large", 2, torch.float16, 90),
    ("medium", 1, torch.bfloat16, 80),
    ("small", 2, torch.float32, 89),
]
ALIKE = ("embed", "attend", "attend text", "sample", "sample greedy")  # at every size


@pytest.mark.parametrize(
    ("name", "size", "rows", "dtype", "architecture"),
    [
        (name, *case)
        for case in CASES
        for name in launches("small", 2, torch.float16)
        if name not in ALIKE or case[0] == "small"
    ],
    ids=str,
)
def test_compiles(monkeypatch, name, size, rows, dtype, architecture):
    binary, recorder, registers, stack = compiled(monkeypatch, name, launches(size, rows, dtype)[name], architecture)
    assert stack == 0
    assert registers < 255
    loads = early_loads(recorder.kernel.__name__, recorder.constants, dtype.itemsize, recorder.options["num_warps"])
    if architecture < 90:
        assert "griddepcontrol" not in binary.asm["ptx"]
        return
    # In what Triton writes and in what ptxas makes of it: the weights are loaded before the wait, and no activation.
    before, after = split_at(binary.asm["ptx"].splitlines(), "griddepcontrol.wait")
    assert loads // 2 <= count(before, "ld.global") <= loads  # fewer where a tile is wider than a row
    assert count(before, "st.global", "atom", "red.") == 0
    assert count(after, "st.global") > 0
    assert count(after, "griddepcontrol.wait") == 0
    before, after = split_at(tool("nvdisasm", binary).splitlines(), "ACQBULK")
    assert loads // 2 <= count(before, " LDG", " LD.") <= loads
    assert count(before, " STG", " ST.", " ATOM", " RED") == 0
    assert count(before, "PREEXIT") == 1
    assert binary.metadata.launch_pdl
