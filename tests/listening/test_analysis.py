"""A preference is found with its interval, none isn't called one, and who doesn't count is named with the rule."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.listening.simulations import NULLS, PLANTED_SHARES, design_of, simulated, tally
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.analysis import ANCHOR, analyse
from harmonia_lab.listening.answers import parse_answers
from harmonia_lab.listening.design import design_test
from harmonia_lab.listening.sources import ComparedSong
from harmonia_lab.listening.statistics import bradley_terry, flip_tests, is_connected
from tests.listening.songs import answered

DATA = Path(__file__).parents[2] / "benchmarks" / "listening"


def scales(reference="ref"):
    songs = [ComparedSong(name, f"block {n}", Path(name, str(n))) for n in range(4) for name in ("ref", "good", "bad")]
    return design_test(songs, "scales", reference=reference, seed=1)


def sets_of(design, choosers, **options):
    given = [answered(design, f"l{n}", choose, seed=n + 1, **options) for n, choose in enumerate(choosers)]
    return [parse_answers(each) for each in given]


def prefers(name):
    return lambda shown: shown.index(name)


def test_strengths_are_those_of_the_model():
    # Of three players, the likelihood's maximum by brute force over a grid.
    wins = np.array([[0, 7, 8], [3, 0, 6], [2, 4, 0]], float)
    found = bradley_terry(wins)

    def likelihood(a, b):
        theta = np.array([0, a, b])
        return float((wins * -np.log1p(np.exp(theta[None] - theta[:, None]))).sum())

    grid = np.linspace(-3, 3, 241)
    best = max(itertools.product(grid, grid), key=lambda each: likelihood(*each))
    assert found - found[0] == pytest.approx([0, *best], abs=0.05)  # the prior is a hundredth of a log-odd
    assert abs(found.sum()) < 1e-9


def test_one_who_wins_every_choice_is_strong_and_not_infinite():
    found = bradley_terry(np.array([[0, 20], [0, 0]], float))
    assert 4 < found[0] - found[1] < 6


def test_conditions_that_no_chain_connects_are_told():
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[2, 3] = 1
    assert not is_connected(apart)
    apart[1, 2] = 1
    assert is_connected(apart)


def test_flips_give_the_exact_probability_of_few_listeners():
    together, each = flip_tests(np.ones((6, 1)))
    assert together == each[0] == pytest.approx(2 / 64)
    assert flip_tests(np.array([[1.0], [-1.0], [1.0], [-1.0], [1.0]]))[0] == 1.0
    assert flip_tests(np.zeros((6, 2)))[0] == 1.0


def test_a_unanimous_preference_is_found_and_a_divided_one_is_not():
    design = design_of(6)
    result = analyse(design, sets_of(design, [prefers("b")] * 8))
    row = result.table.frame.iloc[0]
    assert (row["a"], row["b"], row["n"]) == ("a", "b", 48)
    assert row["differs"]
    assert row["share"] > 0.98
    assert result.p_no_preference == pytest.approx(2 / 2**8)
    divided = analyse(design, sets_of(design, [prefers("a"), prefers("b")] * 6))
    assert not divided.table.frame["differs"].any()
    assert divided.table.frame.iloc[0]["share"] == pytest.approx(0.5)


def test_three_conditions_are_ranked():
    songs = [ComparedSong(name, f"block {n}", Path(name, str(n))) for n in range(4) for name in "abc"]
    design = design_test(songs, seed=2)
    result = analyse(design, sets_of(design, [lambda shown: shown.index(max(shown))] * 9))
    values = result.levels.frame.set_index("condition")["value"]
    assert values["a"] == 0 < values["b"] < values["c"]
    assert result.table.frame["differs"].all()
    assert any("max-T" in note for note in result.notes)


def test_too_few_listeners_get_no_interval_and_are_told_so():
    design = design_of(4)
    result = analyse(design, sets_of(design, [prefers("b")] * 4))
    assert result.p_no_preference is None
    assert result.table.frame["low"].isna().all()
    assert "5 listeners or more" in str(result)
    assert not result.table.frame["differs"].any()


def test_who_does_not_count_is_named_with_the_rule():
    design = design_of(4)
    good = sets_of(design, [prefers("b")] * 5)
    plain = [answered(design, f"x{n}", prefers("a"), seed=50 + n) for n in range(5)]
    plain[0] = answered(design, "failed", prefers("a"), seed=50, passes=False)
    plain[1] = answered(design, "stopped", prefers("a"), seed=51, complete=False)
    plain[2]["listener"] = "l1"  # a second attempt
    plain[3]["test"] = "another"
    plain[4]["answers"][0]["order"].reverse()
    sets = [*good, *(parse_answers(each) for each in plain), good[0]]
    result = analyse(design, sets, unread=["letter.json is no answer set."])
    assert [each.listener for each in result.kept] == ["l0", "l1", "l2", "l3", "l4"]
    reasons = {each.answers.listener: each.reason for each in result.excluded}
    assert reasons["failed"] == "failed attention checks"
    assert reasons["stopped"] == "incomplete"
    assert reasons["x3"] == "answers of another test"
    assert reasons["x4"] == "an order that the recorded seed doesn't draw"
    assert {each.reason for each in result.excluded} >= {
        "another attempt of the same listener",
        "the same answers again",
    }
    said = result.to_markdown()
    assert "5 of 11 answer sets count. Left out: " in said
    assert "1: failed attention checks" in said
    assert "letter.json" in said
    lenient = analyse(design, sets, allow_failed=2, keep_incomplete=True)
    assert {"failed", "stopped"} <= {each.listener for each in lenient.kept}


def test_no_answers_and_none_that_count_are_errors_that_say_why():
    design = design_of(4)
    with pytest.raises(InvalidRequest, match="There are no answers"):
        analyse(design, [])
    nobody = analyse(design, [parse_answers(answered(design, "x", prefers("a"), passes=False))])
    with pytest.raises(InvalidRequest, match="None of the 1 answer sets counts: failed attention checks"):
        str(nobody)


def test_ratings_are_averaged_and_who_misses_the_reference_is_left_out():
    design = scales()
    levels = {"ref": 97, "good": 80, "bad": 40}

    def rater(shift):
        return lambda name, treatment: 15 if treatment else max(0, levels[name] - (shift if name != "ref" else 0))

    given = [answered(design, f"l{n}", None, rate=rater(n), seed=n + 1) for n in range(6)]
    deaf = answered(design, "deaf", None, rate=lambda name, treatment: 60, seed=30)
    result = analyse(design, [parse_answers(each) for each in [*given, deaf]])
    means = result.levels.frame.set_index("condition")["value"]
    assert means.to_dict() == pytest.approx({"ref": 97, "good": 77.5, "bad": 37.5, ANCHOR: 15})
    (left,) = result.excluded
    assert (left.answers.listener, left.reason) == ("deaf", "rated the hidden reference below 90 too often")
    row = result.table.frame.query("a == 'good' and b == 'bad'").iloc[0]
    assert row["difference"] == pytest.approx(-40)
    assert row["differs"]


def test_the_frame_has_every_sound_of_every_answer():
    design = design_of(4)
    given = [answered(design, "l", prefers("b")), answered(design, "x", prefers("b"), seed=2, passes=False)]
    frame = analyse(design, [parse_answers(each) for each in given]).frame()
    assert len(frame) == 2 * 2 * len(design.trials)
    assert frame.query("counts")["listener"].unique().tolist() == ["l"]
    compared = frame.query("role == 'compare' and chosen")
    assert set(compared["condition"]) == {"b"}
    json.dumps(analyse(design, [parse_answers(each) for each in given]).to_json())  # plain values


def test_simulated_studies_keep_to_the_level_and_hold_the_planted_preference():
    design = design_of()
    alarms = sum(simulated(design, NULLS["nobody prefers one"], n).p_no_preference <= 0.05 for n in range(40))
    assert alarms <= 7  # 2 of 40 on average; one run in a thousand has more than 7
    rows = [simulated(design, PLANTED_SHARES["all alike (0.7)"], n).table.frame.iloc[0] for n in range(40)]
    assert sum(row["low"] <= 0.7 <= row["high"] for row in rows) >= 33
    assert all(row["differs"] for row in rows)


@pytest.mark.stress
def test_a_thousand_studies_have_at_most_65_false_alarms_and_930_intervals_that_hold():
    for figures in tally(1000).values():
        assert figures.get("falseAlarms", 0) <= 65
        assert figures.get("held", 1000) >= 930


def test_the_kept_figures_are_what_is_promised():
    found = json.loads((DATA / "simulations-2026-11-28.json").read_text())["kinds"]
    alike, differ = found["nobody prefers one"], found["tastes differ (0.5 ± 0.15)"]
    assert alike["studies"] == found["all alike (0.7)"]["studies"] == 1000
    assert alike["falseAlarms"] <= 65
    assert found["all alike (0.7)"]["held"] >= 930
    assert differ["falseAlarms"] <= 0.065 * differ["studies"]
    assert found["tastes differ (0.7 ± 0.15)"]["held"] >= 0.93 * found["tastes differ (0.7 ± 0.15)"]["studies"]
