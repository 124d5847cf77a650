"""`docs/chaos.md` and `docs/server.md` say what the committed runs found, and these were as many as were promised."""

from collections import Counter

from tests.chaos.data import ROOT, committed
from tests.chaos.kinds import KINDS
from tests.chaos.page import GOAL_ALL, GOAL_KIND, PAGE, page, recoveries, summary


def test_pages_are_those_of_the_committed_runs():
    data = committed()
    assert PAGE.read_text() == page(data)
    assert summary(data) in " ".join((ROOT / "docs" / "server.md").read_text().split())


def test_every_kind_was_run_twenty_times_and_the_crash_points_are_ten_thousand():
    data = committed()
    assert Counter(run["kind"] for run in data["runs"]) == dict.fromkeys(KINDS, 20)
    assert len(KINDS) >= 15
    assert data["points"]["count"] >= 10_000
    assert data["kills"]["count"] >= 200


def test_no_invariant_was_broken_and_the_songs_that_should_be_made_were():
    data = committed()
    assert [run for run in data["runs"] if run["broken"]] == []
    assert data["points"]["broken"] + data["kills"]["broken"] == []
    due, made = recoveries(data["runs"])
    assert made >= GOAL_ALL * due
    for kind in KINDS:
        due, made = recoveries([run for run in data["runs"] if run["kind"] == kind])
        assert made >= GOAL_KIND * due, kind
