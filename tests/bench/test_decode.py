"""`harmonia bench decode` on the tiny shapes: what it measures, says and writes. No speed is judged here."""

import json

import pytest

from harmonia_lab.bench import decode, decode_limits, progress
from harmonia_lab.bench.decode_loops import DecoderLoop
from harmonia_lab.bench.decode_table import table
from harmonia_lab.cli.arguments import make_parser
from harmonia_lab.errors import InvalidRequest

pytestmark = pytest.mark.usefixtures("one_thread")


def bench(*args):
    given = ["bench", "decode", "--device", "cpu", "--runs", "1", "--steps", "2", *args]
    return decode.run(make_parser(given).parse_args(given))


@pytest.fixture(scope="module", autouse=True)
def small_reads():
    """No speed is judged here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decode_limits, "CPU_ELEMENTS", 2**18)
        yield


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "decode.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decode, "WINDOW", 10)
        patched.setattr(decode, "PIECE", 16)
        assert bench("--size", "tiny,tiny-melody", "--positions", "0,30", "--json", str(path)) == 0
    return json.loads(path.read_text())


def test_several_shapes_are_measured_in_one_run(figures):
    assert [model["model"] for model in figures["models"]] == ["tiny, random weights", "tiny-melody, random weights"]
    assert figures["device"] == "cpu"
    assert figures["driver"] is None
    assert figures["versions"]["torch"]


def test_every_loop_has_its_floor_beside_it(figures):
    rows = figures["models"][0]["rows"]
    assert {row["loop"] for row in rows} == {
        "audiocraft", "transformers", "fast", "fast, float32 weights", "int8",
    }  # fmt: skip
    assert {(row["batch"], row["position"]) for row in rows} == {(1, 0), (4, 0), (1, 30)}
    at = {(row["loop"], row["batch"], row["position"]): row for row in rows}
    layers, heads = 2 * 14 * 64**2, 4 * 512 * 64  # without the text's keys and values
    cache = 4 * 2 * 2 * 64 * 2  # bytes a position, with the null prompt, both layers
    assert at["audiocraft", 1, 30]["bytes_per_step"] == 4 * (layers + heads) + 35 * cache
    assert at["audiocraft", 4, 0]["bytes_per_step"] == 4 * (layers + heads) + 5 * 4 * cache
    assert at["audiocraft", 1, 30]["multiply_adds_per_step"] == 2 * (layers + heads + 2 * 35 * 64 * 2)
    assert at["fast", 1, 30]["multiply_adds_per_step"] == 2 * layers + heads + 2 * 2 * 35 * 64 * 2
    assert at["fast", 1, 0]["bytes_per_step"] <= at["fast, float32 weights", 1, 0]["bytes_per_step"]
    for row in rows:
        assert row["floor_ms"] == pytest.approx(max(row["floor_bytes_ms"], row["floor_arithmetic_ms"]))
        assert row["times_floor"] > 0
        assert row["bandwidth_gb_per_s"]["median"] > 0
        assert row["multiply_adds_g_per_s"]["median"] > 0


def test_transformers_is_left_out_where_it_has_another_class_for_the_model(figures):
    assert all(row["loop"] != "transformers" for row in figures["models"][1]["rows"])


def test_tokens_are_compared_beyond_a_window_too_and_are_audiocrafts(figures):
    for model in figures["models"]:
        assert any(compared["frames"] > compared["window"] for compared in model["tokens"])
        assert all(compared["same"] for compared in model["tokens"]), model["tokens"]


def test_a_preview_is_the_whole_decode_and_its_delay_is_measured(figures):
    for model in figures["models"]:
        assert model["preview"]["relative_error"] <= 1e-6
        assert model["preview"]["first_s"] > 0


def test_the_table_says_it_all(figures):
    text = table(figures)
    for said in (
        "tiny, random weights",
        "× audiocraft",
        "tokens as audiocraft's",
        "preview, fast",
        "logits, int8",
        "torch",
    ):
        assert said in text


def test_an_interrupt_keeps_the_rounds_that_are_complete(tmp_path, monkeypatch, capsys):
    path = tmp_path / "decode.json"
    run, calls = DecoderLoop.run, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) > 3 * 3 + 1:  # the warm-up, two rounds of three loops, and into the third
            raise KeyboardInterrupt
        run(*args)

    monkeypatch.setattr(DecoderLoop, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench("--size", "tiny", "--positions", "0", "--batches", "1", "--runs", "4", "--json", str(path))
    (model,) = json.loads(path.read_text())["models"]
    assert (model["rounds"], model["rounds_asked"]) == (2, 4)
    assert model["tokens"] == []
    printed = capsys.readouterr()
    assert "2 of 4 rounds" in printed.out
    assert "round 2 of 4" in printed.err or "warm-up" in printed.err
    assert not list(tmp_path.glob("*.partial"))


def test_rounds_that_the_time_leaves_no_room_for_are_left_out(musicgen, monkeypatch, capsys):
    monkeypatch.setattr(decode, "WINDOW", 10)
    monkeypatch.setattr(decode, "PIECE", 16)
    kept = []
    measurement = decode.Measurement(musicgen("tiny"), 50, [0], [1], 1)
    measurement.run(0.0, lambda: kept.append(measurement.figures()["rounds"]))
    assert kept[0] == len(measurement.rounds) == 1
    assert len(measurement.figures()["tokens"]) == 2  # one comparison, of both exact loops
    assert "left out: the time is up" in capsys.readouterr().err


def test_the_time_left_is_what_such_tasks_took_before(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    with progress.BenchProgress(["a", "b", "a", "b", "c"]) as shown:
        assert shown.left_s() == 0
        for seconds in (3, 1):
            shown.run("work", lambda seconds=seconds: clock.__setitem__(0, clock[0] + seconds))
        assert shown.left_s() == 3 + 1 + 2
        clock[0] += progress.LINE_S
        shown.run("more work", lambda: None)
        shown.drop(lambda key: key == "b")
        assert shown.left_s() == pytest.approx((0 + 1) / 2)
    assert capsys.readouterr().err.splitlines() == ["  0 %  work", " 40 %  more work, about 6 s left"]


@pytest.mark.parametrize(
    "args",
    [
        ("--batches", "17"),
        ("--positions", "-1"),
        ("--size", "huge"),
        ("--device", "tpu"),
        ("--size", ""),
        ("--steps", "0"),
        ("--minutes", "0"),
    ],
)
def test_what_cannot_be_measured_is_refused(args):
    with pytest.raises(InvalidRequest):
        bench(*args)
