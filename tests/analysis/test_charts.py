"""Charts say what the log says: figures read back from what was drawn."""

import base64
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from harmonia_lab import Lab
from harmonia_lab.analysis import charts
from harmonia_lab.analysis.chart_style import GREY, INK, styles
from harmonia_lab.analysis.compare import compare
from harmonia_lab.analysis.frames import frame_of
from harmonia_lab.analysis.run_points import run_points
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


def run(engine="sketch", **columns):
    whole = {
        "metadata_load_s": 1.0,
        "metadata_s": 3.0,
        "plan_s": 0.5,
        "audio_load_s": 0.25,
        "render_s": 1.25,
        "mix_s": 0.5,
        "write_s": 0.5,
        "audio_s": 2.75,
        "total_s": 6.0,
        "audio_seconds": 10.0,
    }
    return {"status": "completed", "audio_engine": engine, **whole, **columns}


def texts(figure):
    import matplotlib.text

    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


FRAME = frame_of(
    [run(), run(total_s=8.0), run("musicgen", render_s=5.25, total_s=10.0, audio_batch=4), {"status": "failed"}]
)


def test_the_steps_of_a_bar_add_up_to_the_mean_time_of_a_song():
    (axes,) = charts.stage_latency(FRAME).axes
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert np.sum(widths, axis=0) == pytest.approx([7.0, 10.0])
    assert widths[0] == [1.0, 1.0]  # loading apart
    assert widths[1] == [2.0, 2.0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["sketch\nn = 2", "musicgen\nn = 1"]


def test_a_missing_step_is_not_averaged_as_0_but_has_a_bar_of_its_own():
    given = {"metadata_s": None, "metadata_load_s": None}
    frame = frame_of([run(metadata_s=57.0, metadata_load_s=None, total_s=60.0), *[run(total_s=3.0, **given)] * 13])
    (axes,) = charts.stage_latency(frame).axes
    widths = {container.get_label(): [bar.get_width() for bar in container] for container in axes.containers}
    assert widths["writing the lyrics"] == [57.0, 0.0]  # not 57 s over all 14
    assert np.sum(list(widths.values()), axis=0) == pytest.approx([60.0, 3.0])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["sketch\nn = 1", "sketch\nwithout writing the lyrics, n = 13"]


def test_every_run_is_a_point_of_the_steps_chart():
    (axes,) = charts.stage_latency(FRAME).axes
    assert [sorted(line.get_xdata()) for line in axes.lines] == [[6.0, 8.0], [10.0]]


def test_a_frame_with_few_columns_is_drawn_as_far_as_it_goes():
    frame = pd.DataFrame({"configuration": ["a", "a", "b"], "total_s": [1.0, 2.0, 3.0]})
    (axes,) = charts.stage_latency(frame, by="configuration").axes
    assert [bar.get_width() for bar in axes.containers[-1]] == [1.5, 3.0]
    (axes,) = charts.spread(frame, by="configuration").axes
    assert axes.get_ylabel() == "total_s, s"
    with pytest.raises(InvalidRequest, match="audio_work_real_time_factor"):
        charts.real_time_factor(frame, by="configuration")


def in_blocks(**columns):
    times = [(block, name, 2.0**block * (1 + 0.1 * (name == "b"))) for block in range(12) for name in "ab"]
    frame = pd.DataFrame(times, columns=["block", "configuration", "audio_s"])
    return frame.assign(cpu_s=frame["audio_s"], audio_rss_peak_bytes=frame["audio_s"] * 2**20)


def test_frames_that_were_put_together_are_drawn_run_by_run():
    both = pd.concat([in_blocks(), in_blocks().assign(block=lambda f: f["block"] + 12)])  # each index twice
    assert [len(points.get_offsets()) for points in charts.blocks(both, "cpu_s").axes[0].collections] == [24, 24]
    length, _ = charts.real_time_factor(pd.concat([FRAME, FRAME])).axes
    assert sum(len(points.get_offsets()) for points in length.collections) == 6


def test_runs_of_a_block_are_joined_and_every_run_is_a_point():
    (axes,) = charts.blocks(in_blocks(), "audio_rss_peak_bytes").axes
    lines = [list(line.get_ydata()) for line in axes.lines]
    assert lines[:12] == [[pytest.approx(2.0**block), pytest.approx(1.1 * 2.0**block)] for block in range(12)]
    assert lines[12][0] == pytest.approx(2.0**5.5)  # the geometric mean
    assert [len(points.get_offsets()) for points in axes.collections] == [12, 12]
    assert axes.get_ylabel() == "audio_rss_peak_bytes, MiB"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a\nn = 12", "b\nn = 12"]
    with pytest.raises(InvalidRequest, match="no blocks"):
        charts.blocks(FRAME, by="audio_engine")


def test_a_configuration_has_the_colour_and_the_marker_that_the_interactive_chart_gives_its_number(tmp_path):
    frame = in_blocks().assign(audio_rss_peak_bytes=None)
    warm_up = frame[frame["configuration"] == "b"].head(1).assign(block=None)  # comes first, and is no run of a block
    both = pd.concat([warm_up, frame])
    points = run_points(both, "cpu_s", "configuration", tmp_path)
    assert points.values["groups"] == ["b", "a"]  # noqa: PD011 - no frame's
    (axes,) = charts.blocks(both, "cpu_s").axes
    drawn = [tuple(each.get_facecolor()[0][:3]) for each in axes.collections]
    assert drawn == [to_rgb(colour) for colour, _, _ in styles(2)]
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == ["b", "a"]


def test_the_chart_of_ratios_has_interval_level_n_and_each_block():
    frame = in_blocks()
    a, b = (frame[frame["configuration"] == name] for name in "ab")
    found = compare(a, b, ["audio_s", "cpu_s"], primary="cpu_s", names=("a", "b$"))
    (axes,) = charts.ratios(found).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["audio_s\nn = 12, 95 %", "cpu_s (primary)\nn = 12, 96.04 %"]
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert pytest.approx(list(found.table.loc["cpu_s", ["low", "high"]])) in drawn
    assert [len(xs) for xs in drawn].count(12) == 2
    assert axes.get_xlabel().startswith(r"b\$ / a")
    few = charts.ratios(compare(a[["cpu_s"]], b[["cpu_s"]]))
    assert few.axes[0].get_yticklabels()[0].get_text() == "cpu_s (primary)\nn = 12 + 12, 95 %"


def test_groups_of_numbers_are_named_with_their_unit():
    frame = frame_of([run(seconds_requested=10.0), run(seconds_requested=2.5), run()])
    (axes,) = charts.stage_latency(frame, by="seconds_requested").axes
    assert [label.get_text().split("\n")[0] for label in axes.get_yticklabels()] == ["2.5 s", "10 s", "<NA>"]


def test_the_real_time_factor_is_without_loading_and_one_is_marked():
    length, batch = charts.real_time_factor(FRAME).axes
    (offsets,) = {tuple(map(tuple, c.get_offsets())) for c in batch.collections[1:]}
    assert offsets == ((pytest.approx(4.0, abs=0.05), pytest.approx(0.25)),)
    assert length.get_yscale() == "log"
    assert any(list(line.get_ydata()) == [1.0, 1.0] for line in length.lines)


def test_the_spread_shows_each_run_its_median_and_unit():
    (axes,) = charts.spread(FRAME, "total_s").axes
    assert [point[1] for point in axes.collections[1].get_offsets()] == [6.0, 8.0]
    assert list(axes.lines[0].get_ydata()) == [7.0, 7.0]
    assert axes.get_ylabel() == "total_s, s"
    frame = frame_of([run(audio_rss_peak_bytes=2**30)])
    (axes,) = charts.spread(frame, "audio_rss_peak_bytes").axes
    assert axes.get_ylabel() == "audio_rss_peak_bytes, MiB"
    assert axes.collections[1].get_offsets()[0][1] == 1024


def test_the_latency_curve_names_its_quantiles():
    figure = charts.event_latency({"one": np.arange(1, 101) / 1000, "none": []})
    assert "one: p50 50 ms, p99 99 ms, n = 100" in texts(figure)


def test_memory_over_time_is_read_from_a_songs_own_record(tmp_path):
    with Lab(metadata=FakeMetadataEngine(step_s=0.03), audio=FakeAudioEngine(), songs=tmp_path, home=tmp_path) as lab:
        song = lab.compose("A story.", seconds=1, progress=False)
    (axes,) = charts.memory_over_time(song.directory).axes
    assert {"stage 1: lyrics", "stage 2: music", "memory, GiB"} <= set(texts(axes.figure))
    assert len(axes.lines) == 2
    assert all(min(line.get_ydata()) > 0.01 for line in axes.lines)
    with pytest.raises(HarmoniaError, match="no song's folder"):
        charts.memory_over_time(tmp_path)


@pytest.mark.parametrize("draw", [charts.stage_latency, charts.real_time_factor, charts.spread])
def test_a_log_without_completed_runs_is_drawn_as_such(draw, tmp_path):
    for frame in (frame_of([]), frame_of([{"status": "failed"}])):
        figure = draw(frame)
        figure.savefig(tmp_path / "a.png")
        assert "no completed runs" in texts(figure)


@pytest.mark.parametrize("draw", [charts.stage_latency, charts.real_time_factor, charts.spread])
def test_any_name_is_drawn_as_it_is_and_every_chart_is_a_wide_picture(draw, tmp_path):
    from PIL import Image

    frame = frame_of([run(audio_model="$\\frac{1}{$ <b>"), run(audio_model="x_{2}^$y$")])
    draw(frame, by="audio_model").savefig(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1080
        assert np.asarray(image.convert("L")).std() > 5


def test_a_column_that_there_is_not_is_refused():
    with pytest.raises(InvalidRequest, match="latency"):
        charts.spread(FRAME, "latency")
    with pytest.raises(InvalidRequest, match="colour"):
        charts.stage_latency(FRAME, by="colour")


def test_matplotlib_pandas_and_scipy_load_only_when_something_is_drawn_or_compared():
    code = "import harmonia_lab.analysis.charts, harmonia_lab.analysis.compare, sys; "
    code += "assert not {'matplotlib', 'pandas', 'scipy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


LONG = [f"facebook/musicgen-{size}-stereo-finetuned-on-{what}-2026" for size in ("small", "medium", "large")
        for what in ("sea-shanties", "brass-bands", "string-quartets")]  # fmt: skip


def overlapping(labels, figure):
    """Pairs of labels that hide each other, measured as matplotlib draws them."""
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    return [(one, other) for i, one in enumerate(boxes) for other in boxes[i + 1 :] if one.overlaps(other)]


def frame_of_groups(count, **columns):
    names = LONG if count == 9 else [f"model-{number}" for number in range(count)]
    return frame_of([run(audio_model=name, **columns) for name in names for _ in range(2)])


@pytest.mark.parametrize("draw", [charts.stage_latency, charts.spread, charts.real_time_factor])
def test_nine_long_names_stay_legible_and_apart(draw):
    figure = draw(frame_of_groups(9), by="audio_model")
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert overlapping(labels, figure) == []
    legend = [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []
    assert len(set(legend)) == len(legend)
    width = figure.bbox.width
    assert all(text.get_window_extent().x0 >= 0 and text.get_window_extent().x1 <= width + 1
               for each in figure.legends for text in each.get_texts())  # fmt: skip


def test_no_two_of_nine_groups_look_alike():
    assert len(set(styles(24))) == 24
    assert len({(colour, marker) for colour, marker, _ in styles(24)}) == 24


@pytest.mark.parametrize("draw", [charts.stage_latency, charts.spread])
def test_a_hundred_groups_are_drawn_as_far_as_there_is_room_and_the_rest_is_counted(draw):
    figure = draw(frame_of_groups(100), by="audio_model")
    assert "76 more groups not drawn: choose fewer" in texts(figure)
    assert figure.get_figheight() < 14


@pytest.mark.parametrize("draw", [charts.stage_latency, charts.spread])
def test_one_run_and_a_hundred_are_both_drawn(draw, tmp_path):
    for count in (1, 100):
        draw(frame_of([run(total_s=6.0 + 0.01 * n) for n in range(count)])).savefig(tmp_path / "a.png")


def test_numbers_are_in_numeric_order_also_as_text_and_what_is_missing_comes_last():
    for values in ([100.0, 9.0, None, 30.0], ["100", "9", None, "30"]):
        frame = pd.DataFrame({"group": values, "total_s": [1.0, 2.0, 3.0, 4.0]})
        (axes,) = charts.spread(frame, by="group").axes
        names = [label.get_text().split("\n")[0] for label in axes.get_xticklabels()]
        assert names[:3] == ["9", "30", "100"]


def test_zeros_are_drawn_and_short_times_have_a_unit_of_their_own():
    (axes,) = charts.spread(frame_of([run(plan_s=0.0), run(plan_s=0.0)]), "plan_s").axes
    assert axes.get_ylim()[1] > 0
    (axes,) = charts.spread(frame_of([run(plan_s=0.02), run(plan_s=0.03)]), "plan_s").axes
    assert axes.get_ylabel() == "plan_s, ms"
    assert [point[1] for point in axes.collections[1].get_offsets()] == [20.0, 30.0]


def test_a_forest_has_a_row_for_each_comparison_and_refuses_a_column_that_one_lacks():
    frame = in_blocks()
    a, b = (frame[frame["configuration"] == name] for name in "ab")
    found = [compare(a, b, primary="cpu_s", names=("a", name)) for name in ("b", "a very long name " * 4)]
    (axes,) = charts.forest(found).axes
    assert [label.get_text().split("\n")[0] for label in axes.get_yticklabels()][1] == "b"
    assert sum(len(line.get_xdata()) == 2 for line in axes.lines) >= 2
    with pytest.raises(InvalidRequest, match="nothing_s"):
        charts.forest(found, "nothing_s")


def luminance(colour):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


HUE_ROTATE = [[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]]
"""`hue-rotate(180deg)`, as CSS's Filter Effects define it."""


def test_a_dark_page_turns_a_chart_around_and_its_words_stand_out_on_both_grounds():
    bundle = charts.blocks(in_blocks(), "cpu_s")._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "invert(1) hue-rotate(180deg)" in bundle["text/html"]
    assert 'alt="Chart: cpu_s, s"' in bundle["text/html"]
    for ink in (INK, GREY):
        assert contrast(to_rgb(ink), (1, 1, 1)) >= 4.5
        dark = np.clip(np.dot(HUE_ROTATE, 1 - np.array(to_rgb(ink))), 0, 1)
        assert contrast(dark, (0, 0, 0)) >= 4.5
