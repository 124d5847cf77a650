"""`harmonia bench decode` on the tiny shapes: what it measures, says and writes. No speed is judged here."""

import json

import pytest

from harmonia_lab.bench import decode
from harmonia_lab.bench.decode_table import table
from harmonia_lab.cli.arguments import make_parser
from harmonia_lab.errors import InvalidRequest

pytestmark = pytest.mark.usefixtures("one_thread")


def bench(*args):
    given = ["bench", "decode", "--device", "cpu", "--runs", "1", "--steps", "2", *args]
    return decode.run(make_parser(given).parse_args(given))


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
    assert {(row["batch"], row["position"]) for row in rows} == {(1, 0), (4, 0), (1, 30), (4, 30)}
    at = {(row["loop"], row["batch"], row["position"]): row for row in rows}
    weights = 4 * (2 * 14 * 64**2 + 4 * 512 * 64)  # 2 layers without the text's keys and values, the heads
    cache = 4 * 2 * 2 * 64 * 2  # bytes a position, with the null prompt, both layers
    assert at["audiocraft", 1, 0]["bytes_per_step"] == weights + 5 * cache
    assert at["audiocraft", 4, 30]["bytes_per_step"] == weights + 35 * 4 * cache
    assert at["fast", 1, 0]["bytes_per_step"] <= at["fast, float32 weights", 1, 0]["bytes_per_step"]
    for row in rows:
        assert row["floor_ms"] > 0
        assert row["times_floor"] > 0


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


@pytest.mark.parametrize(
    "args",
    [
        ("--batches", "17"),
        ("--positions", "-1"),
        ("--size", "huge"),
        ("--device", "tpu"),
        ("--size", ""),
        ("--steps", "0"),
    ],
)
def test_what_cannot_be_measured_is_refused(args):
    with pytest.raises(InvalidRequest):
        bench(*args)
