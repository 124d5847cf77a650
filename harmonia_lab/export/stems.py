"""A song's stems as they sound in its mix, made from the stems as rendered.

Owns how a song's folder becomes the arguments of the mixer. What a mixed stem is, `mixing.mixed_stems` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from harmonia_lab.audio_engines.audiofile import read_audio
from harmonia_lab.audio_engines.mixing import mixed_stems
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.export.source import SourceSong
from harmonia_lab.generation.audio_stage import mix_arguments
from harmonia_lab.music.plan import Plan

__all__ = ["MixedStem", "stems_as_mixed"]

_SAMPLE_RATE = 48_000
_SAME_DB = 0.01


@dataclass(frozen=True)
class MixedStem:
    """audio: float32 [2, samples]. file_stem: "1-piano". what: a sentence on how it was made."""

    name: str
    file_stem: str
    audio: NDArray[np.float32]
    sample_rate: int
    what: str


def stems_as_mixed(song: SourceSong, notes: list[str], cancel: CancelToken) -> Iterator[MixedStem]:
    """Yield each stem of the song as mixed. notes: gets what keeps their sum from being the song's mix.

    Raises HarmoniaError (NOT_FOUND) for a song without its plan or its stems, AudioError, Cancelled.
    """
    listed = song.record.get("stems", [])
    try:
        plan = TypeAdapter(Plan).validate_json(song.file("plan.json").read_bytes())
    except ValidationError as error:
        raise HarmoniaError(
            f"{song.folder / 'plan.json'} is no plan of this version.",
            code=ErrorCode.NOT_FOUND,
            hint="Export the stems as rendered.",
        ) from error
    follows = song.record.get("follows", ["notes"])  # older versions mixed every song by its plan
    stems = [Stem(each["name"], each["role"], *read_audio(song.file(each["file"]))) for each in listed]
    levels, alone = mixed_stems(stems, cancel=cancel, **mix_arguments(plan.in_sound(follows)))
    measured = song.record.get("measurements", {})
    recorded = [stem.get("gain_db", 0.0) for stem in measured.get("stems", [])]
    if any(abs(level.gain_db - gain) > _SAME_DB for level, gain in zip(levels, recorded, strict=False)):
        notes.append(
            "This version mixes otherwise than the one that made the song: the mixed stems are this version's."
        )
    if any(np.abs(stem.audio).max(initial=0.0) >= 1 - 2**-23 for stem in stems):
        notes.append("A stem was clipped when it was written: the mixed stems' sum differs from the song there.")
    what = (
        "A stem as mixed: with its level, filters, place and reverb. The stems' sum is the song before mastering, "
        f"which adds {measured.get('master_gain_db', 0.0):.1f} dB and a limiter."
    )
    for each, audio in zip(listed, alone, strict=True):
        yield MixedStem(each["name"], Path(each["file"]).stem, audio, _SAMPLE_RATE, what)
