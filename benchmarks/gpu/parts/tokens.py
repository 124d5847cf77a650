"""Part 2: are the tokens audiocraft's?

Owns the cases. In float32 (no autocast, no TF32) they must be equal, or differ where the reference itself was nearer
than 1e-5 to the other token. In float16 every loop rounds, so audiocraft is also compared with itself at another batch
size, from the same prompt and the same noise; ours should agree with it as often. A difference's margin is the distance
of the reference's float32 logits from the other choice; the float16 error of the logits is reported for comparison.
"""

from __future__ import annotations

import copy
import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from benchmarks.gpu.bench import Bench
    from harmonia_lab.audio_engines.musicgen.decoder import Decoder
    from harmonia_lab.audio_engines.musicgen.sampling import Sampling

ROWS = 4
BEYOND_S = 32.0


def run(bench: Bench) -> None:
    musicgen = bench.build("small", "float32")
    _exact(bench, musicgen, "small", batches=(1, ROWS))
    del musicgen
    bench.free()
    musicgen = bench.build("small", bench.half)
    _rounded(bench, musicgen, "small", frames=24 if bench.rehearse else 80)
    del musicgen
    bench.free()
    if bench.time_for("melody, float32", 12):
        musicgen = bench.build("melody", "float32")
        _exact(bench, musicgen, "melody", batches=(1,))
        del musicgen
        bench.free()
    # audiocraft takes half a minute for it on a GPU, two minutes on a CPU.
    if bench.rehearse:
        bench.unreached("a piece beyond 30 s", "it takes minutes on a CPU; the test suite has one")
    elif bench.time_for("a piece beyond 30 s", 30):
        musicgen = bench.build("small", "float32")
        frames = round(BEYOND_S * musicgen.frame_rate)
        _compare(bench, musicgen, "small", 1, {"frames": frames}, _samplings(musicgen)[1:], loops=("graph",))


def _exact(bench: Bench, musicgen: Any, name: str, *, batches: tuple[int, ...]) -> None:
    """Compare tokens in float32, over 120 frames in windows of 60."""
    piece = {"frames": 20, "window": 10} if bench.rehearse else {"frames": 120, "window": 60}
    for rows in batches:
        _compare(bench, musicgen, name, rows, piece, _samplings(musicgen), loops=("graph", "eager"))


def _compare(
    bench: Bench,
    musicgen: Any,
    name: str,
    rows: int,
    piece: dict[str, int],
    samplings: list[Sampling],
    *,
    loops: tuple[str, ...],
) -> None:
    from harmonia_lab.bench.decode import prompts  # noqa: PLC0415
    from harmonia_lab.bench.decode_quality import compare_tokens, reference_tokens  # noqa: PLC0415

    for sampling in samplings:
        how: dict[str, Any] = {**piece, "sampling": sampling}
        theirs = reference_tokens(musicgen, prompts(rows), **how)
        for loop in loops:
            if loop == "graph" and not bench.on_gpu:
                bench.unreached(f"{name}: tokens with graph replay", "there is no CUDA device")
                continue
            decoder = _decoder(musicgen, graphs=loop == "graph")
            found = compare_tokens(musicgen, decoder, prompts(rows), theirs=theirs, **how)
            bench.row(
                "tokens",
                model=name,
                dtype="float32",
                loop=loop,
                equal=not found["differences"],
                **{key: found[key] for key in ("rows", "frames", "sampling", "tokens", "same", "differences")},
            )


def _rounded(bench: Bench, musicgen: Any, name: str, *, frames: int) -> None:
    decoder = _decoder(musicgen)
    exact = copy.copy(musicgen)
    exact.lm = copy.deepcopy(musicgen.lm).float()
    exact.autocast = _no_autocast()
    for sampling in _samplings(musicgen):
        theirs = _theirs(musicgen, sampling, frames, range(ROWS))
        ours = _ours(musicgen, decoder, sampling, frames, range(ROWS))
        theirs_alone = torch.cat([_theirs(musicgen, sampling, frames, [row]) for row in range(ROWS)])
        ours_alone = torch.cat([_ours(musicgen, decoder, sampling, frames, [row]) for row in range(ROWS)])
        again = _ours(musicgen, decoder, sampling, frames, range(ROWS))
        bench.row("repeat", model=name, dtype=bench.half, loop="ours", same=bool(torch.equal(ours, again)))
        for pair, left, right in (
            ("audiocraft 1 : audiocraft 4", theirs_alone, theirs),
            ("ours 1 : audiocraft 1", ours_alone, theirs_alone),
            ("ours 4 : audiocraft 4", ours, theirs),
            ("ours 1 : ours 4", ours_alone, ours),
        ):
            bench.row(
                "agreement",
                model=name,
                dtype=bench.half,
                pair=pair,
                sampling="greedy" if sampling.greedy else "top-k",
                rows=ROWS,
                **_agreement(musicgen, exact, sampling, left, right),
            )


