"""A chroma that is known already, given to a melody model's conditioner in place of a recording.

The plan of a song says exactly which pitch class leads when: no recording has to be made, separated and analysed. Owns
how the chroma gets in, for audiocraft's own loop and for ours alike. Which chroma is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["CONDITIONER", "chroma_rate", "guided_by_chroma", "takes_melody"]

CONDITIONER = "self_wav"
"""audiocraft's name for the melody, in attributes and among the conditioners."""


def takes_melody(lm: Any) -> bool:
    """Whether this language model has a melody conditioner."""
    return CONDITIONER in lm.condition_provider.conditioners


def chroma_rate(lm: Any) -> float:
    """Chroma frames per second (7.8 for the released melody models). Raises AudioError without a melody conditioner."""
    conditioner = _conditioner(lm)
    return float(conditioner.sample_rate / conditioner.chroma.winhop)


@contextmanager
def guided_by_chroma(lm: Any, attributes: Sequence[Any], chroma: Sequence[Any]) -> Iterator[None]:
    """Inside, each row of `attributes` (audiocraft's ConditioningAttributes) is conditioned on its chroma.

    chroma: an array or tensor per row, [frames, 12] from C upwards, not negative, `chroma_rate` frames a second, the
    first one at the window's start; None for a row without melody. What is shorter than the model's window is repeated,
    as audiocraft does, what is longer is cut. Raises AudioError (MUSICGEN_UNAVAILABLE) without a melody conditioner.
    """
    conditioner = _conditioner(lm)
    embed = conditioner._get_wav_embedding  # noqa: SLF001
    named = {f"chroma of row {row}": torch.as_tensor(given) for row, given in enumerate(chroma) if given is not None}
    before = [attribute.wav.get(CONDITIONER) for attribute in attributes]

    def embed_known(condition: Any) -> Tensor:
        rows: Tensor = embed(condition._replace(path=[None] * len(condition.path)))  # [R, frames, 12]
        for row, name in enumerate(condition.path):
            if name in named:
                rows[row] = _fitted(named[name].to(rows), rows.shape[1], one_hot=conditioner.chroma.argmax)
        return rows

    # The rows keep their names on their way through audiocraft's batching; null prompts lose them, and stay null.
    for row, (attribute, given) in enumerate(zip(attributes, chroma, strict=True)):
        if given is not None:
            attribute.wav[CONDITIONER] = attribute.wav[CONDITIONER]._replace(path=[f"chroma of row {row}"])
    conditioner._get_wav_embedding = embed_known  # noqa: SLF001
    try:
        yield
    finally:
        del conditioner._get_wav_embedding  # noqa: SLF001 - the class's own shows again
        for attribute, condition in zip(attributes, before, strict=True):
            attribute.wav[CONDITIONER] = condition


def _fitted(chroma: Tensor, frames: int, *, one_hot: bool) -> Tensor:
    repeated = chroma.repeat(-(-frames // chroma.shape[0]), 1)[:frames]
    return torch.nn.functional.one_hot(repeated.argmax(-1), repeated.shape[1]).to(chroma) if one_hot else repeated


def _conditioner(lm: Any) -> Any:
    if not takes_melody(lm):
        raise AudioError(
            "This MusicGen model has no melody conditioner.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Choose a melody model, such as facebook/musicgen-melody.",
        )
    return lm.condition_provider.conditioners[CONDITIONER]
