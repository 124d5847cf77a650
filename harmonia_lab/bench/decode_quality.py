"""What `harmonia bench decode` shows beside the speed: are the tokens audiocraft's, and what does a precision cost?

Owns the comparison. A different token is accepted only where audiocraft's own margin between the two choices is below
1e-5: there, the order of a sum decides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harmonia_lab.engines.musicgen.decoder import Decoder
from harmonia_lab.engines.musicgen.sampling import Noise, Sampling

__all__ = ["ALLOWED_MARGIN", "compare_logits", "compare_tokens", "reference_logits"]

ALLOWED_MARGIN = 1e-5


def compare_tokens(
    musicgen: Any, decoder: Decoder, texts: list[str], *, frames: int, prompt_frames: int, greedy: bool, seed: int = 0
) -> dict[str, Any]:
    """Both loops from the same random stream. margin: audiocraft's, where they first differ; None if equal.

    The margin is relative: of logits when greedy, else of probability over noise, which decides the draw.
    """
    lm = musicgen.lm
    device = lm.emb[0].weight.device
    attributes, _ = musicgen._prepare_tokens_and_attributes(texts, None)  # noqa: SLF001 - as MusicGen.generate does
    prompt = None
    if prompt_frames:
        generator = torch.Generator().manual_seed(1)
        prompt = torch.randint(0, lm.card, (len(texts), lm.n_q, prompt_frames), generator=generator).to(device)
    settings = {"max_gen_len": frames, "use_sampling": not greedy, "top_k": min(250, lm.card)}
    torch.manual_seed(seed)
    with musicgen.autocast:
        theirs = lm.generate(prompt, attributes, **settings)
    torch.manual_seed(seed)
    ours = decoder.generate(prompt, attributes, **settings)
    differing = int((theirs != ours).sum())
    figures = {
        "rows": len(texts),
        "frames": frames,
        "prompt_frames": prompt_frames,
        "greedy": greedy,
        "tokens": theirs.numel(),
    }
    margin = _margin(musicgen, theirs, ours, attributes, prompt_frames, greedy=greedy, seed=seed) if differing else None
    return figures | {
        "tokens": theirs.numel(),
        "differing": differing,
        "margin": margin,
        "same": margin is None or margin < ALLOWED_MARGIN,
    }


def compare_logits(musicgen: Any, decoder: Decoder, texts: list[str], *, frames: int) -> dict[str, float]:
    """On random codes, both loops told what came before. Errors are relative to the logits' standard deviation."""
    lm = musicgen.lm
    attributes, _ = musicgen._prepare_tokens_and_attributes(texts, None)  # noqa: SLF001
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, lm.card, (len(texts), lm.n_q, frames), generator=generator).to(lm.emb[0].weight.device)
    theirs = reference_logits(musicgen, codes, attributes)  # [S - 1, B, K, card]
    ours = decoder.teacher_forced_logits(codes, attributes)
    deviation = float(theirs.std())
    return {
        "rms_error": float((ours - theirs).square().mean().sqrt()) / deviation,
        "max_error": float((ours - theirs).abs().max()) / deviation,
        "argmax_agreement": float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
    }


def reference_logits(musicgen: Any, codes: Tensor, attributes: list[Any]) -> Tensor:
    """The guided logits of audiocraft's own model, float32 [S - 1, B, K, card], for a given sequence in one pass."""
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout  # noqa: PLC0415

    lm = musicgen.lm
    sequence = lm.pattern_provider.get_pattern(codes.shape[-1]).build_pattern_sequence(codes, lm.special_token_id)[0]
    null = ClassifierFreeGuidanceDropout(p=1.0)(attributes)
    with torch.no_grad(), musicgen.autocast:
        conditions = lm.condition_provider(lm.condition_provider.tokenize(attributes + null))
        with_text, without = lm(torch.cat((sequence, sequence)), [], conditions).float().chunk(2)  # [B, K, S, card]
    guided: Tensor = without + (with_text - without) * lm.cfg_coef
    return guided[:, :, :-1].permute(2, 0, 1, 3)


def _margin(
    musicgen: Any, theirs: Tensor, ours: Tensor, attributes: list[Any], prompt_frames: int, *, greedy: bool, seed: int
) -> float:
    """The largest over the choices at the first step at which the two differ: they saw the same until then."""
    lm = musicgen.lm
    sequences = [
        lm.pattern_provider.get_pattern(codes.shape[-1])
        .build_pattern_sequence(codes, lm.special_token_id)[0]
        .permute(2, 0, 1)
        for codes in (theirs, ours)
    ]  # [S, B, K]
    step = int((sequences[0] != sequences[1]).flatten(1).any(1).nonzero()[0])
    logits = reference_logits(musicgen, theirs, attributes)[step - 1]  # [B, K, card]
    if greedy:
        score = logits
    else:
        # The noise of that step: one draw a step, from the first step that was chosen on.
        torch.manual_seed(seed)
        noise = Noise(None, tuple(logits.shape), logits)  # type: ignore[arg-type]
        for _ in range(step - prompt_frames):
            drawn = noise.draw()
        score = (logits / Sampling().temp).softmax(-1).log() - drawn.log()
    choices = [score.gather(-1, tokens[step].clamp_max(lm.card - 1)[..., None]) for tokens in sequences]
    return float((choices[0] - choices[1]).abs().max())
