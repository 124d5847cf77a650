"""The connection between a worker and its lab: order, acknowledgements, cuts, claims, and who may connect."""

import contextlib
import random
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from harmonia_lab._version import __version__
from harmonia_lab.backends.cluster.frames import pack
from harmonia_lab.backends.cluster.line import WorkerLine
from harmonia_lab.backends.cluster.listener import Listener
from harmonia_lab.backends.cluster.task import ClusterTask, WorkerLost
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled
from tests.backends.test_remote_cuts import ProxyThread
from tests.waiting import PATIENCE_S, until


class Threads:
    """Stands in for the cluster: a task is a thread of this process, with a line of its own to a real port."""

    slots, connected, without_slots, silent = 1, True, "there is no place", frozenset()
    scheduler = "the first"

    def __init__(self, run, address=None):
        self.listener, self._run, self._address = Listener("127.0.0.1", None), run, address
        self.names, self.lines = [], []

    def workers(self, *, now=False):
        return {"here": {}}

    def see_end(self, task, worker, within_s):
        pass

    def submit(self, name, avoid=()):
        self.names.append(name)
        self.start(name)
        return SimpleNamespace(status="pending", cancel=lambda: None, release=lambda: None)

    def start(self, name, version=__version__):
        claim = {"worker": "w", "host": "h", "address": "here", "version": version}
        hello = {"name": name, "secret": self.listener.secret, "claim": claim}
        cancels, pieces = [], {}
        line = WorkerLine(
            self._address or self.listener.address,
            None,
            hello,
            on_piece=lambda name, at, data: pieces.__setitem__(name, pieces[name] + data if at else data),
            on_cancel=cancels.append,
        )
        line.cancels, line.pieces = cancels, pieces
        self.lines.append(line)
        threading.Thread(target=self._run, args=(line,), daemon=True).start()

    def close(self):
        for line in self.lines:
            line.close()
        self.listener.close()


@pytest.fixture
def threads():
    with contextlib.ExitStack() as closing:

        def make(run, address=None):
            cluster = Threads(run, address)
            closing.callback(cluster.close)
            return cluster

        yield make


def taken(cluster, files=(), cancel=None, on=lambda head: None):
    """All that a task's worker says, up to its end."""
    got = []
    with ClusterTask(cluster, 5.0) as task:
        for head, body in task.messages(lambda _: ({"song": 1}, list(files)), cancel or CancelToken()):
            on(head)
            got.append((head, body))
            if "end" in head:
                return got
    return None


def sends(count, pause_s=0.0):
    def run(line):
        if line.claim() is None:
            return
        for number in range(count):
            line.send({"event": "life", "number": number}, bytes([number % 256]) * 1000)
            line.send({"event": "progress", "number": number}, kind="progress")
            time.sleep(pause_s)
        line.send({"end": "completed"})
        line.finish()

    return run


def numbers(got, event):
    return [head["number"] for head, _ in got if head.get("event") == event]


