"""Blocks are compared with each other, what can't be told isn't claimed, and unlike circumstances are said."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from harmonia_lab import Lab
from harmonia_lab.analysis.compare import DEFAULT_COLUMNS, MIN_RUNS, compare
from harmonia_lab.analysis.frames import frame_of, work_frame
from harmonia_lab.errors import AudioError, InvalidRequest
from harmonia_lab.store.run_log import COLUMNS, PURPOSES
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine


def rows(count, **columns):
    return [{"status": "completed", "host": "here", **{k: v(i) if callable(v) else v for k, v in columns.items()}}
            for i in range(count)]  # fmt: skip


def study(blocks=12, ratio=1.1, spread=0.03, seed=1, order=None, **columns):
    """Rows of two configurations, "a" and "b"; their times are about stories that differ by half and more."""
    random = np.random.default_rng(seed)
    found = []
    for block in range(blocks):
        story = random.normal(0, 0.5)
        for name in order(block) if order else random.permutation(["a", "b"]):
            slow = np.log(ratio) * (name == "b")
            found.append({
                "study": "s1", "block": block, "configuration": name, "status": "completed", "host": "here",
                "started_at": pd.Timestamp(60 * len(found), unit="s", tz="UTC").isoformat(),
                "cpu_s": np.exp(story + slow + random.normal(0, spread)),
                "total_s": np.exp(1 + story + random.normal(0, 0.05)),
                "render_s": np.exp(story + random.normal(0, 0.05)),
                **{key: value(name, block) for key, value in columns.items()},
            })  # fmt: skip
    return pd.DataFrame(found)


def sides(frame):
    return frame[frame["configuration"] == "a"], frame[frame["configuration"] == "b"]


ASKED = ["cpu_s", "total_s", "render_s"]


def test_a_slower_side_is_found_in_blocks_where_runs_without_blocks_tell_nothing():
    a, b = sides(study())
    found = compare(a, b, ASKED, primary="cpu_s")
    assert found.method == "blocks"
    row = found.table.loc["cpu_s"]
    assert row["low"] < 1.1 < row["high"]
    assert row["differs"]
    assert row["finding"] == "differs"
    assert row["n"] == 12
    assert not found.table.loc["total_s", "differs"]
    assert found.warnings == ()

    without = compare(a.drop(columns="block"), b.drop(columns="block"), ASKED, primary="cpu_s")
    assert without.method == "welch"
    assert not without.table["differs"].any()
    assert "No blocks: Welch" in without.notes[0]


def test_the_ratio_is_that_of_the_geometric_means_of_the_blocks():
    a, b = sides(study())
    row = compare(a, b, ["cpu_s"]).table.loc["cpu_s"]
    assert row["a"] == pytest.approx(np.exp(np.log(a["cpu_s"]).mean()))
    assert row["ratio"] == pytest.approx(row["b"] / row["a"])
    turned = compare(b.sample(frac=1, random_state=1), a, ["cpu_s"]).table.loc["cpu_s"]
    assert turned[["ratio", "low", "high"]].tolist() == pytest.approx(
        [1 / row["ratio"], 1 / row["high"], 1 / row["low"]]
    )


def test_several_runs_of_a_side_in_a_block_count_once_and_blocks_of_one_side_not_at_all():
    a, b = sides(study(blocks=8))
    again = a.assign(cpu_s=a["cpu_s"] * 1.2)
    found = compare(pd.concat([a, again]), b[b["block"] < 6], ["cpu_s"])
    row = found.table.loc["cpu_s"]
    assert row[["n", "n_a", "n_b"]].tolist() == [6, 12, 6]
    pairs = compare(a[a["block"] < 6], b, ["cpu_s"]).table.loc["cpu_s"]
    assert row["ratio"] == pytest.approx(pairs["ratio"] / np.sqrt(1.2))
    assert any("4 runs are in no block" in note for note in found.notes)


def test_blocks_of_different_studies_are_not_one():
    a, b = sides(study(blocks=8))
    assert compare(a, b.assign(study="s2"), ["cpu_s"]).method == "welch"
    assert compare(a.drop(columns="study"), b.drop(columns="study"), ["cpu_s"]).method == "blocks"


def test_the_warm_up_of_a_study_is_the_rows_without_a_block():
    frame = study(blocks=6)
    warm = pd.DataFrame([{**frame.iloc[0], "block": None, "cpu_s": 99.0}])
    a, b = sides(pd.concat([warm.assign(configuration="a"), warm.assign(configuration="b"), frame]))
    found = compare(a, b, ["cpu_s"])
    assert found.ended["a"] == {"completed": 7, "warm-up": 1}
    assert found.table.loc["cpu_s", ["n_a", "n_b"]].tolist() == [6, 6]
    assert compare(a.drop(columns="block"), b, ["cpu_s"]).ended["a"] == {"completed": 7}


def test_any_frame_with_the_columns_gives_what_the_logs_own_frame_gives(tmp_path):
    frame = frame_of(study(blocks=8).to_dict("records"))
    for name in ("study", "block", "configuration"):  # columns of a newer log
        frame[name] = study(blocks=8)[name]
    frame.to_csv(tmp_path / "log.csv", index=False)
    read = pd.read_csv(tmp_path / "log.csv", dtype={"block": float})
    ours, theirs = (compare(*sides(each), primary="cpu_s") for each in (frame, read))
    assert ours.table.loc["cpu_s", "unit"] == theirs.table.loc["cpu_s", "unit"] == "s"
    pd.testing.assert_frame_equal(ours.table, theirs.table, check_dtype=False)
    few = compare(*(side[["block", "cpu_s"]] for side in sides(read)))
    assert few.primary == "cpu_s"
    assert few.ended == {"A": {"runs": 8}, "B": {"runs": 8}}
    assert few.warnings == few.machine == ()


def test_the_primary_column_has_96_percent_and_the_others_99_until_it_differs():
    levels = compare(*sides(study(ratio=1.0)), ASKED, primary="cpu_s").table["level"]
    assert levels.tolist() == pytest.approx([96.04, 99, 99], abs=0.01)
    found = compare(*sides(study()), ASKED, primary="cpu_s")
    assert found.table["level"].tolist() == pytest.approx([96.04, 95, 95], abs=0.01)
    assert "cpu_s may use 4 %" in str(found)
    unnamed = compare(*sides(study()), ASKED)
    assert unnamed.table["level"].tolist() == [95, 95, 95]
    assert "No primary column was named ahead: 3 columns share 5 %" in str(unnamed)


def test_five_blocks_have_a_lower_level_which_is_said_and_four_have_none():
    found = compare(*sides(study(blocks=5)), ASKED, primary="cpu_s")
    assert found.table["level"].tolist() == pytest.approx([93.75, np.nan, np.nan], nan_ok=True)
    assert "5 blocks have 32 flips: the level of cpu_s is 93.75 %, not 95 %." in found.notes
    assert "Below 8 blocks other columns have no intervals." in found.notes
    few = compare(*sides(study(blocks=4)), ASKED, primary="cpu_s")
    assert few.table["low"].isna().all()
    assert not few.table["differs"].any()
    assert few.table["ratio"].notna().all()


def test_what_can_t_be_told_says_how_many_blocks_would():
    row = compare(*sides(study(ratio=1.0, spread=0.1)), ["cpu_s"], smallest_ratio=1.05).table.loc["cpu_s"]
    assert row["n_needed_low"] < row["n_needed_high"]
    assert row["finding"] == (
        f"can't tell; {row['n_needed_low']:.0f} to {row['n_needed_high']:.0f} blocks would tell 1.05 ×"
    )
    row = compare(*sides(study(ratio=1.0, spread=0.01)), ["cpu_s"]).table.loc["cpu_s"]
    assert row["finding"] == "less than 1.1 × apart"


def test_typical_runs_tell_where_a_spike_drowns_the_mean():
    frame = study(blocks=20)
    frame.loc[[3, 22, 30], "cpu_s"] *= 2.5
    by_mean, by_typical = (compare(*sides(frame), primary="cpu_s", claim=claim) for claim in ("mean", "typical"))
    assert not by_mean.table.loc["cpu_s", "differs"]
    row = by_typical.table.loc["cpu_s"]
    assert row["differs"]
    assert 1.05 < row["typical_low"] < row["typical"] < row["typical_high"] < 1.15
    few = compare(*sides(study(blocks=9)), ["cpu_s"], claim="typical").table.loc["cpu_s"]
    assert few["finding"] == "can't tell: typical runs need 10 blocks"
    assert 1 < few["typical"] < 1.2


def test_one_side_after_the_other_claims_nothing_but_what_is_beyond_all_that_was_seen():
    frame = study(blocks=12, spread=0.02, ratio=1.15).drop(columns="block")
    a, b = sides(frame)
    in_turn = pd.concat([a, b]).assign(started_at=sorted(frame["started_at"]), cpu_s=lambda f: 1.0)
    noise = np.random.default_rng(2).normal(0, 0.05, 24)
    drifting = in_turn.assign(cpu_s=np.exp(0.01 * np.arange(24) + noise))
    found = compare(*sides(drifting), ["cpu_s"])
    row = found.table.loc["cpu_s"]
    assert row["low"] > 1  # Welch takes the drift for a difference
    assert not row["differs"]
    assert row["finding"].startswith("not claimed")
    assert any("One side ran after the other" in warning for warning in found.warnings)
    double = in_turn.assign(cpu_s=np.exp(noise) * np.where(in_turn["configuration"] == "b", 2, 1))
    assert compare(*sides(double), ["cpu_s"]).table.loc["cpu_s", "differs"]


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
    assert found.table.loc["audio_load_s", "finding"] == "no ratio"


@pytest.mark.parametrize("column", ["host", "gpu", "version", "torch", "seconds_requested"])
def test_unlike_circumstances_are_a_warning(column):
    value = {"seconds_requested": 20.0}.get(column, "x")
    a, b = rows(6, audio_s=1.0), rows(6, audio_s=1.0, **{column: value})
    assert compare(frame_of(a), frame_of(a)).warnings == ()
    assert any(warning.startswith(f"{column} differs") for warning in compare(frame_of(a), frame_of(b)).warnings)


def test_the_same_count_from_the_log_and_from_a_file_is_no_difference(tmp_path):
    frame = frame_of(rows(6, audio_s=1.0, cores=8, memory_bytes=2**33))
    frame.loc[0, "cores"] = pd.NA
    frame.to_csv(tmp_path / "log.csv")
    found = compare(frame, pd.read_csv(tmp_path / "log.csv"), ["audio_s"])
    assert found.warnings == ()
    assert found.machine == ("Machine: 8 cores, 8 GiB.",)


def test_hosts_that_are_mostly_on_one_side_are_a_warning():
    a = frame_of(rows(10, audio_s=1.0, host=lambda i: "one" if i else "other"))
    b = frame_of(rows(10, audio_s=1.0, host=lambda i: "other" if i else "one"))
    [warning] = compare(a, b).warnings
    assert warning == "host differs: A one (90%), other (10%); B one (10%), other (90%)."
    assert compare(a, a).warnings == ()


def warnings_of(frame, **options):
    return " ".join(compare(*sides(frame), ASKED, primary="cpu_s", **options).warnings)


def test_spikes_of_one_side_are_a_warning():
    frame = study(blocks=10)
    b = frame.index[frame["configuration"] == "b"]
    assert "b has 1 runs with a cpu_s far above its others" in warnings_of(
        frame.assign(cpu_s=frame["cpu_s"] * np.where(frame.index == b[4], 2, 1))
    )
    a = frame_of(rows(10, cpu_s=lambda i: 2.0 if i == 3 else 1 + i / 100))
    assert any("A has 1 runs" in text for text in compare(a, frame_of(rows(10, cpu_s=lambda i: 1 + i / 90))).warnings)


def test_an_order_that_was_not_drawn_is_a_warning():
    assert "a ran before b in every block" in " ".join(
        compare(*sides(study(order=lambda block: "ab")), ["cpu_s"], names=("a", "b")).warnings
    )
    assert "order in the blocks alternates" in warnings_of(study(order=lambda block: ("ab", "ba")[block % 2]))


def test_a_ratio_that_changes_with_time_is_a_warning():
    frame = study(ratio=1.0)
    slower = frame.assign(
        cpu_s=frame["cpu_s"] * np.where(frame["configuration"] == "b", np.exp(frame["block"] / 20), 1)
    )
    assert "The ratio of cpu_s rises with time" in warnings_of(slower)
    drifting = frame.assign(cpu_s=frame["cpu_s"] * np.exp(frame["block"] / 20))  # both sides alike: no harm in blocks
    assert warnings_of(drifting) == ""
    unpaired = drifting.drop(columns="block").assign(cpu_s=np.exp(np.arange(24) / 20))
    assert "cpu_s within the sides rises with time" in warnings_of(unpaired)


def test_load_by_others_is_a_warning_where_the_log_has_it_and_advises_processor_time():
    busy = study(blocks=8, others_cpu_share=lambda name, block: 0.4 if name == "b" else 0.2, cores=lambda *_: 2,
                 cpu_steal_s=lambda *_: 0.4, cpu_pressure_share=lambda *_: 0.1)  # fmt: skip
    found = " ".join(compare(*sides(busy), ["total_s"]).warnings)
    assert "Other programs used the machine's processors meanwhile (median: a 20%, b 40%)." in found
    assert "One side ran beside more" in found
    assert "hypervisor took processor time" in found
    assert "name a column of processor time" in found
    assert "waited" not in found
    quiet = study(blocks=8, others_cpu_share=lambda *_: 0.01, cpu_steal_s=lambda *_: 0.0, cores=lambda *_: 2)
    assert compare(*sides(quiet), ["total_s"]).warnings == ()


def test_a_system_that_tells_only_its_load_average_is_a_warning_too():
    busy = study(blocks=8, load_1m=lambda *_: 3.0, cores=lambda *_: 2)
    [warning, advice] = compare(*sides(busy), ["total_s"]).warnings
    assert warning == "More programs ran than the machine has cores (median load by core: a 1.5, b 1.5)."
    assert advice.startswith("total_s is wall time")
    assert compare(*sides(busy.assign(load_1m=0.5)), ["total_s"]).warnings == ()


def test_wall_time_that_varies_more_than_processor_time_is_advised_against_without_a_word_of_load():
    random = np.random.default_rng(3)
    frame = study(spread=0.02).assign(total_s=lambda f: f["total_s"] * np.exp(random.normal(0, 0.2, len(f))))
    assert "name cpu_s as primary column" in " ".join(compare(*sides(frame), ASKED, primary="total_s").warnings)
    assert warnings_of(frame) == ""


def test_rows_on_both_sides_are_a_warning():
    frame = frame_of(rows(6, audio_s=1.0, run_id=lambda i: f"r{i}"))
    assert compare(frame, frame).warnings == ("6 runs stand on both sides: they are compared with themselves.",)


def test_words_of_the_log_are_no_markup_in_a_notebook():
    a, b = rows(6, audio_s=1.0, gpu="<img src=x>"), rows(6, audio_s=1.0)
    assert "<img" not in compare(frame_of(a), frame_of(b))._repr_html_()


def test_an_empty_log_compares_to_an_empty_table():
    found = compare(frame_of([]), frame_of([]))
    assert len(found.table) == 0
    assert "Runs." in str(found)
    assert found.to_latex()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": ["latency"]}, "no column 'latency'"), ({"primary": "latency"}, "no column 'latency'"),
        ({"columns": ["configuration"]}, "holds no numbers"), ({"claim": "median", "primary": "cpu_s"}, "no claim"),
        ({"claim": "typical"}, "No column was named"), ({"level": 95}, "isn't within"), ({"warm_up": -1}, "left out"),
        ({"smallest_ratio": 0.9}, "isn't above 1"), ({"names": ("x", "x")}, "named 'x'"),
    ],
)  # fmt: skip
def test_what_can_t_be_asked_is_refused_in_words(options, said):
    with pytest.raises(InvalidRequest, match=said):
        compare(*sides(study(blocks=6)), **options)


def test_a_side_that_is_no_table_and_a_file_with_decimal_commas_are_refused_in_words():
    with pytest.raises(InvalidRequest, match="no DataFrame"):
        compare([{"cpu_s": 1.0}], study(blocks=5))
    commas = study(blocks=6).assign(cpu_s=lambda f: f["cpu_s"].map("{:.2f}".format).str.replace(".", ","))
    with pytest.raises(InvalidRequest, match="'cpu_s' holds no numbers"):
        compare(*sides(commas), ["cpu_s"])


def test_values_of_any_size_have_a_ratio():
    wild = study(blocks=9).assign(cpu_s=lambda f: 10.0 ** np.linspace(-300, 300, len(f)), total_s=5e-324)
    found = compare(*sides(wild), ASKED, primary="cpu_s")
    assert np.isfinite(found.table[["ratio", "low", "high"]].to_numpy(float)).all()
    assert "e+" in str(found)


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
    for seed, factor in enumerate([100.0, 170.0]):
        errors = [AudioError("Once.")] if seed else []
        engine = Slower(factor, seed, errors=errors)
        with Lab(metadata=FakeMetadataEngine(), audio=engine, songs=tmp_path / "s", home=tmp_path / str(seed)) as lab:
            table = [{"metadata": SONG_METADATA, "seconds": 1, "seed": n} for n in range(5 + seed)]
            lab.batch(table, tmp_path / f"out-{seed}", say=lambda line: None)
            frames.append(lab.log.frame(purposes=PURPOSES))
    found = compare(*frames, ["steps_per_second"])
    row = found.table.loc["steps_per_second"]
    assert row["low"] < 1.7 < row["high"]
    assert row["low"] > 1.5
    assert row["differs"]  # one after the other, but farther apart than the runs of either
    assert (row["n_a"], row["n_b"]) == (5, 5)
    assert found.ended["B"] == {"completed": 5, "failed": 1}
    assert not any("differs" in warning for warning in found.warnings)


def side(decoder, seconds, **columns):
    settings = [{"decoder": decoder, "top_k": 250}] * len(seconds)
    return pd.DataFrame({"audio_settings": settings, "audio_s": seconds, **columns})


def test_sides_are_named_by_what_differs_and_the_better_one_is_said():
    slow, quick = side("reference", [9.0, 9.1, 9.2, 9.05, 9.15]), side("fast", [1.0, 1.1, 1.05, 1.02, 1.01])
    found = compare(slow, quick, ["audio_s"])
    assert found.names == ("reference", "fast")
    assert found.changed == "decoder: reference → fast"
    assert "Compared: decoder: reference → fast." in str(found)
    assert "differs: fast is better" in str(found)
    assert compare(slow, quick, ["audio_s"], names=("old", "new")).names == ("old", "new")


def test_of_a_rate_the_higher_side_is_better_and_equal_sides_are_a_and_b():
    rates = [
        pd.DataFrame({"tokens_per_second": [base, base + 0.1, base + 0.2, base + 0.05, base + 0.15]})
        for base in (1.0, 9.0)
    ]
    found = compare(*rates, ["tokens_per_second"])
    assert found.names == ("A", "B")
    assert found.changed == ""
    assert "differs: B is better" in str(found)


def test_short_times_and_large_memory_are_told_in_their_units():
    frames = [pd.DataFrame({"mix_s": [base] * 4, "audio_rss_peak_bytes": [20 * 2**30] * 4}) for base in (0.01, 0.02)]
    found = compare(*frames, ["mix_s", "audio_rss_peak_bytes"])
    assert "mix_s, ms" in str(found)
    assert "audio_rss_peak_bytes, GiB" in str(found)
