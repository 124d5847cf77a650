"""Workers, schedulers and labs that go in the middle of a song."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.cluster.dask_processes import dask_processes
from harmonia_lab.errors import AudioError, Disconnected, ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.generation.generation import TimeLimits
from tests.backends.cluster.conftest import SONG
from tests.waiting import PATIENCE_S, until


def pid_of(noted):
    """The process of the last rendering that has begun."""
    return int(noted("begun")[-1][1])


@pytest.mark.parametrize("home_by", ["folder", pytest.param("connection", marks=pytest.mark.stress)])
def test_a_killed_workers_song_is_made_elsewhere_with_what_was_finished(new_lab, noted, tmp_path, monkeypatch, home_by):
    if home_by == "connection":
        elsewhere = dict.fromkeys(("probe", "content", "archive", "finished"), "/nowhere/else")
        monkeypatch.setattr("harmonia_lab.backends.cluster.generation.ClusterGeneration._probe", lambda self: elsewhere)
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
def test_a_local_worker_comes_back_however_soon_dask_gives_it_up(new_lab, noted):
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):
        lab = new_lab(cluster="local:1", audio_settings={"step_s": 0.5}, limits=TimeLimits(no_worker_s=60.0))
        for death in range(2):
            job = lab.submit(**SONG | {"seed": death})
            until(lambda count=2 * death + 1: len(noted("begun")) == count)
            os.kill(pid_of(noted), signal.SIGKILL)
            assert job.result(PATIENCE_S)
    assert len({line[1] for line in noted("begun")}) == 3


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


@pytest.mark.stress
def test_a_worker_that_stays_paused_holds_up_nobody_elses_songs(new_lab, noted, monkeypatch):
    """Dask takes it for idle, once the lab has given its song up, and would give it songs for five minutes."""
    monkeypatch.setattr("harmonia_lab.backends.cluster.task.SILENCE_S", 5.0)
    monkeypatch.setattr("harmonia_lab.backends.cluster.cluster.SILENCE_S", 5.0)
    lab = new_lab(audio_settings={"step_s": 1.0})
    first = lab.submit(**SONG)
    until(lambda: noted("begun"))
    paused = pid_of(noted)
    os.kill(paused, signal.SIGSTOP)
    try:
        others = [lab.submit(**SONG | {"seed": seed}) for seed in range(6)]
        assert all(job.result(PATIENCE_S) for job in [first, *others])
        assert len(lab.cluster.silent) == 1
        assert lab.songs_at_once == 1
    finally:
        os.kill(paused, signal.SIGCONT)
    assert {int(line[1]) for line in noted("begun")[1:]}.isdisjoint({paused})
    until(lambda: not lab.cluster.silent)
    both = [lab.submit(**SONG | {"seed": seed}) for seed in range(4)]  # it takes songs again
    assert all(job.result(PATIENCE_S) for job in both)
    assert paused in {int(line[1]) for line in noted("begun")[-4:]}


@pytest.mark.stress
@pytest.mark.parametrize("why", ["cancelled", "too long"])
def test_an_engine_that_does_not_stop_ends_with_its_process_and_the_next_song_is_made(new_lab, noted, why):
    limits = TimeLimits(audio_s=3600.0 if why == "cancelled" else 1.0, unheard_s=2.0)
    lab = new_lab(cluster="local:1", audio_settings={"deaf_s": 3600.0}, limits=limits)
    job = lab.submit(**SONG)
    until(lambda: noted("begun"))
    if why == "cancelled":
        job.cancel()
    with pytest.raises(HarmoniaError) as raised:
        job.result(PATIENCE_S)
    assert raised.value.code == (ErrorCode.CANCELLED if why == "cancelled" else ErrorCode.AUDIO_TIMEOUT)
    assert sum(event.ends for event in job.events) == 1
    stuck = pid_of(noted)
    quick = new_lab("quick", cluster=lab.cluster.client, limits=TimeLimits(no_worker_s=60.0))
    assert quick.submit(**SONG).result(PATIENCE_S)
    assert pid_of(noted) != stuck


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


@pytest.mark.parametrize(
    ("greeting", "said"), [(b"", "not said within 0.5 s that it is"), (b"+PONG\r\n" * 9, "is no Dask scheduler")]
)
def test_a_port_that_is_no_schedulers_holds_up_nobody(new_lab, monkeypatch, greeting, said):
    monkeypatch.setattr("harmonia_lab.backends.cluster.cluster.CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet():
            with contextlib.suppress(OSError):  # the test has ended
                while True:
                    connections.append(other.accept()[0])
                    connections[-1].sendall(greeting)

        connections = []
        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(Disconnected, match=said):
            new_lab(cluster=f"tcp://127.0.0.1:{other.getsockname()[1]}")
    for connection in connections:
        connection.close()


@pytest.mark.stress
def test_a_scheduler_that_dies_ends_its_songs_as_interrupted_and_the_lab_connects_again(new_lab, tmp_path, tones):
    with dask_processes(tmp_path) as dask:
        lab = new_lab(cluster=dask.address, audio_settings={"step_s": 300.0}, limits=TimeLimits(no_worker_s=60.0))
        job = lab.submit(**SONG)
        until(lambda: job.progress is not None)
        dask.kill_scheduler()
        began = time.monotonic()
        with pytest.raises(HarmoniaError) as raised:
            job.result(PATIENCE_S)
        assert raised.value.code == ErrorCode.INTERRUPTED
        assert raised.value.recoverable
        assert time.monotonic() - began < 35  # a worker's own end comes after 30 s
        dask.scheduler()
        dask.worker()
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
    with dask_processes(tmp_path) as dask:
        child = subprocess.Popen(
            [sys.executable, str(tmp_path / "lab.py"), dask.address, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "begun\n"
        child.kill()
        child.wait()
        child.stdout.close()
        began = time.monotonic()
        lab = new_lab(".", cluster=dask.address)
        assert lab.journal.state("left").failure.error.code == "INTERRUPTED"
        other = lab.submit(**SONG)  # has its turn once the worker has given the song up
        assert other.result(PATIENCE_S)
        assert time.monotonic() - began < 60
        assert lab.retry("left").result(PATIENCE_S)
