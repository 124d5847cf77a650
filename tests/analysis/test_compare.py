"""Intervals cover what they promise, failures are counted, and unlike circumstances are said."""

import dataclasses

import numpy as np
import pytest

from harmonia_lab import Lab
from harmonia_lab.analysis.compare import DEFAULT_COLUMNS, MIN_RUNS, compare, ratio_interval
from harmonia_lab.analysis.frames import frame_of, work_frame
from harmonia_lab.errors import AudioError, InvalidRequest
from harmonia_lab.store.run_log import COLUMNS, PURPOSES
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine

NOISE = {
    "lognormal": lambda random, size: random.lognormal(0, 0.3, size),
    "normal": lambda random, size: random.normal(1, 0.1, size),
    "skewed": lambda random, size: 1 + random.exponential(0.2, size),
}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("planted", [1.0, 1.3])
def test_a_planted_ratio_is_covered_by_its_95_percent_interval_in_at_least_93_percent_of_1000_trials(noise, planted):
    random = np.random.default_rng(7)
    a, b = (NOISE[noise](random, (1000, 10)) for _ in range(2))
    low, high = ratio_interval(a, planted * b, resamples=1000)
    covered = np.mean((low <= planted) & (planted <= high))
    assert 0.93 <= covered <= 0.98


def test_the_interval_scales_with_the_ratio_turns_with_the_sides_and_narrows_with_n():
    random = np.random.default_rng(1)
    a, b = random.lognormal(0, 0.2, (2, 10))
    low, high = ratio_interval(a, b)
    assert np.allclose(ratio_interval(a, 5 * b), (5 * low, 5 * high))
    assert np.allclose(ratio_interval(b, a), (1 / high, 1 / low), rtol=0.05)  # other resamples, the same question
    wide = ratio_interval(*random.lognormal(0, 0.2, (2, 100)))
    assert wide[1] / wide[0] < high / low


def test_equal_runs_leave_nothing_uncertain_and_one_that_differs_much():
    assert np.allclose(ratio_interval([2.0] * 10, [3.0] * 10), 1.5)
    low, high = ratio_interval([2.0] * 10, [3.0] * 9 + [4.0])
    assert low <= 1.5 <= high
    assert not np.isnan([low, high]).any()


def rows(count, **columns):
    return [{"status": "completed", "host": "here", **{k: v(i) if callable(v) else v for k, v in columns.items()}}
            for i in range(count)]  # fmt: skip


def test_loading_is_apart_from_work():
    frame = frame_of(rows(1, metadata_s=5.0, metadata_load_s=2.0, audio_s=4.0, audio_load_s=1.0, total_s=9.5,
                          audio_seconds=6.0))  # fmt: skip
    (row,) = work_frame(frame).to_dict("records")
    assert (row["metadata_work_s"], row["audio_work_s"], row["total_work_s"]) == (3.0, 3.0, 6.5)
    assert row["audio_work_real_time_factor"] == 0.5
    assert work_frame(frame).attrs["units"]["total_work_s"] == "s"
    assert "metadata_work_s" not in frame


def test_failures_are_counted_and_compared_with_nothing():
    a = frame_of([*rows(6, audio_s=1.0), {"status": "failed", "audio_s": 99.0}])
    b = frame_of([*rows(6, audio_s=2.0), {"status": "cancelled"}, {"status": "failed"}])
    found = compare(a, b, ["audio_s"])
    assert found.table.loc["audio_s", ["ratio", "n_a", "n_b"]].tolist() == [2.0, 6, 6]
    assert bool(found.table.loc["audio_s", "differs"])
    assert found.ended == {"A": {"completed": 6, "failed": 1}, "B": {"completed": 6, "cancelled": 1, "failed": 1}}
    assert "1 failed" in str(found)


