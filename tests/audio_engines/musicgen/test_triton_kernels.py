"""The Triton kernels, as far as they can be checked without a GPU: interpreted, and compiled for GPUs.

Triton decides when its own modules are imported whether it interprets or compiles, so each way runs in a process of
its own, and no other test sees the variable that chooses.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install harmonia-lab[gpu-rehearsal], 188 MB")

HERE = Path(__file__).parent


def passes(module, tmp_path, **environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", HERE.parents[2]]
    cleared = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [*command, HERE / module],
        env=cleared | {"TRITON_CACHE_DIR": str(tmp_path)} | environment,
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_interpreted_kernels_do_what_the_torch_kernels_do(tmp_path):
    passes("interpreted_kernels.py", tmp_path, TRITON_INTERPRET="1")


def test_kernels_compile_for_gpus_without_spills_and_wait_before_they_touch_activations(tmp_path):
    passes("compiled_kernels.py", tmp_path)
