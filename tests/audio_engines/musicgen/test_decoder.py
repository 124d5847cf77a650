"""The decode loop gives audiocraft's tokens, faster; stops where it is told to; and says when it can't."""

import contextlib
import functools

import pytest
import torch

from harmonia_lab.audio_engines.musicgen.cuda_graph_step import CudaGraphStep, StepShape
from harmonia_lab.audio_engines.musicgen.decoder import Decoder, _Task
from harmonia_lab.audio_engines.musicgen.forward_pass import Sequencer
from harmonia_lab.audio_engines.musicgen.melody_guidance import chroma_rate, guided_by_chroma
from harmonia_lab.audio_engines.musicgen.packed_weights import exact_packing, pack, supported
from harmonia_lab.audio_engines.musicgen.sampling import Sampling
from harmonia_lab.audio_engines.musicgen.step_cache import StepCache
from harmonia_lab.audio_engines.musicgen.windows import generate_windows, plan_windows
from harmonia_lab.errors import AudioError, HarmoniaError, InvalidRequest

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["a calm piano melody over rain", "drums", None]
SIZES = ["tiny", "tiny-stereo", "tiny-melody"]


@pytest.fixture(scope="session")
def decoder(musicgen):
    return functools.cache(lambda size, mode="fast", **how: Decoder(musicgen(size).lm, mode, **how))


def conditions(model, rows):
    return model._prepare_tokens_and_attributes(TEXTS[:rows], None)[0]


def both(model, decoder, rows, *, seed=5, prompt=None, **parameters):
    """The tokens of audiocraft's loop for each prompt alone, and ours for all at once, each from its own stream."""
    theirs = []
    for row, attribute in enumerate(conditions(model, rows)):
        torch.manual_seed(seed + row)
        theirs.append(model.lm.generate(None if prompt is None else prompt[[row]], [attribute], **parameters))
    generators = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    ours = decoder.generate(prompt, conditions(model, rows), generators=generators, **parameters)
    return torch.cat(theirs), ours


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "parameters",
    [
        {"use_sampling": False},
        {},
        {"temp": 0.7, "top_k": 30, "cfg_coef": 5.0},
        {"top_k": 0},
        {"two_step_cfg": True, "cfg_coef": 7.0},
        {"temp": 0.0},
    ],
    ids=str,
)
def test_tokens_are_audiocrafts(musicgen, decoder, size, rows, parameters):
    theirs, ours = both(musicgen(size), decoder(size), rows, max_gen_len=32, **parameters)
    assert theirs.shape == ours.shape
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("greedy", [True, False])
def test_tokens_are_audiocrafts_after_a_prompt(musicgen, decoder, size, greedy):
    model = musicgen(size)
    prompt = torch.randint(0, model.lm.card, (2, model.lm.n_q, 23), generator=torch.Generator().manual_seed(0))
    theirs, ours = both(model, decoder(size), 2, prompt=prompt, max_gen_len=50, use_sampling=not greedy)
    assert torch.equal(theirs, ours)
    assert torch.equal(ours[..., :23], prompt)


@pytest.mark.parametrize(
    ("duration_s", "window_s", "stride_s"),
    [(12, 6, 4), pytest.param(45, 30, 18, marks=pytest.mark.stress)],
    ids=["a short window", "the models' own window"],
)
def test_tokens_are_audiocrafts_beyond_the_window(musicgen, decoder, monkeypatch, duration_s, window_s, stride_s):
    model = musicgen("tiny")
    monkeypatch.setattr(model, "max_duration", float(window_s))
    model.set_generation_params(duration=float(duration_s), extend_stride=stride_s)
    attributes = conditions(model, 1)
    torch.manual_seed(9)
    theirs = model._generate_tokens(attributes, None)
    torch.manual_seed(9)
    seen = []
    ours = generate_windows(
        decoder("tiny"),
        lambda start: attributes,
        frames=duration_s * 50,
        window=window_s * 50,
        stride=stride_s * 50,
        on_step=lambda view: seen.append((view.done, view.total, view.frames)),
    )
    assert torch.equal(theirs, ours)
    done, totals, frames = zip(*seen, strict=True)
    assert list(done) == list(range(1, totals[0] + 1))
    assert set(totals) == {totals[-1]} == {done[-1]}
    assert frames[-1] == duration_s * 50