def test_all_arrives_in_order_with_the_files_that_a_worker_needs(threads, tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_bytes(bytes(3_000_000))
    cluster = threads(sends(200))
    files = [("a/short", b"words"), ("empty", tmp_path / "empty"), ("long", tmp_path / "long")]
    got = taken(cluster, files)
    assert numbers(got, "life") == list(range(200))
    shown = numbers(got, "progress")
    assert shown == sorted(set(shown))
    assert shown[-1] == 199  # the latest
    assert cluster.lines[0].pieces == {"a/short": b"words", "empty": b"", "long": bytes(3_000_000)}
    until(lambda: cluster.lines[0].finish() is not None)


def test_a_line_that_is_cut_again_and_again_loses_nothing_and_doubles_nothing(threads, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.cluster.line.AGAIN_S", 0.01)
    cluster = threads(sends(300, 0.003))
    server = SimpleNamespace(url=f"http://127.0.0.1:{cluster.listener.address[1]}")
    with ProxyThread(server) as proxy:
        cluster._address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        moments, over = random.Random(1), threading.Event()

        def cut():
            while not over.wait(moments.random() * 0.08):
                proxy.cut()

        cutting = threading.Thread(target=cut)
        cutting.start()
        got = taken(cluster)
        over.set()
        cutting.join()
        assert numbers(got, "life") == list(range(300))
        assert proxy.made > 5


def test_a_cut_before_the_song_has_come_gives_it_again_from_the_start(threads, tmp_path):
    (tmp_path / "long").write_bytes(bytes(3_000_000))
    cluster = threads(sends(3))
    times, got = [], []

    class Files(list):
        def __iter__(self):
            for file in super().__iter__():
                yield file
                if len(times) == 2:
                    task._connection.close()  # some of the files are there

    def grant(_worker):
        times.append(1)
        if len(times) == 1:
            task._connection.close()
        return {"song": 1}, Files([("long", tmp_path / "long"), ("short", b"words")])

    with ClusterTask(cluster, 5.0) as task:
        for head, _ in task.messages(grant, CancelToken()):
            got.append(head)
            if "end" in head:
                break
    assert len(times) == 3
    assert [head.get("number") for head in got if head.get("event") == "life"] == [0, 1, 2]
    assert cluster.lines[0].pieces == {"long": bytes(3_000_000), "short": b"words"}


def test_a_cancel_is_heard_on_the_line_and_before_a_claim_ends_the_wait(threads):
    def run(line):
        line.claim()
        line.send({"event": "life", "number": 0})
        until(lambda: line.cancels)
        line.send({"end": "cancelled"})
        line.finish()

    cancel = CancelToken()
    cluster = threads(run)
    with ClusterTask(cluster, 5.0) as task, cancel.on_cancel(lambda: task.cancel(cancel.reason)):
        for head, _ in task.messages(lambda _: ({}, []), cancel):
            cancel.cancel()
            if "end" in head:
                break
    assert cluster.lines[0].cancels[0] == "user_cancelled"
    waiting = CancelToken()
    nobody = threads(lambda line: None)
    nobody.start = lambda name: threading.Timer(0.1, waiting.cancel).start()
    with pytest.raises(Cancelled):
        taken(nobody, cancel=waiting)


def test_a_second_claim_waits_for_the_first_one_and_ends_its_task_when_that_is_gone(threads):
    first = threading.Event()

    def run(line):
        if line.claim() is not None:
            line.send({"event": "life", "number": 0})
            first.set()

    cluster = threads(run)

    def twice():
        first.wait(PATIENCE_S)
        cluster.start(cluster.names[0])
        time.sleep(0.3)  # it is told to wait meanwhile
        assert not cluster.lines[1]._answered
        cluster.lines[0].close()

    helper = threading.Thread(target=twice)
    helper.start()
    with pytest.raises(WorkerLost) as lost:
        taken(cluster)
    helper.join()
    assert lost.value.died
    until(lambda: cluster.lines[1]._over)  # nothing is left to make
    cluster.start(cluster.names[0])  # nor for one that comes later
    until(lambda: cluster.lines[2]._over)


def test_a_task_that_a_dead_scheduler_had_is_given_to_the_one_in_its_place(threads):
    def run(line):
        line.claim()
        line.send({"end": "done"})
        line.finish()

    cluster = threads(run)
    start = cluster.start
    cluster.start = lambda name: start(name) if len(cluster.names) > 1 else None  # the first one's task is lost
    with ClusterTask(cluster, 60) as task:
        messages = task.messages(lambda _: ({}, ()), CancelToken())
        found = []
        reader = threading.Thread(target=lambda: found.append(next(messages)))
        reader.start()
        until(lambda: cluster.names, "the first task")
        cluster.scheduler = "the second"
        reader.join(PATIENCE_S)
    assert len(cluster.names) == 2
    assert found[0][0]["end"] == "done"


def test_a_worker_of_another_version_makes_nothing(threads):
    cluster = threads(lambda line: line.claim())
    start = cluster.start
    cluster.start = lambda name: start(name, "0.0.9")
    with pytest.raises(AudioError, match=r"has Harmonia Lab 0.0.9"):
        taken(cluster)


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        pack({"name": "x", "secret": "0" * 64, "claim": {}}),
        pack({"name": "x", "secret": ["é"], "claim": {}}),
        pack({"name": "x"}, bytes(200_000)),
        pack({}),
    ],
    ids=["http", "noise", "another secret", "no text", "long", "none"],
)
def test_who_does_not_know_the_secret_is_cut_off_and_hears_nothing(threads, first):
    cluster = threads(lambda line: None)
    inbox = cluster.listener.open("x")
    with socket.create_connection(cluster.listener.address, 5) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(first)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
    assert inbox.empty()
