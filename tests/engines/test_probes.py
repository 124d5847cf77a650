"""Readings of memory over time, bounded and honest about what is not there. NVML is a fake at the package's edge: these
tests need no GPU, and say nothing about a real one."""

import itertools
import sys
import time
import types

import pytest

from harmonia_lab.engines import gpu_memory, probes

GIB = 2**30


class FakeNvml(types.ModuleType):
    """The functions of nvidia-ml-py that are used, over devices given as {uuid: [bytes in use, reading by reading]}."""

    class NVMLError(Exception):
        pass

    def __init__(self, devices=None, *, error=None):
        super().__init__("pynvml")
        self.devices = {uuid: list(used) for uuid, used in (devices or {}).items()}
        self.error = error
        self.starts = 0

    def nvmlInit(self):  # noqa: N802 - the library's name, as below
        if self.error:
            raise self.NVMLError(self.error)
        self.starts += 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return list(self.devices)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid not in self.devices:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return f"Device {handle}"

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return "575.1"

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        used = self.devices[handle]
        value = used.pop(0) if len(used) > 1 else used[0]
        if value is None:
            raise self.NVMLError("GPU is lost")
        return types.SimpleNamespace(used=value)


@pytest.fixture
def install(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(probes, "SAMPLE_INTERVAL_S", 0.005)

    def put(module):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    return put


def test_the_whole_devices_use_is_sampled_over_time_and_its_peak_kept(install):
    install(FakeNvml({"GPU-a": [1 * GIB, 3 * GIB, 2 * GIB]}))
    with probes.measure_memory() as reading:
        while len(reading.samples) < 4:
            time.sleep(0.005)
    assert reading.gpu_used_peak == 3 * GIB
    assert [sample.gpu for sample in reading.samples][:3] == [1 * GIB, 3 * GIB, 2 * GIB]
    assert all(sample.rss > 0 for sample in reading.samples)
    assert reading.rss_peak == max(sample.rss for sample in reading.samples)
    seconds = [sample.second for sample in reading.samples]
    assert seconds == sorted(seconds)
    assert "NVML" not in (reading.gpu_reason or "")


def test_without_a_driver_the_host_is_measured_and_the_reason_said(install):
    install(FakeNvml(error="Driver Not Loaded"))
    with probes.measure_memory() as reading:
        pass
    assert reading.gpu_used_peak is None
    assert "NVML: Driver Not Loaded" in reading.gpu_reason
    assert reading.rss_peak > 0
    assert {sample.gpu for sample in reading.samples} == {None}


def test_without_the_package_or_a_device_the_reason_is_said(install):
    install(FakeNvml({}))
    assert gpu_memory.device() == "NVML finds no device"
    install(None)  # what an import of a package that is not installed meets
    assert gpu_memory.device() == "nvidia-ml-py is not installed"


def test_a_device_that_is_lost_on_the_way_ends_no_song(install):
    install(FakeNvml({"GPU-a": [5 * GIB, None]}))
    with probes.measure_memory() as reading:
        while len(reading.samples) < 3:
            time.sleep(0.005)
    assert reading.gpu_used_peak == 5 * GIB
    assert reading.samples[-1].gpu is None


@pytest.mark.parametrize(
    ("visible", "asked", "expected"),
    [
        (None, None, "GPU-a"),
        ("1", None, "GPU-b"),
        ("1,0", None, "GPU-b"),
        ("GPU-b,GPU-a", None, "GPU-b"),
        ("", None, "GPU-a"),
        ("0", "GPU-b", "GPU-b"),
        ("7", None, None),
        ("GPU-z", None, None),
    ],
)
def test_the_device_is_the_engines_or_the_first_that_is_visible(install, monkeypatch, visible, asked, expected):
    fake = install(FakeNvml({"GPU-a": [1], "GPU-b": [2]}))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = gpu_memory.device(asked)
    assert (None if isinstance(found, str) else found.uuid) == expected
    gpu_memory.device(asked)
    assert fake.starts == 1


def test_the_device_that_torch_uses_is_measured(install, monkeypatch):
    install(FakeNvml({"GPU-a": [1 * GIB], "GPU-b": [2 * GIB]}))
    torch = types.ModuleType("torch")
    torch.__spec__ = types.SimpleNamespace(_initializing=False)
    torch.__version__ = "2.13.0"
    torch.cuda = types.SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        current_device=lambda: 1,
        get_device_properties=lambda index: types.SimpleNamespace(uuid="ab"[index]),
        reset_peak_memory_stats=lambda: None,
        synchronize=lambda: None,
        max_memory_allocated=lambda: 10,
        max_memory_reserved=lambda: 20,
    )
    torch.backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", torch)
    with probes.measure_memory() as reading:
        pass
    assert (reading.gpu_allocated_peak, reading.gpu_reserved_peak, reading.gpu_used_peak) == (10, 20, 2 * GIB)
    assert reading.gpu_reason is None
    assert probes.gpu_facts() == {"gpu": "Device GPU-b", "gpu_driver": "575.1", "torch": "2.13.0"}


def test_samples_are_bounded_and_still_span_the_whole_block():
    reading = probes.MemoryReading()
    for index in range(10 * probes.MAX_SAMPLES):
        reading.take(index, None)
    kept = [sample.rss for sample in reading.samples]
    assert len(kept) <= probes.MAX_SAMPLES
    assert (kept[0], reading.rss_peak) == (0, 10 * probes.MAX_SAMPLES - 1)
    assert kept[-1] > 9 * probes.MAX_SAMPLES
    steps = {later - earlier for earlier, later in itertools.pairwise(kept)}
    assert len(steps) == 1


def test_memory_that_the_block_takes_is_seen(install):
    install(FakeNvml({}))
    with probes.measure_memory() as reading:
        taken = bytearray(b"x") * (200 * 2**20)
        while len(reading.samples) < 5:
            time.sleep(0.005)
    assert len(taken)
    assert reading.rss_peak - reading.samples[0].rss > 150 * 2**20


def test_a_caller_that_changes_what_it_was_told_of_the_machine_changes_it_for_nobody_else():
    told = probes.host()
    told.clear()
    assert probes.host()["host"]
