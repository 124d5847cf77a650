"""A server in a process of its own, seen from the kernel: the same face, the same songs, and nothing left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading

import psutil
import pytest

from harmonia_lab.backends import server_process as child
from harmonia_lab.errors import (
    Cancelled,
    Disconnected,
    ErrorCode,
    HarmoniaError,
    InvalidRequest,
    MetadataError,
    Refused,
)
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.run_log import RunLabels
from harmonia_lab.testing import FakeAudioEngine
from tests.backends.conftest import LIFECYCLE, LONG, SONG, isolated, new_lab
from tests.server.conftest import Ear
from tests.server.test_server_thread import make_certificate
from tests.waiting import PATIENCE_S, until


def until_begun(job):
    """Its song is in the middle of being made."""
    while not job.events:
        assert not job.wait(0.01)


def no_more_than(before):
    """Those of a queue end by themselves, a moment after their lab is closed."""
    until(lambda: not set(threading.enumerate()) - before, "the end of all threads")


def lifecycle(events):
    return [(event.name, event.seq) for event in events if event.delivery == "lifecycle"]


def test_a_song_is_the_same_made_here_or_there_and_so_is_all_that_is_heard_and_kept_of_it(lab, tmp_path):
    heard = []
    unsubscribe = lab.events.subscribe(heard.append)
    song = lab.compose(**SONG)
    unsubscribe()
    there = [event.model_dump(mode="json") for event in heard if event.delivery == "lifecycle"]
    assert lifecycle(heard) == LIFECYCLE
    assert lab.verify(song.directory).ok
    with new_lab(tmp_path) as own:
        heard.clear()
        own.events.subscribe(heard.append)
        twin = own.compose(**SONG, progress=False)
    here = [event.model_dump(mode="json") for event in heard if event.delivery == "lifecycle"]
    differs = {"generation_id", "song_id", "directory", "audio_path", "timings", "stems"}
    assert song.model_dump(exclude=differs) == twin.model_dump(exclude=differs)
    assert [(s.name, s.role, s.sample_rate) for s in song.stems] == [
        (s.name, s.role, s.sample_rate) for s in twin.stems
    ]
    assert song.timings.keys() == twin.timings.keys()
    assert lifecycle(heard) == LIFECYCLE
    assert [sorted(event) for event in there] == [sorted(event) for event in here]
    assert [event["audio_url"][:8] for event in there + here if "audio_url" in event] == ["file:///"] * 2
    assert lab.log.rows()[-1]["checksum"] == own.log.rows()[-1]["checksum"] == song.checksum
    assert lab.journal.state(song.generation_id).job.status == "completed"


def test_its_handle_is_a_job_handle_that_can_be_awaited(lab):
    async def main():
        job = lab.submit(**SONG, generation_id="awaited")
        assert isinstance(job, JobHandle)
        return job, await job

    job, song = asyncio.run(main())
    assert (job.id, job.status, job.done, job.result()) == ("awaited", "completed", True, song)
    assert lifecycle(job.events) == [("audio-generation-started", 1), ("audio-generation-complete", 2)]
    assert job.progress.overall_progress == 100
    assert len({event.status for event in job.milestones}) == len(job.milestones)
    assert job.cancel() is False


def test_a_cell_that_runs_again_gets_the_same_server_and_another_wish_is_refused(lab):
    assert lab.serve(isolated=True, port=0) is lab.server
    for wish in ({"isolated": False}, {"isolated": True, "progress_interval_s": 1.0}):
        with pytest.raises(InvalidRequest, match="already"):
            lab.serve(port=0, **wish)
    assert lab.server.url in repr(lab.server)


def test_other_clients_hear_the_kernels_songs_and_the_kernel_only_its_own(lab):
    heard = []
    unsubscribe = lab.events.subscribe(heard.append)

    async def main():
        async with Ear(lab.server, "local") as local, Ear(lab.server, "ann") as ann:
            await local.ask("jobs:subscribe:user")
            await ann.ask("jobs:subscribe:user")
            story = SONG["metadata"].to_wire()
            ack = await ann.ask("start-generation", {"metadata": story, "seconds": 1, "generationId": "anns"})
            assert ack["ok"]
            await ann.until("job:completed")
            job = await asyncio.to_thread(lab.submit, **SONG)
            assert (await local.until("job:completed"))["job"]["id"] == job.id
            assert {job["id"] for job in (await ann.ask("jobs:subscribe:user"))["jobs"]} == {"anns"}
            # The owner of the process may end and repeat anybody's.
            with pytest.raises(Refused) as caught:
                lab.cancel("anns")
            assert caught.value.code is ErrorCode.CANCEL_FAILED
            return await asyncio.to_thread(job.result, PATIENCE_S)

    song = asyncio.run(main())
    unsubscribe()
    assert {event.generation_id for event in heard} == {song.generation_id}


def test_the_guides_metrics_come_from_there(lab):
    lab.compose(**SONG, progress=False)
    while (readings := lab.server.metrics()).connections != 1:  # the kernel's own; others may be about to go
        assert lab.server.running
    assert readings.generations["completed"] >= 1
    assert 0 < readings.average_latency_s < 60


def test_cancelling_works_by_handle_and_by_id_and_is_a_row_of_the_log(lab):
    first, second = lab.submit(**LONG), lab.submit(**LONG)
    assert second.cancel() is True
    assert second.wait(PATIENCE_S)
    until_begun(first)
    lab.cancel(first.id)
    lab.cancel(first.id)
    for job in (first, second):
        with pytest.raises(Cancelled):
            job.result(PATIENCE_S)
        assert (job.status, job.cancel()) == ("cancelled", False)
    assert {row["generation_id"]: row["status"] for row in lab.log.rows()}[first.id] == "cancelled"


def test_an_interrupt_while_waiting_cancels_the_song_and_gets_through(lab, monkeypatch):
    def interrupted(job, _stream):
        until_begun(job)
        raise KeyboardInterrupt

    monkeypatch.setattr("harmonia_lab.terminal.watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.compose(**LONG)
    until(lambda: lab.log.rows()[-1]["status"] == "cancelled", "its row")


def test_what_fails_there_fails_here_with_the_same_error_and_can_be_tried_again(lab):
    job = lab.submit("A lighthouse keeper's last night.", seconds=1)
    with pytest.raises(MetadataError) as caught:
        job.result(60)
    assert (caught.value.code, job.status) == (ErrorCode.OLLAMA_UNAVAILABLE, "failed")
    again = lab.retry(job.id)
    assert again.id == job.id
    with pytest.raises(MetadataError):
        again.result(60)
    assert min(event.seq for event in again.events) > max(event.seq for event in job.events)
    with pytest.raises(Refused):
        lab.retry("nobodys")


def test_a_listener_may_ask_for_the_next_song(lab):
    following, asked = [], threading.Event()

    def ask(event):
        if event.name == "job:completed" and not following:
            following.append(lab.submit(**SONG))
            asked.set()

    unsubscribe = lab.events.subscribe(ask)
    lab.compose(**SONG, progress=False)
    assert asked.wait(PATIENCE_S)
    assert following[0].result(PATIENCE_S).duration == pytest.approx(1, abs=0.1)
    unsubscribe()


def test_the_limits_on_clients_are_not_the_kernels(lab):
    jobs = [lab.submit(**LONG) for _ in range(QueueLimits().per_user + 3)]
    for job in reversed(jobs):
        job.cancel()
    for job in jobs:
        assert job.wait(PATIENCE_S)


@pytest.mark.parametrize(
    "option",
    [
        {"out": "here"},
        {"audio": "sketch"},
        {"audio": FakeAudioEngine()},
        {"user": "ann"},
        {"limits": QueueLimits()},
        {"labels": RunLabels("study")},
    ],
)
def test_what_the_wire_cannot_say_is_refused_and_named(lab, option):
    (name,) = option
    with pytest.raises(InvalidRequest, match=f"{name}=") as caught:
        lab.submit_request(SongRequest(**SONG), **option)
    assert "lab.server.stop()" in caught.value.hint


def test_an_id_that_is_in_use_is_refused(lab):
    job = lab.submit(**LONG, generation_id="once")
    with pytest.raises(InvalidRequest, match="in use"):
        lab.submit(**SONG, generation_id="once")
    with pytest.raises(Refused, match="being made"):
        lab.retry("once")
    job.cancel()
    assert job.wait(PATIENCE_S)
    with pytest.raises(InvalidRequest, match="in use"):
        lab.submit(**SONG, generation_id="once")


def test_an_engine_that_is_an_object_cannot_be_told(tmp_path):
    with new_lab(tmp_path, audio=FakeAudioEngine()) as lab:
        with pytest.raises(InvalidRequest, match="audio engine") as caught:
            lab.serve(isolated=True, port=0)
        assert "isolated=False" in caught.value.hint
        assert lab.serve(port=0).running


def test_a_taken_port_and_a_certificate_that_is_none_are_said_in_the_servers_own_words(tmp_path):
    before, threads = set(psutil.Process().children()), set(threading.enumerate())
    with new_lab(tmp_path) as lab:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidRequest, match="is taken") as caught:
            lab.serve(isolated=True, port=taken.getsockname()[1])
        assert "port=0" in caught.value.hint
        with pytest.raises(InvalidRequest, match="certificate"):
            lab.serve(isolated=True, port=0, certificate="x.pem", private_key="y.pem")
        assert lab.server is None
    assert not set(psutil.Process().children()) - before
    no_more_than(threads)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit('no such thing as a server')", "no such thing as a server"),
        ("import time; time.sleep(60)", "did not listen"),
        ("print('Hello!', flush=True); raise SystemExit('too early')", "too early"),
    ],
)
def test_a_process_that_comes_to_nothing_is_an_error_with_its_last_words_and_never_a_hang(
    tmp_path, monkeypatch, program, said
):
    before, threads = set(psutil.Process().children()), set(threading.enumerate())
    monkeypatch.setattr(child, "COMMAND", [sys.executable, "-c", program])
    if said == "did not listen":
        monkeypatch.setattr("harmonia_lab.backends.isolated_server.START_S", 1.0)
    with new_lab(tmp_path) as lab, pytest.raises(HarmoniaError, match=said):
        lab.serve(isolated=True, port=0)
    assert not set(psutil.Process().children()) - before
    no_more_than(threads)


def test_a_server_that_prints_a_lot_is_not_blocked_and_its_end_is_noticed(monkeypatch):
    program = """print('{"url": "here"}', flush=True); print('x' * 1_000_000, flush=True)"""
    monkeypatch.setattr(child, "COMMAND", [sys.executable, "-c", program])
    ended = threading.Event()
    server = child.Child({}, ended.set)
    assert server.introduction(PATIENCE_S) == {"url": "here"}
    assert ended.wait(PATIENCE_S)
    server.end(0.0)


def test_stopping_ends_the_process_frees_the_port_and_interrupts_what_it_was_making(tmp_path):
    threads = set(threading.enumerate())
    with isolated(tmp_path) as lab:
        server = lab.server
        job = lab.submit(**LONG)
        until_begun(job)
        process = psutil.Process(server._child.pid)
        made_by = process.children(recursive=True)
        server.stop()
        server.stop()
        with pytest.raises(HarmoniaError) as caught:
            job.result(PATIENCE_S)
        assert (caught.value.code, job.status) == (ErrorCode.INTERRUPTED, "failed")
        assert (server.running, repr(server)) == (False, "IsolatedServer(stopped)")
        assert not process.is_running()
        assert psutil.wait_procs(made_by, PATIENCE_S)[1] == []
        with pytest.raises(Disconnected):
            server.metrics()
        with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
            pass
        assert lab.compose(**SONG, progress=False).duration == pytest.approx(1, abs=0.1)  # in the kernel again
    no_more_than(threads)


def test_a_listener_may_stop_the_server(tmp_path):
    with isolated(tmp_path) as lab:
        armed = threading.Event()
        lab.events.subscribe(lambda event: armed.is_set() and lab.server.stop())
        job = lab.submit(**LONG)
        armed.set()
        with pytest.raises(HarmoniaError) as caught:
            job.result(60)
        assert caught.value.code is ErrorCode.INTERRUPTED
        assert not lab.server.running


def test_songs_that_were_begun_before_are_finished_where_they_are(tmp_path):
    with new_lab(tmp_path) as lab:
        here, there = lab.submit(**LONG), lab.submit(**SONG)
        until_begun(here)
        lab.serve(isolated=True, port=0)
        lab.cancel(here.id)
        with pytest.raises(Cancelled):
            here.result(PATIENCE_S)
        assert there.result(PATIENCE_S).generation_id == there.id
        assert lab.compose(**SONG, progress=False).checksum == there.result().checksum


def test_closing_the_lab_cancels_its_songs(tmp_path):
    with isolated(tmp_path) as lab:
        jobs = [lab.submit(**LONG) for _ in range(2)]
        until_begun(jobs[0])
    assert [job.done for job in jobs] == [True, True]
    assert not lab.server.running
    lab.close()


def test_a_killed_server_is_mourned_and_the_next_replays_and_tries_again(tmp_path):
    heard = []
    with isolated(tmp_path) as lab:
        lab.events.subscribe(heard.append)
        first = lab.server
        token = first.token("local")
        job, waiting = lab.submit(**SONG | {"seconds": 120}, generation_id="g"), lab.submit(**SONG)
        of_job = LIFECYCLE[:3]
        until(lambda: lifecycle(e for e in list(heard) if e.generation_id == "g") == of_job, "both families' beginning")
        os.kill(first._child.pid, signal.SIGKILL)
        for each in (job, waiting):
            with pytest.raises(HarmoniaError) as caught:
                each.result(PATIENCE_S)
            assert (caught.value.code, caught.value.recoverable) == (ErrorCode.INTERRUPTED, True)
            assert each.status == "failed"
        assert not first.running
        assert [(row["generation_id"], row["error_code"]) for row in lab.log.rows()] == [
            ("g", "INTERRUPTED"),
            (waiting.id, "INTERRUPTED"),
        ]
        assert lifecycle(event for event in heard if event.generation_id == "g") == [
            *of_job,
            ("generation-error", 2),
            ("job:failed", 3),
            ("job:status", 4),
        ]

        second = lab.serve(isolated=True, port=0)
        assert second is not first

        async def replayed():
            async with Ear(second, token=token) as ear:
                ack = await ear.ask("join-generation", {"generationId": "g"})
                assert ack["snapshot"]["status"] == "failed"
                return ear.lifecycle()

        assert asyncio.run(replayed()) == [("audio-generation-started", 1), ("generation-error", 2)]
        song = lab.retry("g").result(600)
        assert song.generation_id == "g"
        assert lab.verify(song.directory).ok


PARENT = """
import pathlib, sys
from tests.backends.conftest import LONG, new_lab
lab = new_lab(pathlib.Path(sys.argv[1]))
server = lab.serve(isolated=True, port=0)
job = lab.submit(**LONG)
while not job.events:
    job.wait(0.01)
print(server._child.pid, flush=True)
job.wait()
"""


def test_a_killed_kernel_takes_its_server_with_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        family = [process, *process.children(recursive=True)]
        parent.kill()
    assert psutil.wait_procs(family, PATIENCE_S)[1] == []
    with new_lab(tmp_path) as lab:
        assert [job.status for job in lab.journal.jobs()] == ["failed"]


def test_it_speaks_tls_where_a_certificate_is_given_and_the_kernel_trusts_that_alone(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    settings = {"certificate": certificate, "private_key": str(key), "host": "0.0.0.0", "path": "io"}
    with isolated(tmp_path, public_url="https://songs.example", **settings) as lab:
        assert lab.server.url == "https://songs.example"
        assert lab.compose(**SONG, progress=False).duration == pytest.approx(1, abs=0.1)
        assert lab.server.metrics().connections == 1


def test_the_kernel_is_let_in_also_where_tokens_come_from_elsewhere(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = tmp_path / "public.pem"
    pem.write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with isolated(tmp_path, public_keys=pem) as lab:
        assert lab.compose(**SONG, progress=False).duration == pytest.approx(1, abs=0.1)
        with pytest.raises(InvalidRequest, match="another service issues"):
            lab.server.token("ann")
