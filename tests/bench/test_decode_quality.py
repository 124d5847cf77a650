"""The comparison that `harmonia bench decode` makes: with real models, whose ties it must tell from defects."""

import pytest

from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.sampling import Sampling
from harmonia_lab.bench.decode_quality import ALLOWED_MARGIN, compare_logits, compare_tokens

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["a calm piano melody over rain", "epic strings and brass", "lofi hip hop drums", "solo violin lament"]
WAYS = {"greedy": Sampling(use_sampling=False), "top-k": Sampling(), "top-p": Sampling(top_p=0.9)}


@pytest.fixture(scope="module")
def fast(musicgen):
    return {size: Decoder(musicgen(size).lm, "fast") for size in ("tiny", "tiny-stereo", "tiny-melody")}


@pytest.mark.parametrize(
    ("size", "rows", "way"),
    [
        ("tiny", 1, "greedy"), ("tiny", 4, "top-k"), ("tiny", 1, "top-p"),
        ("tiny-stereo", 4, "greedy"), ("tiny-stereo", 1, "top-k"), ("tiny-stereo", 4, "top-p"),
        ("tiny-melody", 1, "greedy"), ("tiny-melody", 4, "top-k"), ("tiny-melody", 1, "top-p"),
    ],
)  # fmt: skip
def test_tokens_are_audiocrafts_over_several_windows_and_after_a_prompt(musicgen, fast, size, rows, way):
    found = compare_tokens(
        musicgen(size), fast[size], TEXTS[:rows], frames=64, prompt_frames=7, window=30, sampling=WAYS[way]
    )
    assert found["same"], found["differences"]
    assert found["tokens"] == rows * musicgen(size).lm.n_q * 64
    # With top-p, neighbours in rank are often equal to 1e-6. With top-k a tie is rare: it was seen once, in one row of
    # four, where the same weights and seeds had none before and after.
    assert way == "top-p" or len(found["differences"]) <= (0 if way == "greedy" else 1), found["differences"]


def test_a_tie_is_reported_with_its_margin(musicgen, fast):
    """Ranks of a nucleus of some 450 tokens lie close: one in a thousand choices is within 1e-5 of another."""
    found = [
        compare_tokens(
            musicgen("tiny-stereo"), fast["tiny-stereo"], TEXTS, frames=40, sampling=WAYS["top-p"], seed=seed
        )
        for seed in range(4)
    ]
    assert all(each["same"] for each in found), found
    for each in found:
        for difference in each["differences"]:
            assert difference["margin"] < ALLOWED_MARGIN
            assert difference["tokens"][0] != difference["tokens"][1]


def test_a_defect_is_no_tie(musicgen):
    """A loop whose weights are a little off draws other tokens, by margins that no rounding explains."""
    model = musicgen("tiny")
    rounded = Decoder(model.lm, "int8")
    for way in WAYS.values():
        found = compare_tokens(model, rounded, TEXTS, frames=60, window=25, sampling=way)
        assert not found["same"]
        assert max(each["margin"] for each in found["differences"]) > 10 * ALLOWED_MARGIN


def test_a_model_is_left_as_it_was(musicgen, fast):
    model = musicgen("tiny")
    model.set_generation_params(duration=7, top_k=3)
    before = model.max_duration, model.duration, model.extend_stride, dict(model.generation_params)
    compare_tokens(model, fast["tiny"], TEXTS[:1], frames=12, window=10, sampling=WAYS["top-k"])
    assert (model.max_duration, model.duration, model.extend_stride, model.generation_params) == before


def test_the_cost_of_a_precision_is_measured(musicgen, fast):
    exact = compare_logits(musicgen("tiny"), fast["tiny"], TEXTS[:2], frames=20)
    rounded = compare_logits(musicgen("tiny"), Decoder(musicgen("tiny").lm, "int8"), TEXTS[:2], frames=20)
    assert exact["rms_error"] < 1e-5 < rounded["rms_error"] < 0.2
    assert exact["argmax_agreement"] > 0.999