def test_warm_up_runs_do_not_count():
    a = frame_of(rows(7, audio_s=lambda i: 50.0 if i < 2 else 1.0))
    found = compare(a, a, ["audio_s"], warm_up=2)
    assert found.table.loc["audio_s", ["a", "n_a"]].tolist() == [1.0, 5]
    assert found.ended["A"]["warm-up"] == 2


def test_too_few_runs_give_a_ratio_and_no_interval():
    few = frame_of(rows(MIN_RUNS - 1, audio_s=lambda i: 1.0 + i))
    found = compare(few, few, ["audio_s"])
    assert found.table.loc["audio_s", "ratio"] == 1.0
    assert found.table.loc["audio_s", ["low", "high"]].isna().all()
    assert any("no intervals" in warning for warning in found.warnings)


def test_values_of_zero_have_no_ratio():
    found = compare(frame_of(rows(6, audio_load_s=0.0)), frame_of(rows(6, audio_load_s=1.0)), ["audio_load_s"])
    assert found.table.loc["audio_load_s", ["a", "ratio", "low"]].isna().all()
    assert found.table.loc["audio_load_s", "b"] == 1.0


@pytest.mark.parametrize("column", ["host", "gpu", "version", "torch", "seconds_requested"])
def test_unlike_circumstances_are_a_warning(column):
    value = {"seconds_requested": 20.0}.get(column, "x")
    a, b = rows(6, audio_s=1.0), rows(6, audio_s=1.0, **{column: value})
    assert compare(frame_of(a), frame_of(a)).warnings == ()
    assert any(warning.startswith(f"{column} differs") for warning in compare(frame_of(a), frame_of(b)).warnings)


def test_words_of_the_log_are_no_markup_in_a_notebook():
    a, b = rows(6, audio_s=1.0, gpu="<img src=x>"), rows(6, audio_s=1.0)
    assert "<img" not in compare(frame_of(a), frame_of(b))._repr_html_()


def test_an_empty_log_compares_to_an_empty_table_and_an_unknown_column_is_refused():
    assert len(compare(frame_of([]), frame_of([])).table) == 0
    with pytest.raises(InvalidRequest, match="latency"):
        compare(frame_of([]), frame_of([]), ["latency"])


def test_what_is_compared_is_in_the_log():
    assert set(DEFAULT_COLUMNS) <= set(work_frame(frame_of([])).columns)
    assert all(column in COLUMNS for column in ("host", "gpu"))


class Slower(FakeAudioEngine):
    """A fake that says how fast it decoded: `factor` times a noise that its seed draws."""

    def __init__(self, factor, seed, **options):
        super().__init__(**options)
        self.factor, self.random = factor, np.random.default_rng(seed)

    def render(self, parts, plan, seeds, progress, *others):
        def figure(event):
            speed = self.factor * self.random.lognormal(0, 0.05)
            progress(dataclasses.replace(event, figures={"steps_per_second": speed}))

        return super().render(parts, plan, seeds, figure, *others)


def test_a_difference_planted_in_an_engine_comes_back_from_the_log_of_its_songs(tmp_path):
    frames = []
    for seed, factor in enumerate([100.0, 130.0]):
        errors = [AudioError("Once.")] if seed else []
        engine = Slower(factor, seed, errors=errors)
        with Lab(metadata=FakeMetadataEngine(), audio=engine, songs=tmp_path / "s", home=tmp_path / str(seed)) as lab:
            table = [{"metadata": SONG_METADATA, "seconds": 1, "seed": n} for n in range(10 + seed)]
            lab.batch(table, tmp_path / f"out-{seed}", say=lambda line: None)
            frames.append(lab.log.frame(purposes=PURPOSES))
    found = compare(*frames)
    row = found.table.loc["steps_per_second"]
    assert row["low"] < 1.3 < row["high"]
    assert row["low"] > 1.15
    assert (row["n_a"], row["n_b"]) == (10, 10)
    assert found.ended["B"] == {"completed": 10, "failed": 1}
    assert found.warnings == ()
