"""Run one part of the measurement in this process: `python -m benchmarks.gpu.part NAME OPTIONS`, started by `measure`.

Owns the process's settings (no model hub, no TF32), and the imports that happen before `measure` starts the part by a
line on standard input. Nothing before that line touches the GPU.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args(arguments)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch  # noqa: PLC0415 - after the environment is set

    from benchmarks.gpu.bench import Bench  # noqa: PLC0415

    part = importlib.import_module(f"benchmarks.gpu.parts.{options.name}")
    if options.name != "machine":  # this part reports missing packages itself
        _import_ahead()
    if not sys.stdin.readline():
        return 1  # `measure` has ended
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if options.rehearse:
        torch.set_num_threads(1)  # tiny matrices gain nothing from more threads, and lose if the cores are busy
    elif options.name != "machine" and not torch.cuda.is_available():
        print("torch sees no CUDA device; --rehearse runs on the CPU")
        return 3
    device = torch.device("cuda" if torch.cuda.is_available() and not options.rehearse else "cpu")
    with tempfile.TemporaryDirectory(prefix="harmonia-gpu-") as scratch:
        bench = Bench(options.name, device, options.rehearse, options.limit, options.out, Path(scratch))
        ended = part.run(bench)
    return int(ended or 0)


def _import_ahead() -> None:
    from harmonia_lab import lab  # noqa: F401, PLC0415
    from harmonia_lab.audio_engines.musicgen import decoder  # noqa: F401, PLC0415
    from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft  # noqa: PLC0415

    load_audiocraft()


if __name__ == "__main__":
    sys.exit(main())
