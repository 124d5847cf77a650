"""The second process of the memory part: prints the whole device's memory use 50 times a second, until its input ends.

Owns that output only, so that the process has no CUDA context. Each line: seconds of the monotonic clock, bytes.
"""

from __future__ import annotations

import sys
import threading
import time

from harmonia_lab.engines import gpu_memory

EVERY_S = 0.02


def main() -> int:
    device = gpu_memory.device()
    if isinstance(device, str):
        print(device, file=sys.stderr)
        return 1
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not ended.wait(EVERY_S):
        used = device.used_bytes()
        if used is not None:
            print(time.monotonic(), used, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
