"""`make bench-kernel`, short: every load, both places, all figures; and that the long C call is one."""

import json

import pytest

from benchmarks.server import kernel
from benchmarks.server.__main__ import main
from benchmarks.server.kernel_process import Kernel


def test_every_load_is_measured_in_both_places(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kernel, "LOADS", {name: kernel.LOADS[name] for name in ("idle", "python", "call")})
    monkeypatch.setattr(kernel, "SLICES", 2)
    monkeypatch.setattr(kernel, "SLICE_S", 0.05)
    monkeypatch.setattr(kernel, "HOLD_S", 0.3)
    monkeypatch.setattr(kernel, "INTERVALS_S", (0.005, 0.0005))
    file = tmp_path / "figures.json"
    assert main(["kernel", "--subscribers", "101", "--rounds", "1", "--seconds", "1", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    by_default = [row for row in figures["rows"] if row["switch_interval_ms"] is None]
    assert {(row["kernel"], row["server"]) for row in by_default} == {
        (load, place) for load in kernel.LOADS for place in ("thread", "isolated")
    }
    for row in figures["rows"]:
        assert row["disordered"] == 0
        assert row["deliveries"] + row["thinned_out"] == 101 * row["events"]
        assert row["deliveries"] > 0
        assert row["joins"] >= 10
        assert row["unanswered"] == 0
        for figure in ("event_ms", "ack_ms", "replay_ms", "published_late_ms"):
            assert set(row[figure]) - {"p99_of_rounds"} == {"p50", "p99", "max"}
        assert 0 < row["replay_ms"]["p50"] <= row["ack_ms"]["p50"]  # the replay comes first
        assert (row["kernel_steps"] > 0) == (row["kernel"] != "idle")
    assert {row["switch_interval_ms"] for row in figures["rows"]} == {None, 5.0}
    assert [cost["interval_ms"] for cost in figures["switch_interval"]] == [5.0, 0.5]
    assert figures["switch_interval"][0]["wall"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert figures["recommended"]["switch_interval_ms"] in (5.0, 0.5)
    assert set(figures["long_c_call"]) == {"thread", "isolated"}
    assert figures["host"]["cores"]
    assert {"harmonia-lab", "python-socketio"} <= set(figures["versions"])
    table = capsys.readouterr().out
    assert "one long C call" in table
    assert "recommended" in table


@pytest.mark.parametrize("load", kernel.LOADS)
def test_each_load_keeps_the_kernel_busy_but_for_the_idle_one(load):
    own = Kernel(None)
    own.prepare(load, hold_s=0.05)
    assert (own.work(load, 0.1)["steps"] > 0) == (load != "idle")


def test_the_long_c_call_lets_no_other_thread_run():
    seen = Kernel(None).prepare("call", hold_s=0.5)
    assert seen["held"] > 0.8


@pytest.mark.parametrize("option", [["--subscribers", "0"], ["--seconds", "0"], ["--rounds", "0"]])
def test_what_cannot_be_measured_is_bad_usage(option):
    assert main(["kernel", *option]) == 2
