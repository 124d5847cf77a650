"""Workers, schedulers and labs that go in the middle of a song."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from harmonia_lab.errors import AudioError, Disconnected, ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.generation.generation import TimeLimits
from tests.backends.cluster.conftest import SONG
from tests.waiting import PATIENCE_S, until


def pid_of(noted):
    """The process of the last rendering that has begun."""
    return int(noted("begun")[-1][1])


def test_a_killed_workers_song_is_made_elsewhere_with_what_was_finished(new_lab, noted, tmp_path):
    (tmp_path / "die").touch()
    lab = new_lab(audio_settings={"die": f"@{tmp_path / 'die'}"})
    heard = []
    lab.events.subscribe(heard.append)
    lab.events.subscribe(lambda event: event.name == "generation-error" and (tmp_path / "die").unlink())
    job = lab.submit(**SONG)
    song = job.result(PATIENCE_S)
    assert [event.name for event in job.events] == [
        "audio-generation-started",
        "generation-error",
        "audio-generation-started",
        "audio-generation-complete",
    ]
    told = job.events[1]
    assert (told.final, told.error.code, told.error.details["plan"]) == (False, "INTERRUPTED", "another-worker")
    assert [event.seq for event in job.events] == [1, 2, 3, 4]
    parts = [line[2] for line in noted("rendered")]
    assert len(parts) == len(set(parts)) == len(song.stems)  # none was rendered twice
    assert [line[2] for line in noted("begun")] == ["0", "1"]
    rows = lab.log.of_generation(job.id)
    assert [(row["attempt"], row["status"], row["recoveries"]) for row in rows] == [
        (1, "failed", None),
        (2, "completed", "another-worker"),
    ]
    assert rows[0]["error_code"] == "INTERRUPTED"
    assert lab.verify(song.directory).ok


@pytest.mark.stress
def test_a_song_that_takes_two_workers_down_is_quarantined(new_lab, noted, tmp_path):
    (tmp_path / "die").touch()
    lab = new_lab(audio_settings={"die": f"@{tmp_path / 'die'}"})
    job = lab.submit(**SONG)
    with pytest.raises(HarmoniaError) as raised:
        job.result(PATIENCE_S)
    assert raised.value.code == ErrorCode.QUARANTINED
    assert [event.name for event in job.events].count("generation-error") == 2
    assert job.events[-1].final
    assert len(noted("begun")) == 2
    with pytest.raises(Refused, match="quarantine"):
        lab.retry(job.id)
    (tmp_path / "die").unlink()
    song = lab.retry(job.id, lift_quarantine=True).result(PATIENCE_S)
    parts = [line[2] for line in noted("rendered")]
    assert len(parts) == len(set(parts)) == len(song.stems)


@pytest.mark.stress
def test_a_paused_worker_is_given_up_and_its_late_words_are_refused(new_lab, noted, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.cluster.task.SILENCE_S", 8.0)
    lab = new_lab(audio_settings={"step_s": 1.0})
    job = lab.submit(**SONG)
    until(lambda: job.progress is not None and noted("begun"))
    paused = pid_of(noted)
    os.kill(paused, signal.SIGSTOP)
    try:
        until(lambda: len(noted("begun")) == 2)
    finally:
        os.kill(paused, signal.SIGCONT)
    assert job.result(PATIENCE_S)
    assert [event.name for event in job.events].count("audio-generation-complete") == 1
    assert pid_of(noted) != paused


def test_without_a_worker_that_has_a_place_it_is_said_at_connect_and_the_song_ends(tones, tmp_path, new_lab, caplog):
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty:
        lab = new_lab("empty", cluster=empty, limits=TimeLimits(no_worker_s=0.5))
        assert "--resources song=1" in caplog.text
        job = lab.submit(**SONG)
        with pytest.raises(AudioError, match="--resources song=1") as raised:
            job.result(PATIENCE_S)
        assert raised.value.code == ErrorCode.AUDIO_UNAVAILABLE
        assert (job.events[-1].name, job.events[-1].final) == ("generation-error", True)
        cancelled = lab.submit(**SONG)
        cancelled.cancel()
        with pytest.raises(HarmoniaError):
            cancelled.result(PATIENCE_S)
        assert "--resources song=1" in str(lab.cluster)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://10.1.2.3:8786", "not encrypted"),
        ("gpu.example:8786", "not encrypted"),
        ("inproc://1/2/3", "in this process"),
        ("http://127.0.0.1:8786", "no address"),
        ("local:0", "no number of workers"),
        ("local:x", "no number of workers"),
        ("", "no address"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(new_lab, address, said):
    with pytest.raises(InvalidRequest, match=said):
        new_lab(cluster=address)


def test_a_scheduler_that_is_not_there_is_said(new_lab, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.cluster.cluster.CONNECT_S", 0.5)
    with pytest.raises(Disconnected, match="No Dask scheduler answers"):
        new_lab(cluster="tcp://127.0.0.1:9")


@contextlib.contextmanager
def processes(folder, workers=1):
    """A scheduler and workers as a person starts them; yields its address and its process."""
    env = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    port = _free_port()
    address = f"tcp://127.0.0.1:{port}"
    started = []

    def start(*arguments):
        with (folder / "dask.log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    cwd=folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        return started[-1]

    def scheduler():
        return start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")

    def worker():
        options = ["--host", "127.0.0.1", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        return start("distributed.cli.dask_worker", address, *options, "--resources", "song=1")

    try:
        first = scheduler()
        for _ in range(workers):
            worker()
        yield address, first, scheduler, worker
    finally:
        tree = [child for process in started for child in psutil.Process().children(recursive=True) if process]
        for process in started:
            process.terminate()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
        for child in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _free_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.stress
def test_a_scheduler_that_dies_ends_its_songs_as_interrupted_and_the_lab_connects_again(new_lab, tmp_path, tones):
    with processes(tmp_path) as (address, first, scheduler, worker):
        lab = new_lab(cluster=address, audio_settings={"step_s": 300.0}, limits=TimeLimits(no_worker_s=60.0))
        job = lab.submit(**SONG)
        until(lambda: job.progress is not None)
        first.kill()
        first.wait()
        began = time.monotonic()
        with pytest.raises(HarmoniaError) as raised:
            job.result(PATIENCE_S)
        assert raised.value.code == ErrorCode.INTERRUPTED
        assert raised.value.recoverable
        assert time.monotonic() - began < 35  # a worker's own end comes after 30 s
        scheduler()
        worker()
        again = lab.submit(**SONG, audio="sketch")
        assert again.result(PATIENCE_S)


LAB = """
import sys, time
from pathlib import Path
from harmonia_lab import Lab
from tests.backends.cluster.conftest import SONG
if __name__ == "__main__":
    address, folder = sys.argv[1:]
    lab = Lab(cluster=address, songs=Path(folder) / "songs", home=Path(folder) / "home", audio="tones",
              audio_settings={"step_s": 300.0, "log": f"@{folder}/log"})
    job = lab.submit(**SONG, generation_id="left")
    while job.progress is None:
        time.sleep(0.01)
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.mark.stress
def test_a_lab_that_dies_leaves_no_song_running_and_the_next_one_goes_on(new_lab, tmp_path, tones, noted):
    (tmp_path / "lab.py").write_text(LAB)
    with processes(tmp_path) as (address, _, _, _):
        child = subprocess.Popen(
            [sys.executable, str(tmp_path / "lab.py"), address, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "begun\n"
        child.kill()
        child.wait()
        child.stdout.close()
        began = time.monotonic()
        lab = new_lab(".", cluster=address)
        assert lab.journal.state("left").failure.error.code == "INTERRUPTED"
        other = lab.submit(**SONG)  # has its turn once the worker has given the song up
        assert other.result(PATIENCE_S)
        assert time.monotonic() - began < 60
        assert lab.retry("left").result(PATIENCE_S)