def test_logits_are_audiocrafts(musicgen, decoder):
    model = musicgen("tiny")
    lm = model.lm
    codes = torch.randint(0, lm.card, (2, lm.n_q, 30), generator=torch.Generator().manual_seed(0))
    ours = decoder("tiny", attend_padding=True).teacher_forced_logits(codes, conditions(model, 2))
    sequence = lm.pattern_provider.get_pattern(30).build_pattern_sequence(codes, lm.special_token_id)[0]
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout

    given = conditions(model, 2)
    tensors = lm.condition_provider(lm.condition_provider.tokenize(given + ClassifierFreeGuidanceDropout(p=1.0)(given)))
    with torch.no_grad():
        with_text, without = lm(torch.cat([sequence, sequence]), [], tensors).chunk(2)  # [B, K, S, card]
    theirs = (without + (with_text - without) * lm.cfg_coef)[:, :, :-1].permute(2, 0, 1, 3)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("parameters", [{"use_sampling": False}, {}, {"top_p": 0.9}, {"two_step_cfg": True}], ids=str)
def test_the_step_that_is_recorded_on_a_gpu_gives_the_same_tokens(musicgen, decoder, size, parameters):
    """Its buffers, its order and torch's twins of its kernels; here it runs unrecorded, and twice over one step's
    buffers, as a second song does.

    The seed is one with which no choice turns on a millionth of a logit (the least margin is 4e-6, of seeds 3 to 19):
    the two sides sum in different orders, and with top-p a token that is as likely as its neighbour takes its place."""
    model, fast = musicgen(size), decoder(size)
    held = None
    for texts, frames in ((TEXTS[:2], 30), (TEXTS[1:3], 24)):
        attributes = model._prepare_tokens_and_attributes(texts, None)[0]
        torch.manual_seed(14)
        expected = fast.generate(None, attributes, max_gen_len=frames, **parameters)
        sampling = Sampling(parameters.get("use_sampling", True), top_p=parameters.get("top_p", 0.0))
        task = _Task(None, attributes, frames, sampling, None, parameters.get("two_step_cfg"), None)
        pattern = fast._pattern(frames)
        torch.manual_seed(14)
        with torch.inference_mode():
            given = fast._conditions(task)
            shape = fast._shape(task, pattern, given)
            assert held is None or held.shape.serves(shape)
            held = held or CudaGraphStep(fast._weights, shape, fast._positions(shape.positions))
            sequencer: Sequencer = fast._sequencer(fast._weights, task, pattern, given, held)
            sequencer.prefill(1)
            held.load(sequencer, 1)
            for _ in range(1, pattern.steps):
                held.advance()
            assert torch.equal(pattern.codes(sequencer.sequence, 0, frames), expected)


class Unrecordable:
    """Stands in for a recorded step: what a GPU does where Triton, or graphs altogether, don't work."""

    def __init__(self, *fails):
        self.fails, self.kernels = list(fails), "triton"

    def load(self, sequencer, first):
        pass

    def prepare(self):
        error = self.fails.pop(0)
        if error is not None:
            raise error

    def use_torch(self):
        if self.kernels == "torch":
            return False
        self.kernels = "torch"
        return True

    def replay(self, first, steps, generators):
        yield from range(first, steps)


class Stepwise:
    """Stands in for a sequencer that runs step by step."""

    def __init__(self):
        self.steps = []

    def advance(self, step):
        self.steps.append(step)


NO_COMPILER = RuntimeError("Failed to find C compiler.")


