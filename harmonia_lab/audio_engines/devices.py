"""Devices that torch runs on, by the names that people give them, without loading torch. Owns these names."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from pathlib import Path

from harmonia_lab.errors import InvalidRequest

__all__ = ["check_device", "may_use_gpu"]


def check_device(name: str, *, metal: bool = False) -> None:
    """Raise InvalidRequest for a text that is no device's name. Whether there is such a device, only torch knows.

    metal: whether the engine runs on Apple's GPUs.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d\d?)?" + "|mps" * metal, str(name)):
        raise InvalidRequest(
            f"There is no device {str(name)[:40]!r}.",
            hint=f"Choose auto, cpu, {'mps (Metal), ' * metal}cuda or cuda:N.",
            details={"fields": ["device"]},
        )


def may_use_gpu(device: str, *, metal: bool = False) -> bool:
    """Return whether a model on this device needs a GPU's memory: where "auto" is asked for, if a driver is there.

    metal: as `check_device` has it. A Mac's GPU shares the machine's memory.
    """
    driver = Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
    apple = metal and sys.platform == "darwin" and platform.machine() == "arm64"
    return device.startswith("cuda") or device == "mps" or (device == "auto" and (driver or apple))
