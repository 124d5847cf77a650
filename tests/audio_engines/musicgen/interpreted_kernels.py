"""Each Triton kernel does what its twin in torch does, in Triton's interpreter.

Run by test_triton_kernels.py in a process of its own, with TRITON_INTERPRET set. The interpreter checks the arithmetic
and the addresses; it knows nothing of threads, so it finds no race.
"""

import pytest
import torch

from harmonia_lab.audio_engines.musicgen import torch_kernels
from harmonia_lab.audio_engines.musicgen import triton_kernels as kernels
from harmonia_lab.audio_engines.musicgen.kernel_plans import KernelPlan, Partial
from harmonia_lab.audio_engines.musicgen.lm_weights import Norm
from harmonia_lab.audio_engines.musicgen.sampling import Sampling

HEADS = {64: 2, 96: 3}
TOLERANCES = {torch.float32: (1e-5, 1e-5), torch.float16: (2e-3, 1e-4)}
"""Relative and absolute: about two steps of the type, since a sum in another order may round to the next value."""

# Not bfloat16, to which the interpreter rounds towards zero.
EVERY_SHAPE = [
    (dtype, dim, rows) for dtype in (torch.float32, torch.float16) for dim, rows in [(64, 1), (96, 2), (64, 4)]
]


@pytest.fixture(params=EVERY_SHAPE, ids=str)
def shape(request):
    torch.manual_seed(3)
    torch.set_num_threads(1)
    return request.param


def new(*shape, dtype):
    return torch.randn(shape).to(dtype)


def exact(*shape):
    """What is float32 in every model: the residual stream, norms, embeddings."""
    return new(*shape, dtype=torch.float32)


def norm_of(dim):
    return Norm(1 + 0.1 * exact(dim), 0.1 * exact(dim), 1e-5)


def matrix(outputs, inputs, dtype):
    return (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)


def assert_alike(call, *buffers, dtype):
    """call(module, *buffers) leaves the same in the buffers, whichever module it calls."""
    ours, theirs = [buffer.clone() for buffer in buffers], [buffer.clone() for buffer in buffers]
    call(kernels, *ours)
    call(torch_kernels, *theirs)
    rtol, atol = TOLERANCES[dtype]
    for got, expected, before in zip(ours, theirs, buffers, strict=True):
        torch.testing.assert_close(got, expected, rtol=rtol, atol=atol)
        assert not torch.equal(got, before)


