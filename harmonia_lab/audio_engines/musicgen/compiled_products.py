"""Products of a few rows, and attention, by a C program, compiled when the first large matrix is packed.

Owns compiling and loading `compiled_products.c`, attention by it (`kv_cache.py` has torch's), a step's threads, and
two packings (`packed_weights.py` has the others):

    half_rows     the rows of the matrix, in float16
    float_rows    the rows of the matrix, as they are: no copy

Both are exact, and read from memory what torch's packings of the same numbers read. torch's are slower where memory is
slow to answer, since they don't ask for weights ahead of their use. Milliseconds for all matrices of musicgen-small, 2
rows, on 1 and 2 cores of an Intel Xeon, which read 10 and 20 GB/s: half 120, 70; half_rows 67, 38, about what it takes
to read the weights once; onednn 163, 155; float_rows 99, 57. The same program limited to AVX2 is as fast there.

It needs Linux, x86-64, AVX2 and a C compiler (`cc`, `gcc` or `clang`); `HARMONIA_COMPILED_PRODUCTS=off` leaves it out.
Nothing is kept on the disk: the same home may serve other processors, and a cache of programs would have to be trusted.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor

__all__ = ["attended_by_program", "own_threads", "rows_product", "takes_attention"]

SOURCE = Path(__file__).with_name("compiled_products.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC", "-pthread")
SECONDS = 60.0
"""The most that compiling may take; 1.5 s are usual."""

MULTIPLE = 32
"""The program takes so many inputs at a time."""


def rows_product(weight: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the product with `weight` [outputs, inputs], kept as `dtype`, float16 or float32.

    Raise NotImplementedError if this machine can't compile or run it.
    """
    program = _program()
    if program is None:
        raise NotImplementedError("compiled products")
    multiply = program.multiply
    outputs, inputs = weight.shape
    missing = -inputs % MULTIPLE
    kept = (F.pad(weight, (0, missing)) if missing else weight).to(dtype).contiguous()
    halves, address, padded = dtype == torch.float16, kept.data_ptr(), kept.shape[1]

    def product(rows: Tensor) -> Tensor:
        given = (F.pad(rows, (0, missing)) if missing else rows).to(torch.float32).contiguous()
        if given.shape[1:] != kept.shape[1:]:  # the program would read beyond it
            raise ValueError(f"Rows of {rows.shape[-1]} numbers, where the matrix takes {inputs}.")
        out = given.new_empty(len(given), outputs)
        multiply(halves, address, given.data_ptr(), out.data_ptr(), len(given), outputs, padded, _threads())
        return out

    return product


def attended_by_program(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return the attention of one position per row, inside `own_threads`. query: float32 [R, H, 1, D] → the same shape.

    keys, values: float32 [R, H, T, D] with positions last in memory, and rows and heads at one distance.
    """
    program = _program()
    assert program is not None  # `own_threads` would be empty
    rows, heads, positions, width = keys.shape
    scaled = (query * width**-0.5).contiguous()
    weights, attended = query.new_empty(rows * heads, positions), query.new_empty(query.shape)
    shape = rows * heads, width, positions, keys.stride(1), keys.stride(3), _threads()
    program.attend(False, keys.data_ptr(), scaled.data_ptr(), weights.data_ptr(), *shape)
    weights = torch.softmax(weights, -1)
    program.attend(True, values.data_ptr(), weights.data_ptr(), attended.data_ptr(), *shape)
    return attended


class _Taken(threading.local):
    """The threads that this thread's products take, inside `own_threads`; otherwise 0."""

    threads = 0


_taken = _Taken()


def _threads() -> int:
    return _taken.threads or torch.get_num_threads()


def takes_attention() -> bool:
    """Return whether a step of this thread is inside `own_threads`."""
    return _taken.threads > 0


@contextmanager
def own_threads() -> Iterator[None]:
    """Give the threads that torch would take to the program's products and attention, and torch this one alone.

    What else a step does is small, and takes longer by two threads than by one: OpenMP's threads spin for milliseconds
    after it, on the cores on which the program's would run, and where other programs use the cores, each of its
    barriers waits until all threads had their turn. Only for the calling thread; empty where OpenMP isn't found.
    """
    openmp = _openmp() if _program.cache_info().currsize and _program() is not None else None
    if openmp is None or _taken.threads:
        yield
        return
    _taken.threads = torch.get_num_threads()
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(_taken.threads)
        _taken.threads = 0


@functools.cache
def _openmp() -> ctypes.PyDLL | None:
    """Return the OpenMP that torch has loaded, or None. torch.set_num_threads would change other threads, too."""
    try:
        everything = ctypes.PyDLL(None)
        if everything.omp_get_max_threads() != torch.get_num_threads():
            return None
    except (OSError, AttributeError):
        return None
    return everything


@functools.cache
def _program() -> ctypes.PyDLL | None:
    """Return the compiled program, or None."""
    off = os.environ.get("HARMONIA_COMPILED_PRODUCTS", "").lower() in ("off", "0", "no")
    if off or sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="harmonia-") as folder:
        compiled = Path(folder) / "products.so"
        command = [compiler, *FLAGS, "-o", str(compiled), str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
            # Python's lock is kept: a product takes under a millisecond, and getting the lock back may take five.
            program = ctypes.PyDLL(str(compiled))
            multiply, attend = program.multiply, program.attend
        except (OSError, subprocess.SubprocessError, AttributeError):  # OSError also where /tmp allows no programs
            return None
    multiply.argtypes = [ctypes.c_int, *(ctypes.c_void_p,) * 3, *(ctypes.c_long,) * 4]
    attend.argtypes = [ctypes.c_int, *(ctypes.c_void_p,) * 3, *(ctypes.c_long,) * 6]
    multiply.restype = attend.restype = None
    return program
