"""The cancel benchmark: every cancel is measured, and what it leaves is counted."""

from harmonia_lab.bench.cancel import _percentile, _table, measure


def test_cancels_in_both_stages_are_measured_and_what_they_leave_is_counted():
    figures = measure(runs=1, seconds=3)
    # A cancel may end the model's own child, which comes back when it is needed: in the next stage, say.
    most = figures["stages"]["metadata"]["children"]["before"]
    for stage in figures["stages"].values():
        assert stage["n"] + stage["ended_before"] == 1
        assert stage["n"] == 0 or 0 < stage["p50_ms"] <= stage["p95_ms"] <= stage["p100_ms"]
        assert stage["children"]["after"] <= most
    assert figures["partial_folders_left"] == 0
    assert figures["host"]["cores"] >= 1
    assert _table(figures).count(" MiB, ") == 2


def test_a_percentile_is_the_smallest_value_that_covers_its_share():
    assert [_percentile([float(n) for n in range(1, 51)], percent) for percent in (50, 95, 100)] == [25, 48, 50]
    assert _percentile([7.0], 95) == 7
    assert _percentile([], 50) is None
