"""A step made of the torch kernels is the step of `forward_pass.py`."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it

from harmonia_lab.audio_engines.musicgen import cuda_graph_step
from harmonia_lab.audio_engines.musicgen.conditions import Aligned, Conditions
from harmonia_lab.audio_engines.musicgen.cuda_graph_step import CudaGraphStep, StepShape
from harmonia_lab.audio_engines.musicgen.forward_pass import ForwardPass, Sequencer
from harmonia_lab.audio_engines.musicgen.kernel_plans import kernel_plan
from harmonia_lab.audio_engines.musicgen.lm_weights import Attention, Layer, Norm
from harmonia_lab.audio_engines.musicgen.sampling import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")

HEADS, CODEBOOKS, CARD, STEPS = 2, 4, 512, 24


class TinyWeights:
    """What `lm_weights.Weights` has, at random."""

    compiled = False

    def __init__(self, dim, layers, dtype):
        generator = torch.Generator().manual_seed(1)

        def new(*shape):
            return (torch.randn(*shape, generator=generator) / shape[-1] ** 0.5).to(dtype)

        def norm():
            return Norm(1 + new(dim).float(), new(dim).float(), 1e-5)

        def linear(weight):
            return lambda x: F.linear(x, weight)

        def attention(into, keys_values=None):
            dense_into, out = new(into, dim), new(dim, dim)
            return Attention(norm(), linear(dense_into), linear(out), dense_into, out, keys_values)

        def layer():
            up, down = new(4 * dim, dim), new(dim, 4 * dim)
            cross = attention(dim, new(2 * dim, dim))
            return Layer(attention(3 * dim), cross, norm(), linear(up), linear(down), F.gelu, up, down)

        self.dtype = dtype
        self.layers = [layer() for _ in range(layers)]
        self.dense_heads = new(CODEBOOKS * CARD, dim)
        self.heads = linear(self.dense_heads)
        self.embeddings = new(CODEBOOKS * (CARD + 1), dim).float()
        self.codebook_offsets = torch.arange(CODEBOOKS) * (CARD + 1)
        self.norm = norm()
        self.n_heads, self.dim, self.codebooks, self.card = HEADS, dim, CODEBOOKS, CARD


def held(made, splits, monkeypatch):
    """The step that is recorded on a GPU, in place of `made`'s own; it goes on after the prefill."""
    monkeypatch.setattr(cuda_graph_step, "_splits", lambda *_: splits)
    (part,) = made.passes
    shape = StepShape(
        made.known.shape[1], (part.rows,), STEPS, part.positions, 32, made.coef, made.sampling,
        0 if made.noise is None else made.known.shape[1],
    )  # fmt: skip
    step = CudaGraphStep(made.weights, shape, made.table)
    for cache, filled in zip(step.caches()[0], part.caches, strict=True):
        cache.both.copy_(filled.both)
    if made.noise is not None:
        step._noise = made.noise
    step.load(made, 4)
    return step


def sequencer(prompts, *, dim=64, lead=3, dtype=torch.float32, sampling=None, seed=7, uneven=False):
    """uneven: each prompt's text, and what comes before its sequence, is shorter than that of the one before."""
    weights = TinyWeights(dim, 2, dtype)
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(2 * prompts, 5, dim, generator=generator).to(dtype)
    before = torch.randn(2 * prompts, lead, dim, generator=generator).to(dtype) if lead else None
    begins = 2 * tuple(range(prompts)) if uneven else 2 * prompts * (0,)
    prefix = Aligned(before, tuple(min(each, lead) for each in begins)) if before is not None else None
    part = ForwardPass(weights, Conditions(Aligned(text, begins), prefix, 2 * prompts, prompts), STEPS)
    known = torch.full((STEPS, prompts, CODEBOOKS), -1)
    known[:4] = torch.randint(CARD, (4, prompts, CODEBOOKS), generator=generator)
    known[6, :, 1] = CARD  # a place that the pattern leaves empty
    table = torch.randn(part.positions, dim, generator=generator)
    made = Sequencer(
        [part],
        known,
        table,
        coef=3.0,
        sampling=sampling or Sampling(use_sampling=False),
        generators=[torch.Generator().manual_seed(seed + prompt) for prompt in range(prompts)],
    )
    made.prefill(4)
    return made


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("prompts", [1, 4])
@pytest.mark.parametrize("lead", [0, 3])
@pytest.mark.parametrize("splits", [1, 4])
def test_a_step_of_kernels_has_the_logits_of_a_step_of_decoding(prompts, lead, splits, uneven, monkeypatch):
    with torch.inference_mode():
        theirs, ours = (sequencer(prompts, lead=lead, uneven=uneven) for _ in range(2))
        step = held(ours, splits, monkeypatch)
        for number in range(4, STEPS):
            step.advance()
            torch.testing.assert_close(step._logits, theirs.logits(number), rtol=1e-5, atol=1e-5)
            theirs.advance(number)
        assert torch.equal(ours.sequence, theirs.sequence)
        torch.testing.assert_close(ours.total, theirs.total, rtol=1e-5, atol=1e-2)
        assert ours.total is step.total
        for cache, written in zip(step.caches()[0], theirs.passes[0].caches, strict=True):
            torch.testing.assert_close(cache.both, written.both, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_k", [0, 30, 250, CARD])
@pytest.mark.parametrize("temp", [1.0, 0.7])
def test_kernels_draw_the_tokens_that_decoding_draws(top_k, temp, monkeypatch):
    with torch.inference_mode():
        theirs, ours = (sequencer(2, sampling=Sampling(temp=temp, top_k=top_k)) for _ in range(2))
        step = held(ours, 2, monkeypatch)
        for number in range(4, STEPS):
            step.advance()
            theirs.advance(number)
        assert torch.equal(ours.sequence, theirs.sequence)
        assert (ours.sequence[6, :, 1] == CARD).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernels_round_where_decoding_rounds(dtype, monkeypatch):
    with torch.inference_mode():
        theirs, ours = sequencer(1, dtype=dtype), sequencer(1, dtype=dtype)
        step = held(ours, 1, monkeypatch)
        step.advance()
        expected = theirs.logits(4)
        # Only attention differs: torch's own may keep its weights in the model's type.
        torch.testing.assert_close(step._logits, expected, rtol=0, atol=16 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dim", [64, 1024, 1536, 2048])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_plans_cut_every_matrix_of_a_model_into_whole_tiles(dim, itemsize):
    for outputs, inputs in [(dim, dim), (3 * dim, dim), (4 * dim, dim), (dim, 4 * dim), (8192, dim), (16384, dim)]:
        chosen = kernel_plan(outputs, inputs, itemsize)
        assert outputs % chosen.rows == 0
        assert chosen.width >= inputs or inputs % chosen.width == 0
        assert chosen.rows * chosen.width * itemsize <= 32768


def test_what_no_tile_divides_is_refused():
    with pytest.raises(ValueError, match="columns"):
        kernel_plan(1024, 5000, 2)
