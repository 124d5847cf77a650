"""A whole NVIDIA device as its driver reports it: name, driver version, and the memory that all processes hold.

Owns the only use of `pynvml` (the package nvidia-ml-py). torch reports this process's memory only; a language model in
Ollama's process is seen only here.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

__all__ = ["Device", "device"]


@dataclass(frozen=True)
class Device:
    """One GPU. name, driver: as NVML has them. uuid: as in `nvidia-smi -L`."""

    name: str
    driver: str
    uuid: str
    _nvml: Any
    _handle: Any

    def used_bytes(self) -> int | None:
        """Return the memory in use by all processes; None where the driver does not report it (any longer)."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._nvml.NVMLError:
            return None


def device(uuid: str | None = None) -> Device | str:
    """Return the GPU to measure, or a reason, for the log, why there is none.

    uuid: of the GPU that an engine uses, as in `nvidia-smi -L`. Without it, the first GPU of CUDA_VISIBLE_DEVICES, or
    of the machine.
    """
    try:
        import pynvml  # noqa: PLC0415 - only for measurements
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        _initialise(pynvml)
        handle = _handle(pynvml, uuid)
        if handle is None:
            return "NVML finds no device"
        name, driver = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlSystemGetDriverVersion()
        return Device(name, driver, pynvml.nvmlDeviceGetUUID(handle), pynvml, handle)
    except pynvml.NVMLError as error:
        return f"NVML: {error}"


@functools.cache
def _initialise(pynvml: Any) -> None:
    """Initialise NVML, once a process, and again if it raised NVMLError. Two threads may do it at once: NVML counts."""
    pynvml.nvmlInit()


def _handle(pynvml: Any, uuid: str | None) -> Any:
    first = uuid or (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(first)
    index = int(first) if first.isdigit() else 0
    return pynvml.nvmlDeviceGetHandleByIndex(index) if index < pynvml.nvmlDeviceGetCount() else None