def _theirs(musicgen: Any, sampling: Sampling, frames: int, seeds: Sequence[int]) -> Tensor:
    attributes = _conditions(musicgen, len(seeds))
    with _row_by_row(musicgen, seeds), torch.no_grad(), musicgen.autocast:
        tokens: Tensor = musicgen.lm.generate(None, attributes, max_gen_len=frames, **_parameters(sampling))
    return tokens


def _ours(musicgen: Any, decoder: Decoder, sampling: Sampling, frames: int, seeds: Sequence[int]) -> Tensor:
    attributes = _conditions(musicgen, len(seeds))
    generators = _generators(musicgen, seeds)
    return decoder.generate(None, attributes, max_gen_len=frames, generators=generators, **_parameters(sampling))


def _agreement(musicgen: Any, exact: Any, sampling: Sampling, left: Tensor, right: Tensor) -> dict[str, Any]:
    """Return how far two results agree. left, right: [B, K, T].

    Only the first difference of a row counts, since later tokens depend on it. Steps count from 1.
    """
    from harmonia_lab.bench.decode_margin import flip_margin  # noqa: PLC0415
    from harmonia_lab.bench.decode_quality import interleaved, reference_logits  # noqa: PLC0415

    firsts, margins, error = [], [], 0.0
    for row in range(left.shape[0]):
        both = [interleaved(musicgen.lm, codes[row : row + 1])[0] for codes in (left, right)]  # [K, S] each
        differing = (both[0] != both[1]).any(0).nonzero()
        if not len(differing):
            continue
        step = int(differing[0])
        attributes = _conditions(musicgen, 1)
        precise = reference_logits(exact, right[row : row + 1], attributes)[step - 1, 0]  # [K, card]
        rounded = reference_logits(musicgen, right[row : row + 1], attributes)[step - 1, 0]
        error = max(error, float((rounded - precise).abs().max()))
        noise = _noise(musicgen, sampling, row, step)
        for codebook in (both[0][:, step] != both[1][:, step]).nonzero()[:, 0].tolist():
            drawn = noise[codebook] if noise is not None else None
            tokens = [int(each[codebook, step]) for each in both]
            margins.append(max(flip_margin(precise[codebook], drawn, sampling, token) for token in tokens))
        firsts.append(step)
    return {
        "equal_rows": left.shape[0] - len(firsts),
        "first_difference": firsts,
        "margins": margins,
        "logit_error": error,
    }


def _noise(musicgen: Any, sampling: Sampling, row: int, step: int) -> Tensor | None:
    """Return the exponential noise that a row drew for a step, [K, card]; None if greedy."""
    if sampling.greedy:
        return None
    noise = torch.empty(musicgen.lm.n_q, musicgen.lm.card, device=musicgen.device)
    (generator,) = _generators(musicgen, [row])
    for _ in range(step):
        noise.exponential_(1, generator=generator)
    return noise


@contextmanager
def _row_by_row(musicgen: Any, seeds: Sequence[int]) -> Iterator[None]:
    """Make audiocraft draw from a random stream per row, so that a row's noise doesn't depend on the batch.

    Its own `multinomial` computes the same quotient (probability over exponential noise), with one stream for all rows.
    """
    utils: Any = importlib.import_module("audiocraft.utils.utils")
    generators = _generators(musicgen, seeds)

    def multinomial(probabilities: Tensor, num_samples: int, **_: Any) -> Tensor:
        assert num_samples == 1
        noise = torch.empty_like(probabilities, dtype=torch.float32)
        for part, generator in zip(noise.unbind(0), generators, strict=True):
            part.exponential_(1, generator=generator)
        return (probabilities / noise).argmax(-1, keepdim=True)

    own = utils.multinomial
    utils.multinomial = multinomial
    try:
        yield
    finally:
        utils.multinomial = own


def _generators(musicgen: Any, seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator(musicgen.device).manual_seed(1000 + seed) for seed in seeds]


def _conditions(musicgen: Any, rows: int) -> list[Any]:
    """Return the same prompt for all rows, since audiocraft attends to the padding of prompts of different lengths."""
    attributes: list[Any] = musicgen._prepare_tokens_and_attributes(["a calm piano melody over rain"] * rows, None)[0]  # noqa: SLF001
    return attributes


def _parameters(sampling: Sampling) -> dict[str, Any]:
    return {"use_sampling": sampling.use_sampling, "top_k": sampling.top_k, "temp": sampling.temp}


def _samplings(musicgen: Any) -> list[Sampling]:
    from harmonia_lab.audio_engines.musicgen.sampling import Sampling  # noqa: PLC0415

    return [Sampling(use_sampling=False), Sampling(top_k=min(250, musicgen.lm.card))]


def _decoder(musicgen: Any, *, graphs: bool = True) -> Decoder:
    from harmonia_lab.audio_engines.musicgen.decoder import Decoder  # noqa: PLC0415

    return Decoder(musicgen.lm, "fast", graphs=graphs)


def _no_autocast() -> Any:
    from audiocraft.utils.autocast import TorchAutocast  # noqa: PLC0415

    return TorchAutocast(enabled=False)
