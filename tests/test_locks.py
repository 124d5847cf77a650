"""Locks with real processes: one at a time, freed by every death, and never taken by what a process leaves behind."""

import json
import os
import signal
import subprocess
import sys

import pytest

from harmonia_lab import locks, storage
from harmonia_lab.errors import StorageError
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.run_log import RunLog

HOLD = """
import sys; from pathlib import Path; from harmonia_lab import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True); sys.stdin.read()
"""

APPEND = """
import sys; from pathlib import Path; from harmonia_lab.store.run_log import RunLog
for number in range(25):
    RunLog(Path(sys.argv[1])).append({"run_id": f"{sys.argv[2]}-{number}", "git_commit": "x" * 3000})
"""

LIVE_AND_FORK = """
import os, sys, time; from pathlib import Path; from harmonia_lab.store.process_liveness import LivenessLock
lock = LivenessLock(Path(sys.argv[1]))
if os.fork() == 0:
    print(lock.name, flush=True); sys.stdin.read(); os._exit(0)
time.sleep(600)
"""


def start(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")


def end(process):
    process.stdin.close()
    process.stdout.close()
    process.wait()


@pytest.mark.parametrize("death", ["kill -9", "its end"])
def test_a_lock_is_held_by_one_and_freed_however_its_process_ends(tmp_path, death):
    holder = start(HOLD, tmp_path / "lock")
    assert holder.stdout.readline() == "held\n"
    with locks.held(tmp_path / "lock", wait=False) as ours:
        assert not ours
    with (
        pytest.raises(StorageError, match="Somebody is at work"),
        storage.locked(tmp_path / "lock", "Somebody is at work"),
    ):
        pass
    if death == "kill -9":
        holder.kill()
        holder.wait()
    end(holder)
    with locks.held(tmp_path / "lock", wait=False) as ours:
        assert ours


def test_one_that_waits_gets_the_lock_when_it_is_free(tmp_path):
    with locks.held(tmp_path / "lock"):
        waiting = start(HOLD, tmp_path / "lock")
    assert waiting.stdout.readline() == "held\n"
    end(waiting)


def test_rows_that_several_processes_append_at_once_are_all_whole(tmp_path):
    writers = [start(APPEND, tmp_path / "runs.jsonl", number) for number in range(3)]
    for writer in writers:
        end(writer)
    rows = RunLog(tmp_path / "runs.jsonl").rows()
    assert sorted(row["run_id"] for row in rows) == sorted(f"{a}-{b}" for a in range(3) for b in range(25))
    assert all(json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines())


def test_a_fork_that_outlives_its_process_does_not_keep_it_alive(tmp_path):
    process = start(LIVE_AND_FORK, tmp_path / "processes")
    name = process.stdout.readline().strip()
    own = LivenessLock(tmp_path / "processes")
    with own.reap(name) as exited:
        assert exited is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with own.reap(name) as exited:  # the fork still waits for its standard input
        assert exited is not None
        assert exited.died
    own.close()
    end(process)
    assert list((tmp_path / "processes").iterdir()) == []


def test_a_folder_is_locked_by_one_process(tmp_path):
    (tmp_path / "song").mkdir()
    descriptor = locks.lock_folder(tmp_path / "song")
    assert descriptor >= 0
    assert locks.lock_folder(tmp_path / "song") == -1
    os.close(descriptor)
    again = locks.lock_folder(tmp_path / "song")
    assert again >= 0
    os.close(again)
    assert locks.lock_folder(tmp_path / "none") == -1


def test_on_windows_a_file_that_others_read_is_guarded_by_one_beside_it(tmp_path, monkeypatch):
    """Windows' locks keep others from reading; its files that are open can't be moved. Simulated by its name alone."""
    monkeypatch.setattr(locks.sys, "platform", "win32")
    monkeypatch.setattr(os, "O_TEMPORARY", 0, raising=False)
    log, folder = tmp_path / "runs.jsonl", tmp_path / ".song.partial-1"
    RunLog(log).append({"run_id": "1"})
    folder.mkdir()
    with locks.guarding(log), locks.held(tmp_path / ".runs.jsonl.lock", wait=False) as ours:
        assert not ours
    descriptor = locks.lock_folder(folder)
    assert locks.lock_folder(folder) == -1
    folder.rename(tmp_path / "song")
    os.close(descriptor)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        ".runs.jsonl.lock",
        ".song.partial-1.lock",
        "runs.jsonl",
        "song",
    ]
