"""Compares the tokens of `harmonia bench decode`'s loops with audiocraft's, and measures the cost of a precision.

Owns the comparison. A different token is accepted only if audiocraft's own logits were nearer than 1e-5 to it
(`decode_margin.py`): there, the order of a sum decides. Later tokens of the same row depend on that token, and are not
compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import replaced
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.sampling import Noise, Sampling
from harmonia_lab.audio_engines.musicgen.windows import generate_windows, plan_windows
from harmonia_lab.bench.decode_loops import GUIDANCE, random_codes
from harmonia_lab.bench.decode_margin import flip_margin

__all__ = ["ALLOWED_MARGIN", "compare_logits", "compare_tokens", "interleaved", "reference_logits", "reference_tokens"]

ALLOWED_MARGIN = 1e-5


def compare_tokens(
    musicgen: Any,
    decoder: Decoder,
    texts: list[str],
    *,
    frames: int,
    prompt_frames: int = 0,
    window: int | None = None,
    sampling: Sampling,
    seed: int = 0,
    theirs: Tensor | None = None,
) -> dict[str, Any]:
    """Compare our loop's rows with audiocraft's `MusicGen._generate_tokens` for each prompt alone.

    Row r draws from a random stream of its own, of seed + r, in both.

    frames: of the piece, the prompt's included. window: frames of the model's window; None is the model's own (30 s). A
    longer piece is made in windows, each 3/5 of a window after the last. A shorter window exercises the same code,
    which depends on nothing but its length. theirs: the result of `reference_tokens` for the same piece, if there is
    one.

    In the result, differences: for each row, those at the first step that has one, with their margins. same: there is
    no difference, or all are within ALLOWED_MARGIN.
    """
    if theirs is None:
        theirs = reference_tokens(
            musicgen, texts, frames=frames, prompt_frames=prompt_frames, window=window, sampling=sampling, seed=seed
        )
    attributes, _ = musicgen._prepare_tokens_and_attributes(texts, None)  # noqa: SLF001 - as MusicGen.generate does
    window = window or round(musicgen.max_duration * musicgen.frame_rate)
    stride = 3 * window // 5
    prompt = random_codes(musicgen.lm, len(texts), prompt_frames, seed=1)
    generators = [torch.Generator(musicgen.device).manual_seed(seed + row) for row in range(len(texts))]
    states: dict[int, list[Tensor]] = {}

    def conditions_at(start: int) -> list[Any]:
        states[start] = [generator.get_state() for generator in generators]
        return list(attributes)

    ours = generate_windows(
        decoder,
        conditions_at,
        frames=frames,
        window=window,
        stride=stride,
        prompt=prompt,
        generators=generators,
        **_parameters(sampling),
    )
    differences: list[dict[str, Any]] = []
    for part in plan_windows(frames, window=window, stride=stride, prompt=prompt_frames):
        both = [codes[..., part.start : part.start + part.length] for codes in (theirs, ours)]
        diverged = {each["row"] for each in differences}
        differing = (both[0] != both[1]).flatten(1).any(1).nonzero()[:, 0].tolist()
        for row in differing:
            if row not in diverged:
                of_row = [codes[row : row + 1] for codes in both]
                state = states[part.start][row]
                found = _differences(musicgen, of_row, [attributes[row]], part.known, sampling, state)
                differences += [each | {"row": row, "window_start": part.start} for each in found]
    return {
        "rows": len(texts),
        "frames": frames,
        "prompt_frames": prompt_frames,
        "window": window,
        "sampling": "greedy" if sampling.greedy else f"top-p {sampling.top_p:g}" if sampling.top_p else "top-k",
        "tokens": theirs.numel(),
        "differences": differences,
        "same": all(each["margin"] < ALLOWED_MARGIN for each in differences),
    }


def reference_tokens(
    musicgen: Any,
    texts: list[str],
    *,
    frames: int,
    prompt_frames: int = 0,
    window: int | None = None,
    sampling: Sampling,
    seed: int = 0,
) -> Tensor:
    """Return audiocraft's tokens [B, K, frames] for a piece as `compare_tokens` describes it, each row made alone."""
    rate = musicgen.frame_rate
    window = window or round(musicgen.max_duration * rate)
    prompt = random_codes(musicgen.lm, len(texts), prompt_frames, seed=1)
    # audiocraft truncates seconds to frames. Half a frame more makes each length exact.
    lengths = {"max_duration": window, "duration": frames, "extend_stride": 3 * window // 5}
    seconds = {name: (length + 0.5) / rate for name, length in lengths.items()}
    rows = []
    with replaced(musicgen, generation_params=_parameters(sampling), **seconds):
        for row, text in enumerate(texts):
            attributes, _ = musicgen._prepare_tokens_and_attributes([text], None)  # noqa: SLF001
            torch.manual_seed(seed + row)
            # What `generate` calls.
            rows.append(musicgen._generate_tokens(attributes, prompt[row : row + 1]))  # noqa: SLF001
    return torch.cat(rows)


def _parameters(sampling: Sampling) -> dict[str, Any]:
    """Return the parameters that both loops' `generate` gets."""
    return {**asdict(sampling), "cfg_coef": GUIDANCE, "two_step_cfg": False}


def compare_logits(musicgen: Any, decoder: Decoder, texts: list[str], *, frames: int) -> dict[str, float]:
    """Compare both loops' logits for the same random codes, audiocraft's for each prompt alone.

    Errors are relative to the logits' standard deviation.
    """
    attributes, _ = musicgen._prepare_tokens_and_attributes(texts, None)  # noqa: SLF001
    codes = random_codes(musicgen.lm, len(texts), frames, seed=2)
    alone = [reference_logits(musicgen, codes[row : row + 1], [each]) for row, each in enumerate(attributes)]
    theirs = torch.cat(alone, 1)  # [S - 1, B, K, card]
    ours = decoder.teacher_forced_logits(codes, attributes)
    deviation = float(theirs.std())
    return {
        "rms_error": float((ours - theirs).square().mean().sqrt()) / deviation,
        "max_error": float((ours - theirs).abs().max()) / deviation,
        "argmax_agreement": float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
    }


def reference_logits(musicgen: Any, codes: Tensor, attributes: list[Any]) -> Tensor:
    """Return the guided logits of audiocraft's own model for a given sequence: float32 [S - 1, B, K, card].

    codes: [B, K, T]. attributes: audiocraft's conditions, one per row.
    """
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout  # noqa: PLC0415

    lm = musicgen.lm
    sequence = interleaved(lm, codes)
    null = ClassifierFreeGuidanceDropout(p=1.0)(attributes)
    with torch.no_grad(), musicgen.autocast:
        conditions = lm.condition_provider(lm.condition_provider.tokenize(attributes + null))
        with_text, without = lm(torch.cat((sequence, sequence)), [], conditions).float().chunk(2)  # [B, K, S, card]
    guided: Tensor = without + (with_text - without) * lm.cfg_coef
    return guided[:, :, :-1].permute(2, 0, 1, 3)


def _differences(
    musicgen: Any, both: list[Tensor], attributes: list[Any], known: int, sampling: Sampling, rng_state: Tensor
) -> Iterator[dict[str, Any]]:
    """Yield the differences at the first differing step of one row, within one window.

    both: theirs and ours, [1, K, T]. known: frames at the window's start that both loops were given.

    Up to that step both loops had the same input. margin: the larger of both tokens' distances from the choice by the
    reference's logits, computed in one pass. So neither loop's own logits are trusted.
    """
    lm = musicgen.lm
    logits = reference_logits(musicgen, both[0], attributes)[:, 0]  # [S - 1, K, card]
    sequences = [interleaved(lm, codes)[0].T for codes in both]  # [S, K]
    step = int((sequences[0] != sequences[1]).any(1).nonzero()[0])
    first = lm.pattern_provider.get_pattern(both[0].shape[-1]).get_first_step_with_timesteps(known)
    drawn = None
    if not sampling.greedy:
        generator = torch.Generator(logits.device)
        generator.set_state(rng_state)
        noise = Noise([generator], (1, logits.shape[1], logits.shape[2]), logits)
        for _ in range(first, step + 1):
            drawn = noise.draw()[0]
    choices = [tokens[step] for tokens in sequences]  # [K] each
    for codebook in (choices[0] != choices[1]).nonzero()[:, 0].tolist():
        own = drawn[codebook] if drawn is not None else None
        tokens = [int(each[codebook]) for each in choices]
        margin = max(flip_margin(logits[step - 1, codebook], own, sampling, token) for token in tokens)
        yield {"step": step, "codebook": codebook, "tokens": tokens, "margin": margin}


def interleaved(lm: Any, codes: Tensor) -> Tensor:
    """Return the codes in the order in which they are decoded: [B, K, T] → [B, K, S]."""
    pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
    sequence: Tensor = pattern.build_pattern_sequence(codes.contiguous(), lm.special_token_id)[0]
    return sequence