@pytest.mark.parametrize(
    ("fails", "kernels", "alone", "said"),
    [
        ([None], "triton", [], ""),
        ([NO_COMPILER, None], "torch", [], "from torch's operations, not from Triton's kernels: RuntimeError: Failed"),
        ([NO_COMPILER, NO_COMPILER], "torch", [3, 4], "are not replayed from a CUDA graph: RuntimeError: Failed"),
    ],
)
def test_steps_that_cannot_be_recorded_run_in_the_next_best_way_and_say_so(musicgen, fails, kernels, alone, said):
    mine, held, sequencer = Decoder(musicgen("tiny").lm), Unrecordable(*fails), Stepwise()
    assert list(mine._run(sequencer, held, 3, 5, None)) == [3, 4]
    assert (held.kernels, sequencer.steps) == (kernels, alone)
    assert said in mine.reason
    assert mine.graphs  # tried again with the next song, once


def test_recording_is_given_up_after_two_songs_and_never_for_a_lack_of_memory(musicgen):
    mine = Decoder(musicgen("tiny").lm)
    with pytest.raises(torch.OutOfMemoryError):
        list(mine._run(Stepwise(), Unrecordable(torch.OutOfMemoryError("out of memory")), 3, 5, None))
    assert mine.graphs
    for _ in range(2):
        assert mine.graphs
        list(mine._run(Stepwise(), Unrecordable(NO_COMPILER, NO_COMPILER), 3, 5, None))
    assert not mine.graphs


def test_a_model_that_is_not_activated_by_gelu_is_known_as_such(musicgen, monkeypatch):
    lm = musicgen("tiny").lm
    assert Decoder(lm)._weights.gelu
    monkeypatch.setattr(lm.transformer.layers[1], "activation", torch.nn.functional.relu)
    assert not Decoder(lm)._weights.gelu


def test_the_kept_step_is_one_songs_alone_and_not_kept_after_a_lack_of_memory(musicgen, decoder, monkeypatch):
    fast = decoder("tiny")
    monkeypatch.setattr(CudaGraphStep, "recorded", True)
    steps = StepCache(fast._weights, fast._positions)
    shape = StepShape(1, (2,), 256, 256, 32, 3.0, Sampling(), 0)
    with steps.lease(shape) as first:
        assert steps.bytes == 0
        with steps.lease(shape) as second:
            assert second is not first
    with steps.lease(shape._replace(steps=200)) as again:
        assert again is first  # the later one to end
    assert steps.bytes == 2 * 2 * 2 * 256 * 64 * 4
    with steps.lease(shape._replace(coef=5.0)) as other:
        assert other is not again
    with pytest.raises(ValueError, match="listener"), steps.lease(shape._replace(coef=5.0)):
        raise ValueError("what a listener raises")
    assert steps.bytes
    with pytest.raises(MemoryError), steps.lease(shape._replace(coef=5.0)):
        raise MemoryError
    assert steps.bytes == 0
    steps.release()


def test_a_recorded_step_serves_what_is_shorter_and_otherwise_alike():
    shape = StepShape(2, (4,), 512, 768, 32, 3.0, Sampling(), 2)
    assert shape.serves(shape._replace(steps=256))
    for other in (
        {"steps": 768}, {"text": 64}, {"text": 0}, {"prompts": 1}, {"coef": 2.0}, {"sampling": Sampling(top_k=3)},
        {"generators": 0}, {"positions": 1024}, {"passes": (2, 2)},
    ):  # fmt: skip
        assert not shape.serves(shape._replace(**other)), other


