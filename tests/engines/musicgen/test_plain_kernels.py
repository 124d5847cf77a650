"""A step made of the plain kernels is the step that `decoding.py` takes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it

from harmonia_lab.engines.musicgen import plain_kernels as kernels
from harmonia_lab.engines.musicgen.decoding import Pass, Sequencer
from harmonia_lab.engines.musicgen.kernel_plans import PLANS, Partial, Plan, plan
from harmonia_lab.engines.musicgen.lm_weights import Attention, Layer, Norm
from harmonia_lab.engines.musicgen.sampling import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")

HEADS, CODEBOOKS, CARD, STEPS = 2, 4, 512, 24


class TinyWeights:
    """What `lm_weights.Weights` has, at random."""

    def __init__(self, dim, layers, dtype):
        generator = torch.Generator().manual_seed(1)

        def new(*shape):
            return (torch.randn(*shape, generator=generator) / shape[-1] ** 0.5).to(dtype)

        def norm():
            return Norm(1 + new(dim), new(dim), 1e-5)

        def linear(weight):
            return lambda x: F.linear(x, weight)

        def attention(into, keys_values=None):
            dense_into, out = new(into, dim), new(dim, dim)
            return Attention(norm(), linear(dense_into), linear(out), dense_into, out, keys_values)

        def layer():
            up, down = new(4 * dim, dim), new(dim, 4 * dim)
            cross = attention(dim, new(2 * dim, dim))
            return Layer(attention(3 * dim), cross, norm(), linear(up), linear(down), F.gelu, up, down)

        self.layers = [layer() for _ in range(layers)]
        self.dense_heads = new(CODEBOOKS * CARD, dim)
        self.heads = linear(self.dense_heads)
        self.embeddings = new(CODEBOOKS * (CARD + 1), dim)
        self.codebook_offsets = torch.arange(CODEBOOKS) * (CARD + 1)
        self.norm = norm()
        self.n_heads, self.dim, self.codebooks, self.card = HEADS, dim, CODEBOOKS, CARD


class Step:
    """A step of a sequencer with one pass, made of the kernels. splits: of own attention."""

    def __init__(self, sequencer, splits):
        self.sequencer, self.weights, (self.part,) = sequencer, sequencer.weights, sequencer.passes
        rows, dim, dtype = self.part.rows, self.weights.dim, self.weights.embeddings.dtype
        self.x, self.query = torch.empty(rows, dim, dtype=dtype), torch.empty(rows, dim, dtype=dtype)
        self.hidden = torch.empty(rows, 4 * dim, dtype=dtype)
        self.logits = torch.empty(sequencer.known.shape[1], CODEBOOKS, CARD)
        self.own = Partial.allocate(rows, HEADS, splits, dim // HEADS, "cpu")
        self.cross = Partial.allocate(rows, HEADS, 1, dim // HEADS, "cpu")
        self.caches = [cache._both.clone() for cache in self.part.caches]
        self.texts = [torch.stack(text, 1) for text in self.part.text]
        self.length = torch.tensor([self.texts[0].shape[3]])

    def run(self, step, temp=1.0, top_k=0):
        sequencer, weights, x = self.sequencer, self.weights, self.x
        sequence, lead = sequencer.sequence, self.part.lead
        at = torch.tensor([step])
        kernels.embed(sequence, at, weights.embeddings, weights.codebook_offsets, sequencer.table, lead, x)
        for layer, cache, text in zip(weights.layers, self.caches, self.texts, strict=True):
            own, cross = layer.own, layer.cross
            kernels.norm_project_cache(x, own.norm, own.dense_into, self.query, cache, at, lead)
            kernels.attend(self.query, cache, at, lead, self.own)
            kernels.project_attended(self.own, own.dense_out, x)
            kernels.norm_project(x, cross.norm, cross.dense_into, self.query)
            kernels.attend(self.query, text, self.length, 0, self.cross)
            kernels.project_attended(self.cross, cross.dense_out, x)
            kernels.norm_project(x, layer.norm, layer.dense_up, self.hidden, gelu=True)
            kernels.project(self.hidden, layer.dense_down, x)
        flat = self.logits.view(len(self.logits), -1)
        kernels.guided_logits(x, weights.norm, weights.dense_heads, sequencer.coef, flat)
        noise = sequencer.noise.draw() if sequencer.noise is not None else None
        kernels.sample(self.logits, noise, sequencer.known, sequence, at, temp, top_k)


def sequencer(prompts, *, dim=64, lead=3, dtype=torch.float32, sampling=None, seed=7):
    weights = TinyWeights(dim, 2, dtype)
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(2 * prompts, 5, dim, generator=generator).to(dtype)
    before = torch.randn(2 * prompts, lead, dim, generator=generator).to(dtype) if lead else None
    part = Pass(weights, text, before, 2 * prompts, STEPS)
    known = torch.full((STEPS, prompts, CODEBOOKS), -1)
    known[:4] = torch.randint(CARD, (4, prompts, CODEBOOKS), generator=generator)
    known[6, :, 1] = CARD  # a place that the pattern leaves empty
    table = torch.randn(part.positions, dim, generator=generator).to(dtype)
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


@pytest.mark.parametrize("prompts", [1, 4])
@pytest.mark.parametrize("lead", [0, 3])
@pytest.mark.parametrize("splits", [1, 4])
def test_a_step_of_kernels_has_the_logits_of_a_step_of_decoding(prompts, lead, splits):
    with torch.inference_mode():
        theirs, ours = sequencer(prompts, lead=lead), sequencer(prompts, lead=lead)
        step = Step(ours, splits)
        for number in range(4, STEPS):
            step.run(number)
            torch.testing.assert_close(step.logits, theirs.logits(number), rtol=1e-5, atol=1e-5)
            theirs.advance(number)
        assert torch.equal(ours.sequence, theirs.sequence)
        for cache, written in zip(step.caches, theirs.passes[0].caches, strict=True):
            torch.testing.assert_close(cache, written._both, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_k", [0, 30, 250, CARD])
@pytest.mark.parametrize("temp", [1.0, 0.7])
def test_kernels_draw_the_tokens_that_decoding_draws(top_k, temp):
    with torch.inference_mode():
        theirs, ours = (sequencer(2, sampling=Sampling(temp=temp, top_k=top_k)) for _ in range(2))
        step = Step(ours, 2)
        for number in range(4, STEPS):
            step.run(number, temp, top_k)
            theirs.advance(number)
        assert torch.equal(ours.sequence, theirs.sequence)
        assert (ours.sequence[6, :, 1] == CARD).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernels_round_where_decoding_rounds(dtype):
    with torch.inference_mode():
        theirs, ours = sequencer(1, dtype=dtype), sequencer(1, dtype=dtype)
        step = Step(ours, 1)
        step.run(4)
        expected = theirs.logits(4)
        # Only attention differs: torch's own may keep its weights in the model's type.
        torch.testing.assert_close(step.logits, expected, rtol=0, atol=16 * torch.finfo(dtype).eps)


def test_an_empty_split_has_no_weight():
    query, cache = torch.randn(1, 64), torch.randn(1, 2, HEADS, 9, 32)
    partial = Partial.allocate(1, HEADS, 4, 32, "cpu")
    kernels.attend(query, cache, torch.tensor([2]), 0, partial)
    assert partial.top[..., 2:].eq(-torch.inf).all()
    assert not partial.total[..., 2:].any()
    assert not partial.out[..., 2:, :].any()
    assert partial.total[..., :2].eq(1).all()


@pytest.mark.parametrize("dim", [64, 1024, 1536, 2048])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("processors", [58, 132])
@pytest.mark.parametrize("rows", [1, 8])
def test_plans_cut_every_matrix_of_a_model_into_whole_blocks(dim, itemsize, processors, rows):
    for outputs, inputs in [(dim, dim), (3 * dim, dim), (4 * dim, dim), (dim, 4 * dim), (8192, dim), (16384, dim)]:
        chosen = plan(outputs, inputs, itemsize, processors, rows)
        assert outputs % chosen.block(itemsize) == 0
        assert inputs % chosen.chunk == 0
        assert chosen.height(itemsize) * chosen.chunk * itemsize == chosen.warps * 32 * 16
        assert chosen.height(itemsize) <= 32


def test_a_plan_can_be_set_for_one_matrix(monkeypatch):
    monkeypatch.setitem(PLANS, (1024, 1024), Plan(8, 256, 1))
    assert plan(1024, 1024, 2, 132, 2) == Plan(8, 256, 1)
    assert plan(1024, 1024, 2, 132, 8) != Plan(8, 256, 1)
    assert plan(1024, 1024, 4, 132, 2) != Plan(8, 256, 1)
