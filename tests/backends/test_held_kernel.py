"""What it is for: a kernel that is held in one C call, which never lets another thread run, while clients go on."""

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from harmonia_lab.testing import SONG_METADATA
from tests.backends.conftest import LIFECYCLE, SONG, isolated, new_lab

CLIENT = """
import json, sys, time
from harmonia_lab import BlockingClient, SongMetadata
url, token, metadata = sys.argv[1:4]
song = {"metadata": SongMetadata.model_validate_json(metadata), "seconds": 1}
def lifecycle(events):
    return [[event.name, event.seq] for event in events if event.delivery == "lifecycle"]
with BlockingClient(url, ack_timeout_s=60) as client:
    client.connect(token)
    print("connected", flush=True)
    sys.stdin.readline()
    made = lifecycle(client.events(client.start("", generation_id="held", **song).generation_id))
    joined = []
    for _ in range(5):
        with BlockingClient(url, ack_timeout_s=60) as late:
            late.connect(token)
            ack = late.join("held")
            joined.append([ack.replayed, ack.snapshot.status, lifecycle(late.events("held"))])
print(json.dumps({"made": made, "joined": joined}), flush=True)
"""
MADE = [["audio-generation-started", 1], ["audio-generation-complete", 2]]
HEARD = {"made": MADE, "joined": [[2, "completed", MADE]] * 5}


class PollFd(ctypes.Structure):
    """struct pollfd of poll(2)."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


POLLIN = 1


def held_until_readable(pipe, timeout_ms):
    """One C call without letting go of the interpreter (`PyDLL` keeps its lock): 1 when `pipe` has something, or 0."""
    return ctypes.PyDLL(None).poll(ctypes.byref(PollFd(pipe.fileno(), POLLIN, 0)), 1, timeout_ms)


@pytest.mark.parametrize(("apart", "timeout_ms"), [(True, 200_000), (False, 1_000)])
def test_clients_are_acked_served_and_replayed_to_while_the_kernel_is_held_if_it_is_isolated(
    tmp_path, apart, timeout_ms
):
    with new_lab(tmp_path) as lab:
        server = lab.serve(isolated=apart, port=0)
        command = [sys.executable, "-c", CLIENT, server.url, server.token("ann"), SONG_METADATA.model_dump_json()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdout.readline() == b"connected\n"
            client.stdin.write(b"go\n")
            client.stdin.flush()
            assert held_until_readable(client.stdout, timeout_ms) == apart
            assert json.loads(client.stdout.readline()) == HEARD
        assert lab.compose(**SONG, progress=False).generation_id != "held"  # the kernel's own connection is well


def test_a_kernel_that_was_held_until_its_server_gave_it_up_comes_back_and_has_missed_nothing(tmp_path):
    heard = []
    with isolated(tmp_path, ping_interval_s=0.5, ping_timeout_s=0.5) as lab:
        lab.events.subscribe(heard.append)
        job = lab.submit(**SONG)
        silent, other = socket.socketpair()
        with silent, other:
            assert held_until_readable(silent, 2_000) == 0
        assert job.result(60).generation_id == job.id
        while lab.server.metrics().connections_opened < 2:
            assert lab.server.running
    lifecycle = [(event.name, event.seq) for event in heard if event.delivery == "lifecycle"]
    for of_jobs in (True, False):  # each family is caught up by itself
        assert [e for e in lifecycle if e[0].startswith("job:") == of_jobs] == [
            e for e in LIFECYCLE if e[0].startswith("job:") == of_jobs
        ]


SERVE = """
import pathlib
from tests.backends.conftest import SONG, new_lab
from tests.backends.test_held_kernel import held_until_readable
lab = new_lab(pathlib.Path({folder!r}))
server = lab.serve(isolated=True, port=0)
print(server.url, server.token("ann"), server._child.pid)
"""
HOLD = """
with open({fifo!r}, "rb") as fifo:
    print(held_until_readable(fifo, 200_000))
song = await lab.submit(**SONG)
print(song.metadata.title)
"""
STOP = "lab.close(); print(server.running)"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_serves_on_while_its_cell_holds_the_kernel(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cells = [SERVE.format(folder=str(tmp_path)), HOLD.format(fifo=str(fifo)), STOP]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = NotebookClient(
        notebook, startup_timeout=200, timeout=240, resources={"metadata": {"path": str(Path(__file__).parents[2])}}
    )

    def printed(index):
        return "".join(output["text"] for output in notebook.cells[index].outputs if output.get("name") == "stdout")

    async def main():
        async with kernel.async_setup_kernel(env=dict(os.environ)):
            await kernel.async_execute_cell(notebook.cells[0], 0)
            url, token, _ = printed(0).split()
            holding = asyncio.create_task(kernel.async_execute_cell(notebook.cells[1], 1))
            with await asyncio.to_thread(fifo.open, "wb") as release:  # opens when the cell does
                command = [sys.executable, "-c", CLIENT, url, token, SONG_METADATA.model_dump_json()]
                client = await asyncio.to_thread(
                    subprocess.run, command, input=b"go\n", capture_output=True, timeout=200, check=True
                )
                assert not holding.done()
                release.write(b"!")
            await holding
            await kernel.async_execute_cell(notebook.cells[2], 2)
        return client.stdout.splitlines()

    heard = asyncio.run(main())
    assert json.loads(heard[-1]) == HEARD
    assert printed(1).split("\n")[:2] == ["1", SONG_METADATA.title]
    assert printed(2).strip() == "False"