def test_embed(shape):
    _, dim, rows = shape
    prompts = rows // 2 or 1
    sequence = torch.randint(9, (6, prompts, 4))
    offsets = torch.arange(4) * 9
    embeddings, table = exact(36, dim), exact(20, dim)
    x = torch.empty(prompts * (rows // prompts), dim)
    begins = torch.arange(len(x))
    for module, out in (kernels, x), (torch_kernels, torch.zeros_like(x)):
        module.embed(sequence, torch.tensor([5]), embeddings, offsets, table, torch.tensor([7]), begins, out)
    assert torch.equal(x, out)


@pytest.mark.parametrize("gelu", [False, True])
def test_norm_project(shape, gelu):
    dtype, dim, rows = shape
    x, norm, weight = 1 + exact(rows, dim), norm_of(dim), matrix(2 * dim, dim, dtype)

    def call(module, out):
        module.norm_project(x, norm, weight, out, gelu=gelu)

    assert_alike(call, new(rows, 2 * dim, dtype=dtype), dtype=dtype)


def test_norm_project_cache(shape):
    dtype, dim, rows = shape
    heads = HEADS[dim]
    x, norm, weight = 1 + exact(rows, dim), norm_of(dim), matrix(3 * dim, dim, dtype)

    def call(module, query, keys_values):
        module.norm_project_cache(x, norm, weight, query, keys_values, torch.tensor([6]), torch.tensor([3]))

    cache = new(rows, 2, heads, 11, dim // heads, dtype=dtype)
    assert_alike(call, new(rows, dim, dtype=dtype), cache, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "rows", "grows", "splits", "length", "offset", "begins"),
    [
        (torch.float32, 1, True, 1, 300, 3, 0),
        (torch.float16, 2, False, 1, 300, 3, 0),
        (torch.float32, 2, True, 4, 2, 0, 0),
        (torch.float16, 8, False, 4, 128, 0, 0),
        (torch.float32, 2, True, 4, 125, 4, 0),
        (torch.float16, 2, True, 4, 129, 0, 0),
        (torch.float32, 1, False, 2, 297, 4, 0),
        (torch.float16, 2, True, 16, 300, 10, 0),
        (torch.float32, 2, True, 4, 300, 3, [0, 170]),
        (torch.float16, 3, False, 1, 20, 0, [19, 0, 4]),
        (torch.float32, 2, True, 4, 129, 0, [128, 1]),
    ],
    ids=str,
)
def test_attend(dtype, rows, grows, splits, length, offset, begins):
    torch.manual_seed(3)
    heads, width = 3, 32
    query, cache = new(rows, heads * width, dtype=dtype), new(rows, 2, heads, 310, width, dtype=dtype)
    cache[:, :, :, length + offset :] = 1e4  # what is not to be read
    begins = torch.zeros(rows, dtype=torch.long) + torch.tensor(begins)
    for row, begin in enumerate(begins):
        cache[row, :, :, :begin] = 1e4
    partial = Partial.allocate(rows, heads, splits, width, "cpu")
    for scratch in partial[:3]:
        scratch.fill_(torch.nan)  # whatever the use before left there

    def call(module, attended):
        counters = torch.tensor([length]), torch.tensor([offset])
        module.attend(query, cache, begins, *counters, attended, partial, grows=grows)

    for _ in range(2):  # a second use finds no arrivals
        assert_alike(call, new(rows, heads * width, dtype=dtype), dtype=dtype)
        assert not partial.arrivals.any()


def test_project(shape):
    dtype, dim, rows = shape
    inputs = 4 * dim if dim < 96 else 6144  # three chunks
    hidden, weight = new(rows, inputs, dtype=dtype), matrix(dim, inputs, dtype)

    def call(module, x):
        module.project(hidden, weight, x)

    assert_alike(call, exact(rows, dim), dtype=dtype)


def test_guided_logits(shape):
    dtype, dim, _ = shape
    x, norm, weight = 1 + exact(2, dim), norm_of(dim), matrix(2 * dim, dim, dtype)

    def call(module, logits):
        module.guided_logits(x, norm, weight, 3.0, logits)

    ours, theirs = torch.empty(1, 2 * dim), torch.empty(1, 2 * dim)
    call(kernels, ours)
    call(torch_kernels, theirs)
    steps = 256 if dtype == torch.float32 else 8  # guidance multiplies the difference of two rounded values
    torch.testing.assert_close(ours, theirs, rtol=0, atol=steps * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_guided_logits_of_several_prompts(dtype):
    torch.manual_seed(5)
    x, norm, weight = 1 + exact(6, 96), norm_of(96), matrix(128, 96, dtype)
    ours, theirs = torch.empty(3, 128), torch.empty(3, 128)
    for module, logits in (kernels, ours), (torch_kernels, theirs):
        module.guided_logits(x, norm, weight, 3.0, logits)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=8 * max(torch.finfo(dtype).eps, 1e-6))


@pytest.mark.parametrize("plan", [KernelPlan(4, 64, 4, 1), KernelPlan(8, 64, 8, 4), KernelPlan(2, 128, 2, 1)])
def test_any_plan_gives_the_same(monkeypatch, plan):
    """Also one with fewer programs than tiles, and one that is wider than a row."""
    torch.manual_seed(4)
    monkeypatch.setattr(kernels, "kernel_plan", lambda *_: plan)
    monkeypatch.setattr(kernels, "machine", lambda _: kernels.Machine(5, dependent=False))
    x, norm, weight = exact(2, 64), norm_of(64), matrix(128, 64, torch.float16)

    def call(module, out):
        module.norm_project(x, norm, weight, out)

    assert_alike(call, new(2, 128, dtype=torch.float16), dtype=torch.float16)


def drawn(module, card, *, greedy, temp=1.0, top_k=0, ties=False):
    """Tokens [S, B, K] after step 2 was written."""
    generator = torch.Generator().manual_seed(8)
    logits = 2 * torch.randn(3, 4, card, generator=generator)
    if ties:
        logits = logits.round()
    noise = None if greedy else torch.empty(3, 4, card).exponential_(1, generator=generator)
    known = torch.full((4, 3, 4), -1)
    known[2, 1, 2] = 77
    sequence, total = torch.full_like(known, -5), torch.ones(1)
    module.sample(logits, noise, known, sequence, torch.tensor([2]), total, Sampling(temp=temp, top_k=top_k))
    torch.testing.assert_close(total, 1 + logits.sum()[None], rtol=1e-4, atol=1e-2)
    return sequence


@pytest.mark.parametrize(("card", "top_k"), [(2048, 0), (2048, 1), (2048, 250), (512, 30), (300, 250)])
@pytest.mark.parametrize(("temp", "ties"), [(1.0, False), (0.7, False), (1.0, True)])
def test_sample_draws_the_same_tokens(card, top_k, temp, ties):
    ours, theirs = (
        drawn(module, card, greedy=False, temp=temp, top_k=top_k, ties=ties) for module in (kernels, torch_kernels)
    )
    assert torch.equal(ours, theirs)
    assert ours[2, 1, 2] == 77
    assert (ours[[0, 1, 3]] == -5).all()


@pytest.mark.parametrize("ties", [False, True])
def test_sample_takes_the_likeliest_token(ties):
    assert torch.equal(*(drawn(module, 2048, greedy=True, ties=ties) for module in (kernels, torch_kernels)))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter is numpy
@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf])
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("module", [kernels, torch_kernels])
def test_the_total_of_the_logits_stays_what_is_no_number(module, spoilt, greedy):
    known, total = torch.full((4, 1, 4), -1), torch.zeros(1)
    for value in (spoilt, 0.0):
        logits = torch.zeros(1, 4, 300)
        logits[0, 2, 299] = value
        noise = None if greedy else torch.ones_like(logits)
        module.sample(logits, noise, known, known.clone(), torch.tensor([2]), total, Sampling())
    assert not total.isfinite()


@pytest.mark.parametrize("call", ["norm_project", "norm_project_cache", "guided_logits"])
def test_rows_that_are_too_wide_to_be_normalised_whole_are_refused(call):
    """Not computed from a part of them."""
    dim = 6144
    x, norm, weight = torch.zeros(2, dim), norm_of(dim), torch.zeros(3 * dim, dim, dtype=torch.float16)
    rest = {
        "norm_project": (torch.zeros(2, 3 * dim, dtype=torch.float16),),
        "norm_project_cache": (x, torch.zeros(2, 2, 96, 4, 64), torch.tensor([1]), torch.tensor([0])),
        "guided_logits": (3.0, torch.zeros(1, 3 * dim)),
    }[call]
    with pytest.raises(ValueError, match="wider than a tile"):
        getattr(kernels, call)(x, norm, weight, *rest)
