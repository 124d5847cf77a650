"""One percentage over both stages, learnt from earlier runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonia_lab.generation.progress import PHASES, Expectation, OverallProgress, expected_durations

ROW = {
    "status": "completed",
    "metadata_model": "small",
    "metadata_s": 8.0,
    "audio_engine": "sketch",
    "audio_model": "bank",
    "audio_seconds": 20.0,
    "render_s": 2.0,
    "mix_s": 1.0,
    "write_s": 4.0,
}


def expect(rows, *, model="small", seconds=40.0):
    return expected_durations(rows, metadata_model=model, audio_engine="sketch", audio_model="bank", seconds=seconds)


def test_expectations_are_medians_of_completed_runs_scaled_to_the_length():
    rows = [ROW, ROW | {"metadata_s": 9.0}, ROW | {"metadata_s": 1000.0}, ROW | {"status": "failed", "metadata_s": 0.1}]
    assert expect(rows) == Expectation(metadata=9.0, render=4.0, mix=2.0, write=8.0)


def test_runs_of_other_models_teach_nothing():
    others = [ROW | {"metadata_model": "big", "audio_model": "other"}] * 3
    assert expect(others) == expect([])


def test_a_skipped_stage_takes_no_time_and_no_share():
    overall = OverallProgress(expect([ROW], model=None))
    assert overall.at("render", 0.0).overall == 0.0
    assert overall.at("write", 1.0).overall == 100.0


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.floats(-1, 2)), max_size=40))
def test_percentages_never_go_back_nor_leave_0_to_100(steps):
    now = [0.0]
    overall = OverallProgress(Expectation(10, 2, 1, 1), clock=lambda: now[0])
    last = {"metadata": 0.0, "audio": 0.0, "overall": 0.0}
    for phase, fraction in steps:
        now[0] += 0.5
        estimate = overall.at(phase, fraction)
        stage = "metadata" if phase == "metadata" else "audio"
        assert last[stage] <= estimate.stage <= 100
        assert last["overall"] <= estimate.overall <= 100
        assert estimate.eta_s >= 0
        last |= {stage: estimate.stage, "overall": estimate.overall}


def test_each_stage_ends_at_100_and_the_whole_only_after_the_last():
    overall = OverallProgress(Expectation(10, 2, 1, 1))
    ends = {phase: overall.at(phase, 1.0) for phase in PHASES}
    assert ends["metadata"].stage == ends["write"].stage == 100
    assert ends["metadata"].overall == pytest.approx(100 * 10 / 14, abs=0.01)
    assert ends["render"].stage == 50
    assert ends["write"].overall == 100


def test_the_estimate_follows_the_observed_pace():
    now = [0.0]
    overall = OverallProgress(Expectation(10, 2, 1, 1), clock=lambda: now[0])
    assert overall.at("metadata", 0.0).eta_s == 14
    now[0] = 20.0  # half of stage 1 took four times as long as expected
    eta = overall.at("metadata", 0.5).eta_s
    assert 9 < eta < 36
    now[0] = 56.0
    assert overall.at("write", 1.0).eta_s == 0
