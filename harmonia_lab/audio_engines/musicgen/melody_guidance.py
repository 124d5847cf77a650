"""Gives a melody model's conditioner a known chroma in place of a recording.

The plan of a song says which pitch class leads at each moment, so no recording has to be made, separated and analysed.
Owns the patch of the conditioner, for audiocraft's own loop and for ours alike. The chroma itself comes from
`plan_chroma.py` or from a recording (`rendering.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["chroma_rate", "guided_by_chroma", "melody_conditioner"]

CONDITIONER = "self_wav"
"""audiocraft's name for the melody, in attributes and among the conditioners."""


def melody_conditioner(lm: Any) -> Any | None:
    """Return the ChromaStemConditioner of a language model; None if the model takes no melody."""
    conditioners = lm.condition_provider.conditioners
    return conditioners[CONDITIONER] if CONDITIONER in conditioners else None  # noqa: SIM401 - ModuleDict has no get


def chroma_rate(lm: Any) -> float:
    """Return chroma frames per second (7.8 in the released models). Raise AudioError without a melody conditioner."""
    conditioner = _require_conditioner(lm)
    return float(conditioner.sample_rate / conditioner.chroma.winhop)


@contextmanager
def guided_by_chroma(lm: Any, attributes: Sequence[Any], chroma: Sequence[Any]) -> Iterator[None]:
    """Condition each row of `attributes` (audiocraft's ConditioningAttributes) on its chroma while the context is open.

    chroma: an array or tensor per row, [frames, 12] from C upwards, not negative, `chroma_rate` frames a second, the
    first one at the window's start; None for a row without melody. A chroma shorter than the model's window is
    repeated, as audiocraft does, a longer one is cut. Raise AudioError (MUSICGEN_UNAVAILABLE) without a melody
    conditioner.
    """
    conditioner = _require_conditioner(lm)
    embed = conditioner._get_wav_embedding  # noqa: SLF001
    named = {f"chroma of row {row}": torch.as_tensor(given) for row, given in enumerate(chroma) if given is not None}
    before = [attribute.wav.get(CONDITIONER) for attribute in attributes]

    def embed_known(condition: Any) -> Tensor:
        rows: Tensor = embed(condition._replace(path=[None] * len(condition.path)))  # [R, frames, 12]
        for row, name in enumerate(condition.path):
            if name in named:
                rows[row] = _fitted(named[name].to(rows), rows.shape[1], one_hot=conditioner.chroma.argmax)
        return rows

    # audiocraft's batching keeps the path, which therefore tells the rows apart. It drops the path of null prompts, so
    # they stay null.
    for row, (attribute, given) in enumerate(zip(attributes, chroma, strict=True)):
        if given is not None:
            attribute.wav[CONDITIONER] = attribute.wav[CONDITIONER]._replace(path=[f"chroma of row {row}"])
    conditioner._get_wav_embedding = embed_known  # noqa: SLF001
    try:
        yield
    finally:
        del conditioner._get_wav_embedding  # noqa: SLF001 - uncovers the class's method
        for attribute, condition in zip(attributes, before, strict=True):
            attribute.wav[CONDITIONER] = condition


def _fitted(chroma: Tensor, frames: int, *, one_hot: bool) -> Tensor:
    """Repeat or cut to `frames` frames. one_hot: 1 for the strongest pitch class, 0 for the others."""
    repeated = chroma.repeat(-(-frames // chroma.shape[0]), 1)[:frames]
    return torch.nn.functional.one_hot(repeated.argmax(-1), repeated.shape[1]).to(chroma) if one_hot else repeated


def _require_conditioner(lm: Any) -> Any:
    conditioner = melody_conditioner(lm)
    if conditioner is None:
        raise AudioError(
            "This MusicGen model has no melody conditioner.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Choose a melody model, such as facebook/musicgen-melody.",
        )
    return conditioner
