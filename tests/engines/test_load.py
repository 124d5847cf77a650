"""Load by other programs, from the kernel's counters; where it doesn't count, nothing is claimed."""

import time

import pytest

from harmonia_lab.engines import load
from harmonia_lab.engines.load import read_load
from harmonia_lab.store.run_log import COLUMNS

NAMES = {"load_1m", "others_cpu_share", "cpu_steal_s", "cpu_pressure_share"}


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A function that sets the counters: clock ticks of a hundredth of a second, microseconds of pressure."""
    monkeypatch.setattr(load, "PROC", str(tmp_path))
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(load.os, "getloadavg", lambda: (1.234, 0, 0))
    (tmp_path / "pressure").mkdir()
    now = [0.0]
    monkeypatch.setattr(load.time, "perf_counter", lambda: now[0])

    def put(second, *, stat, some_us):
        now[0] = second
        (tmp_path / "stat").write_text(f"cpu  {stat}\ncpu0 {stat}\n")
        (tmp_path / "pressure" / "cpu").write_text(
            f"some avg10=0.00 avg60=0.00 avg300=0.00 total={some_us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
        )
        return read_load()

    return put


def test_the_share_of_others_is_what_is_busy_beyond_our_own_time(kernel):
    before = kernel(10.0, stat="1000 0 500 8000 100 0 0 50 0 0", some_us=1_000_000)
    # Ten seconds on two cores: 6 s user, 1 s system, 12 s idle, 1 s stolen; 2.5 s of pressure.
    after = kernel(20.0, stat="1600 0 600 9200 100 0 0 150 0 0", some_us=3_500_000)
    assert after.columns(before, own_cpu_s=3.0) == {
        "load_1m": 1.23,
        "others_cpu_share": 0.2,
        "cpu_steal_s": 1.0,
        "cpu_pressure_share": 0.25,
    }


def test_more_time_of_our_own_than_the_kernel_has_counted_is_no_negative_share(kernel):
    before = kernel(0.0, stat="0 0 0 0 0 0 0 0", some_us=0)
    after = kernel(1.0, stat="10 0 0 190 0 0 0 0", some_us=2_000_000)
    found = after.columns(before, own_cpu_s=0.15)
    assert (found["others_cpu_share"], found["cpu_pressure_share"]) == (0.0, 1.0)


@pytest.mark.parametrize("text", [None, "", "cpu\n", "cpu  1 2 3\n", "some nonsense\n"])
def test_what_the_kernel_does_not_tell_is_missing(tmp_path, monkeypatch, text):
    monkeypatch.setattr(load, "PROC", str(tmp_path))
    if text is not None:
        (tmp_path / "pressure").mkdir()
        for name in ("stat", "pressure/cpu"):
            (tmp_path / name).write_text(text)
    before = read_load()
    assert read_load().columns(before, 0.0).keys() == {"load_1m"}


def test_this_machine_tells_what_it_tells():
    before = read_load()
    end = time.process_time() + 0.03
    while time.process_time() < end:
        pass
    found = read_load().columns(before, 0.03)
    assert found.keys() <= NAMES
    assert all(value is None or value >= 0 for value in found.values())
    assert COLUMNS.keys() >= NAMES
