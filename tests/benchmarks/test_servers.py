"""`python -m benchmarks.server servers`, small: every arrangement takes part, every delivery is checked."""

import json

import pytest

from benchmarks.server import servers
from benchmarks.server.__main__ import main
from tests.redis_server import needs_redis


@needs_redis
@pytest.mark.stress
def test_servers_that_share_a_redis_are_measured_beside_one_alone(tmp_path, monkeypatch, capsys):
    for name, value in {"TURN_S": 0.5, "WARM_UP_S": 0.1, "GAP_S": 0.2}.items():
        monkeypatch.setattr(servers, name, value)
    file = tmp_path / "figures.json"
    options = ["--subscribers", "7", "--rounds", "2", "--cancels", "2", "--json", str(file)]
    assert main(["servers", *options]) == 0
    figures = json.loads(file.read_text())
    rows = {row["servers"]: row for row in figures["rows"]}
    assert set(rows) == {servers.ALONE, servers.NEIGHBOUR, servers.TWO}
    for row in rows.values():
        assert (row["deliveries"], row["missing"], row["disordered"]) == (2 * 5 * 7, 0, 0)
        assert row["cpu_us"]["min"] > 0
    assert rows[servers.ALONE]["cpu_ratio"] == {"median": 1, "min": 1, "max": 1}
    assert {"neighbour_event_us", "redis_event_us"} <= set(rows[servers.NEIGHBOUR])
    assert {"here_p99_ms", "there_p99_ms"} <= set(rows[servers.TWO])
    assert {figure["n"] for figure in figures["cancels"].values()} == {2}
    assert "210 deliveries checked, 0 missing, 0 out of order" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--rounds", "0"], ["--subscribers", "5001"], ["--cancels", "0"]])
def test_servers_that_cannot_be_measured_are_bad_usage(options, capsys):
    assert main(["servers", *options]) == 2
    assert "is out of range" in capsys.readouterr().err