def test_a_generator_per_row_makes_rows_independent_of_their_neighbours(musicgen, decoder):
    model, fast = musicgen("tiny"), decoder("tiny")
    texts = ["drums", "drums", "drums"]
    attributes = model._prepare_tokens_and_attributes(texts, None)[0]

    def rows(seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return fast.generate(None, attributes[: len(seeds)], max_gen_len=30, generators=generators)

    together, alone, turned = rows([1, 2, 3]), rows([2]), rows([3, 1, 2])
    assert torch.equal(together[1], alone[0])
    assert torch.equal(turned, together[[2, 0, 1]])
    assert not torch.equal(together[0], together[1])


def test_a_single_generator_is_drawn_from_as_the_global_one_in_both_loops(musicgen, decoder):
    model = musicgen("tiny")
    torch.manual_seed(11)
    theirs = model.lm.generate(None, conditions(model, 2), max_gen_len=20)
    for mode in ("fast", "reference"):
        state = torch.get_rng_state()
        generator = torch.Generator().manual_seed(11)
        batch = decoder("tiny", mode, attend_padding=True)
        codes = batch.generate(None, conditions(model, 2), max_gen_len=20, generators=generator)
        assert torch.equal(codes, theirs)
        assert torch.equal(torch.get_rng_state(), state)


def test_what_a_callback_raises_ends_the_generation_within_a_step_and_the_decoder_goes_on(musicgen, decoder):
    model, fast = musicgen("tiny"), decoder("tiny")
    calls = []

    def stop(view):
        calls.append(view.done)
        if view.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fast.generate(None, conditions(model, 1), max_gen_len=40, on_step=stop)
    assert calls == [1, 2, 3, 4, 5, 6, 7]
    theirs, ours = both(model, fast, 1, max_gen_len=20)
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("size", ["tiny", "tiny-stereo"])
def test_frames_are_handed_out_as_they_are_completed(musicgen, decoder, size):
    model, fast = musicgen(size), decoder(size)
    parts, frames = [], [0]

    def take(view):
        parts.append(view.codes(frames[-1], view.total))
        frames.append(view.frames)
        assert parts[-1].shape[-1] == frames[-1] - frames[-2]

    codes = fast.generate(None, conditions(model, 2), max_gen_len=25, on_step=take)
    assert torch.equal(torch.cat(parts, -1), codes)
    assert frames[5] > 0


def test_the_whole_piece_can_be_read_from_any_window(musicgen, decoder):
    model, fast = musicgen("tiny"), decoder("tiny")
    prompt = torch.randint(0, 512, (1, 4, 12), generator=torch.Generator().manual_seed(0))
    last = {}
    codes = generate_windows(
        fast,
        lambda start: conditions(model, 1),
        frames=70,
        window=30,
        stride=18,
        prompt=prompt,
        on_step=lambda view: last.update(codes=view.codes(0, view.frames)),
    )
    assert codes.shape == (1, 4, 70)
    assert torch.equal(codes[..., :12], prompt)
    assert torch.equal(last["codes"], codes)


@pytest.mark.parametrize(("frames", "prompt"), [(10, 0), (30, 0), (31, 0), (49, 3), (200, 29), (200, 30), (200, 77)])
def test_windows_cover_the_piece_once(frames, prompt):
    windows = plan_windows(frames, window=30, stride=18, prompt=prompt)
    at = prompt
    for window in windows:
        assert window.start + window.known == at
        assert window.known < window.length <= 30
        at = window.start + window.length
    assert at == frames


def test_a_melody_guides_both_loops_alike_and_leaves_no_trace(musicgen, decoder):
    model = musicgen("tiny-melody")
    assert chroma_rate(model.lm) == pytest.approx(32000 / 4096)
    up = torch.eye(12)[torch.arange(40) % 12]
    down = up.flip(0)

    def tokens(mode, chroma):
        attributes = conditions(model, 2)
        with guided_by_chroma(model.lm, attributes, chroma):
            batch = decoder("tiny-melody", mode, attend_padding=True)
            return batch.generate(None, attributes, max_gen_len=20, use_sampling=False)

    fast = decoder("tiny-melody", "fast", attend_padding=True)
    plain = fast.generate(None, conditions(model, 2), max_gen_len=20, use_sampling=False)
    guided = tokens("fast", [up, down])
    assert torch.equal(guided, tokens("reference", [up, down]))
    assert torch.equal(tokens("fast", [None, down])[1], guided[1])
    assert torch.equal(tokens("fast", [None, down])[0], plain[0])
    assert not torch.equal(guided[0], plain[0])
    assert not torch.equal(guided[1], plain[1])
    assert torch.equal(fast.generate(None, conditions(model, 2), max_gen_len=20, use_sampling=False), plain)


def test_a_melody_goes_on_from_window_to_window_in_both_loops_alike(musicgen, decoder):
    model = musicgen("tiny-melody")
    melody = torch.eye(12)[torch.randint(0, 12, (20,), generator=torch.Generator().manual_seed(0))]

    def tokens(mode):
        with contextlib.ExitStack() as guides:

            def conditions_at(start):
                guides.close()
                attributes = conditions(model, 2)
                ahead = melody.roll(-round(start / 50 * chroma_rate(model.lm)), 0)
                guides.enter_context(guided_by_chroma(model.lm, attributes, [ahead, None]))
                return attributes

            torch.manual_seed(4)
            how = {"frames": 70, "window": 30, "stride": 18}
            return generate_windows(decoder("tiny-melody", mode, attend_padding=True), conditions_at, **how)

    assert torch.equal(tokens("fast"), tokens("reference"))


def test_a_melody_for_a_model_without_a_conditioner_is_refused(musicgen):
    model = musicgen("tiny")
    with (
        pytest.raises(AudioError, match="no melody conditioner"),
        guided_by_chroma(model.lm, conditions(model, 1), [None]),
    ):
        pass


def test_int8_is_close_and_never_chosen_unasked(musicgen, decoder):
    model = musicgen("tiny")
    codes = torch.randint(0, 512, (2, 4, 30), generator=torch.Generator().manual_seed(0))
    exact = decoder("tiny", "auto").teacher_forced_logits(codes, conditions(model, 2))
    rounded = decoder("tiny", "int8").teacher_forced_logits(codes, conditions(model, 2))
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < 0.2
    assert "int8" not in decoder("tiny", "auto").packings
    assert decoder("tiny", "int8").packings["int8"] == 12


def test_an_unknown_layout_falls_back_to_audiocrafts_loop_and_says_so(musicgen):
    musicgen("tiny")  # audiocraft is loaded
    from audiocraft.models.lm import LMModel
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
    from audiocraft.modules.conditioners import ConditionFuser, ConditioningAttributes, ConditioningProvider

    fuser = ConditionFuser({"cross": [], "prepend": [], "sum": [], "input_interpolate": []})
    lm = LMModel(DelayedPatternProvider(2), ConditioningProvider({}), fuser, n_q=2, card=300, dim=16, num_heads=2,
                 num_layers=1, custom=True, causal=True).eval()  # fmt: skip
    decoder = Decoder(lm, "fast")
    assert decoder.running == "reference"
    assert "bias" in decoder.reason
    assert decoder.generate(None, [ConditioningAttributes()], max_gen_len=4).shape == (1, 2, 4)


@pytest.mark.parametrize(
    "parameters", [{"top_k": 513}, {"top_k": -1}, {"top_p": 1.5}, {"prompt": torch.zeros(1, 4, 20, dtype=torch.long)}]
)
def test_parameters_out_of_range_are_refused_before_anything_runs(musicgen, decoder, parameters):
    model = musicgen("tiny")
    with pytest.raises(InvalidRequest):
        decoder("tiny").generate(**{"prompt": None} | parameters, conditions=conditions(model, 1), max_gen_len=20)


def test_an_unknown_decoder_is_refused(musicgen):
    with pytest.raises(HarmoniaError, match="no decoder"):
        Decoder(musicgen("tiny").lm, "quick")


def test_half_packing_is_chosen_only_where_it_is_exact():
    exact = torch.randn(32, 64).half().float()
    assert exact_packing(exact) == ("half" if supported("half") else "onednn")
    assert exact_packing(exact * (1 + 2**-20)) != "half"
    assert exact_packing(exact * 1e6) != "half"
    assert exact_packing(exact.double()) == "dense"


@pytest.mark.parametrize("packing", ["dense", "onednn", "half"])
def test_packed_products_are_float32_products(packing):
    if not supported(packing):
        with pytest.raises(AudioError):
            pack(torch.ones(8, 8), packing)
        return
    weight = torch.randn(96, 160, generator=torch.Generator().manual_seed(0)).half().float()
    for rows in (1, 2, 8):
        x = torch.randn(rows, 160, generator=torch.Generator().manual_seed(rows))
        torch.testing.assert_close(
            pack(weight, packing)(x), (x.double() @ weight.double().T).float(), atol=2e-5, rtol=1e-5
        )
