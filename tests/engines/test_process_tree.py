"""The processes of a program and their memory, compared with what psutil reads from outside."""

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from harmonia_lab.engines import process_tree
from harmonia_lab.engines.process_tree import descendants, pss_bytes, rss_bytes

MIB = 2**20

PARENT = """
import os, subprocess, sys, threading
threads = [threading.Thread(target=lambda: subprocess.Popen([sys.executable, "-c", "input()"])) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("ready", flush=True)
input()
"""


@pytest.fixture
def parent():
    """A process whose threads have started two more."""
    command = [sys.executable, "-c", PARENT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


@pytest.mark.parametrize("proc", ["/proc", "/nowhere"])
def test_children_are_found_whichever_way_the_system_offers(parent, proc, monkeypatch):
    monkeypatch.setattr(process_tree, "PROC", proc)
    found = descendants(os.getpid())
    assert set(found) >= {parent.pid, *descendants(parent.pid)}
    assert sorted(descendants(parent.pid)) == sorted(p.pid for p in psutil.Process(parent.pid).children(recursive=True))
    assert len(descendants(parent.pid)) == 2


def test_memory_is_what_psutil_says(parent):
    tree = [parent.pid, *descendants(parent.pid)]
    known = [psutil.Process(pid).memory_full_info() for pid in tree]
    assert rss_bytes(tree) == pytest.approx(sum(info.rss for info in known), rel=0.05)
    assert pss_bytes(tree) == pytest.approx(sum(info.pss for info in known), rel=0.1)
    assert pss_bytes(tree) < rss_bytes(tree)


def test_a_process_that_has_ended_counts_for_nothing(parent):
    gone = parent.pid
    parent.stdin.close()
    parent.wait()
    assert (descendants(gone), rss_bytes([gone]), pss_bytes([gone])) == ([], 0, 0)


def test_without_the_kernels_word_there_is_no_pss(monkeypatch):
    monkeypatch.setattr(process_tree, "PROC", "/nowhere")
    assert pss_bytes([os.getpid()]) is None
    assert rss_bytes([os.getpid()]) > MIB


MEASURED = """
import mmap, os, signal, sys
from harmonia_lab.engines import probes
size = 64 * 2**20
with probes.measure_memory() as reading:
    shared = mmap.mmap(-1, size)  # of this process and its children
    shared.write(b"x" * size)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            sum(shared[page] for page in range(0, size, mmap.PAGESIZE))
            os.write(1, b"child\\n")
            signal.alarm(100)  # it ends also if nobody kills it
            signal.pause()
        children.append(child)
    print("parent", flush=True)
    sys.stdin.readline()
for child in children:
    os.kill(child, signal.SIGKILL)
print(reading.rss_peak, reading.pss_peak, reading.total_pss_peak, flush=True)
"""


def test_peaks_agree_with_those_of_a_sampler_outside():
    """Three processes share 64 MiB: summed RSS counts them three times, PSS once."""
    command = [sys.executable, "-c", MEASURED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        outside = psutil.Process(process.pid)
        infos = [p.memory_full_info() for p in [outside, *outside.children(recursive=True)]]
        print(file=process.stdin, flush=True)
        rss, pss, total = map(int, process.stdout.readline().split())
    assert len(infos) == 3
    assert rss == pytest.approx(sum(info.rss for info in infos), rel=0.05)
    assert pss == pytest.approx(sum(info.pss for info in infos), rel=0.05)
    assert total == pss
    assert rss - pss > 2 * 60 * MIB
    assert pss > 64 * MIB


def test_processes_of_the_other_stage_count_for_the_whole_alone(parent):
    from harmonia_lab.engines import probes

    with probes.measure_memory(lambda: [parent.pid]) as reading:
        pass
    apart = pss_bytes([parent.pid, *descendants(parent.pid)])
    assert reading.total_pss_peak - reading.pss_peak == pytest.approx(apart, rel=0.2)


def test_pss_is_read_no_oftener_than_its_cost_allows(monkeypatch):
    from harmonia_lab.engines import probes

    monkeypatch.setattr(probes, "SAMPLE_INTERVAL_S", 0.002)
    monkeypatch.setattr(probes, "PSS_INTERVAL_S", 0.01)
    at = []

    def costly(pids):
        if len(at) % 2 == 0:
            time.sleep(0.01)
        at.append((time.perf_counter(), threading.current_thread().name))
        return len(list(pids))

    monkeypatch.setattr(probes, "pss_bytes", costly)
    with probes.measure_memory():
        while len(at) < 4:
            time.sleep(0.01)
    sampled = [moment for moment, thread in at[::2] if thread == "harmonia-memory"]
    assert sampled[1] - sampled[0] >= 50 * 0.01
