"""`make bench-worst`: what counts as meeting the goal, the committed figures, and (stress) a short run."""

import json
from pathlib import Path

import pytest

from benchmarks.server import worst
from benchmarks.server.__main__ import main
from benchmarks.server.worst_client import ATTACKS, COMMANDS
from harmonia_lab.protocol import commands

DATA = sorted((Path(__file__).parents[2] / "benchmarks").glob("worst-*.json"))


@pytest.mark.parametrize(
    ("p99", "without", "unanswered", "met"),
    [
        (20.0, 10.0, 0, True),
        (51.0, 40.0, 0, False),
        (20.0, 6.0, 0, False),
        (20.0, 10.0, 1, False),
        (None, 1.0, 0, False),
    ],
)
def test_the_goal_is_met_within_both_bounds_and_with_every_answer(p99, without, unanswered, met):
    assert worst.meets_goal({"ack_ms": {"p99": p99}, "without_ms": {"p99": without}, "unanswered": unanswered}) is met


def test_every_command_and_every_route_is_tried():
    assert set(COMMANDS) == commands.COMMANDS.keys()
    assert len([name for name in ATTACKS if name.startswith(("GET", "POST", "DELETE"))]) == 15


def test_committed_figures_are_of_every_attack_and_make_the_table():
    for path in DATA:
        figures = json.loads(path.read_text())
        assert [row["attack"] for row in figures["rows"]] == list(ATTACKS), path.name
        assert f"met {sum(map(worst.meets_goal, figures['rows']))} of {len(ATTACKS)} times" in worst.table(figures)


def test_an_attack_that_is_none_is_bad_usage():
    assert main(["worst", "--only", "kindness"]) == 2


@pytest.mark.stress
def test_some_attacks_are_measured(tmp_path, capsys):
    file = tmp_path / "figures.json"
    chosen = ["--only", "flood of acks,GET /healthz", "--seconds", "1", "--songs", "2"]
    assert main(["worst", *chosen, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["attack"] for row in rows] == ["flood of acks", "GET /healthz"]
    for row in rows:
        assert row["unanswered"] == 0
        assert row["per_s"]["sent"] > 0
    assert "goal: p99" in capsys.readouterr().out
