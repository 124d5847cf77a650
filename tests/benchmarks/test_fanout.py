"""`make bench-fanout`, small: every server takes part, every delivery is checked, and the figures are all there."""

import json
import socket
import threading

import pytest

from benchmarks.server import fanout
from benchmarks.server.__main__ import main
from benchmarks.server.children import Child, python_child
from benchmarks.server.generation import FIRST_TICK, GENERATION
from benchmarks.server.subscribers import percentiles
from benchmarks.server.websocket import Frames, LightSocket
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.server.encoding import EncodedMessage
from tests.server.conftest import serving


@pytest.fixture
def little(monkeypatch):
    """Few deliveries, far apart: on a busy machine, too, one is over before the next."""
    monkeypatch.setattr(fanout, "DELIVERIES_PER_S", 25)
    monkeypatch.setattr(fanout, "WARM_UP", (25, 50))
    monkeypatch.setattr(fanout, "TURN_S", 0.6)
    monkeypatch.setattr(fanout, "ATTEMPTS", 20)


def test_all_servers_are_measured_and_nothing_is_lost(little, tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert main(["fanout", "--subscribers", "51", "--rounds", "1", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    rows = {row["server"]: row for row in figures["rows"]}
    assert set(rows) == {"ours", "javascript", "stock", "stock on uvloop", "stock, compressed", "floor"}
    for row in rows.values():
        assert (row["subscribers"], row["rounds"], row["missing"], row["disordered"]) == (51, 1, 0, 0)
        assert row["deliveries"] == 153
        for figure in ("cpu_us", "p50_ms", "p99_ms"):
            assert 0 < row[figure]["min"] <= row[figure]["median"] <= row[figure]["max"]
            assert set(row[f"{figure}_ratio"]) == {"javascript", "stock", "floor"} - {row["server"]}
    # The same bytes from each of them.
    assert len({tuple(row["payload_bytes"]) for row in rows.values()}) == 1
    assert figures["versions"]["socket.io"] == fanout.SOCKET_IO
    assert {"harmonia-lab", "python-socketio", "aiohttp", "node"} <= set(figures["versions"])
    assert figures["host"]["cores"]
    assert figures["compression"].startswith("off")
    table = capsys.readouterr().out
    for name in rows:
        assert f"\n{name} " in f"\n{table}"
    assert "918 deliveries checked, 0 missing, 0 out of order" in table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "--rounds 0 is out of range"),
        (["--subscribers", "0"], "--subscribers 0 is out of range"),
        (["--subscribers", "10,4001"], "--subscribers 4001 is out of range"),
        (["--json", "nowhere/figures.json"], "there is no folder"),
    ],
)
def test_what_cannot_be_measured_is_bad_usage(options, message, capsys):
    assert main(["fanout", *options]) == 2
    assert message in capsys.readouterr().err


class Careless:
    """Says to its only client what it is told to: doubles, gaps and all."""

    def __init__(self, *messages):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.messages, self.go = messages, threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x030{}")
        for answer in (b"\x81\x0440{}", b"\x81\x05430[]"):
            connection.recv(4096)
            connection.sendall(answer)
        self.go.wait(60)
        connection.sendall(b"".join(self.messages))
        connection.recv(4096)  # until it leaves
        connection.close()
        self.listener.close()


def event(tick):
    return EncodedMessage.event("audio-generation-progress", {"tick": tick, "status": "x @00000000000000000001"}).frames


@pytest.mark.parametrize(
    ("ticks", "missing", "disordered"),
    [((0, 1, 2), 0, 0), ((0, 2), 1, 0), ((0, 2, 1), 0, 1), ((0, 1, 1, 2), 0, 1), ((), 3, 0)],
)
def test_what_is_lost_doubled_or_out_of_order_is_seen(ticks, missing, disordered):
    server = Careless(*(event(FIRST_TICK + tick) for tick in ticks))
    with python_child("subscribers", "benchmarks.server.subscribers") as load:
        load.request(do="connect", url=server.url, token="", generation_id=GENERATION, count=1)
        load.request(do="measure")
        server.go.set()
        report = load.request(do="report", first=FIRST_TICK, count=3)
    assert (report["missing"], report["disordered"], report["deliveries"]) == (missing, disordered, len(ticks))


def test_a_turn_that_is_never_whole_is_an_error_not_a_figure():
    class Losing:
        name = "ours"

        def turn(self, _seconds):
            return {"missing": 3, "disordered": 0}

    with pytest.raises(HarmoniaError, match="3 deliveries are missing"):
        fanout.whole_turn(Losing(), 0.1)


def test_the_light_client_is_let_in_only_with_a_token_and_hears_what_others_hear(tmp_path):
    with serving(tmp_path) as server:
        light = LightSocket(server.url, server.token("ann"))
        assert light.receive_until(b'42["server-hello"')
        light.emit(7, "join-generation", "nobody-uses-it")
        assert b'"ok":true' in light.receive_until(b"437")[-1]
        light.close()
        with pytest.raises(HarmoniaError, match="refuses"):
            LightSocket(server.url, "junk")


def test_frames_are_cut_wherever_the_stream_is():
    texts = ["a", "b" * 125, "c" * 126, "d" * 70_000]
    stream = b"".join(EncodedMessage(text).frames for text in texts)
    for step in (1, 2, 3, 1000, len(stream)):
        frames, found = Frames(), []
        for at in range(0, len(stream), step):
            found += frames.feed(stream[at : at + step])
        assert found == [f"4{text}".encode() for text in texts]


def test_percentiles_are_values_that_occurred():
    assert percentiles([]) == {"p50": None, "p99": None, "max": None}
    assert percentiles([5.0]) == {"p50": 5.0, "p99": 5.0, "max": 5.0}
    assert percentiles([float(n) for n in range(200, 0, -1)]) == {"p50": 100.0, "p99": 198.0, "max": 200.0}


def test_a_child_that_ends_or_is_silent_is_told_of_plainly():
    with Child("thing", ["sh", "-c", "echo it broke >&2"]) as child, pytest.raises(HarmoniaError, match="it broke"):
        child.receive()
    with Child("thing", ["sh", "-c", "read line"]) as child, pytest.raises(HarmoniaError, match="did not answer"):
        child.receive(0.1)
