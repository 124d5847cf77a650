"""Everything that is measured in one finished song, from its folder: song and stems as FLAC or WAV, and `plan.json`.

Owns which meter reads which file. Those of tempo and key are the product's, in
`harmonia_lab/audio_engines/listening`; the others are in `levels.py` and `plans.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from benchmarks.songs import levels, plans
from harmonia_lab.audio_engines.listening.key import estimate_key
from harmonia_lab.audio_engines.listening.tempo import estimate_tempo
from harmonia_lab.protocol.vocabulary import TONICS

__all__ = ["hear", "key_text", "read_plan", "read_stems"]

Array = NDArray[np.float64]

PRESENT_DB = -40.0
"""A stem whose loudest second lies below this many dB under the loudest stem's is not heard."""


def hear(folder: Path) -> dict[str, Any]:
    """Return what is heard in a song.

    bpm. key. lufs. true_peak: dBTP. crest: true peak minus loudness, dB. lead_db: the part that sings against all
    others in sung sections, dB. instruments: the stems that sound, loudest first.
    """
    samples, rate = soundfile.read(next(folder.glob("song.[fw]*")), always_2d=True)
    audio = samples.T
    plan, stems = read_plan(folder), read_stems(folder)
    mono, mono_rate = resample_poly(audio.mean(axis=0), 1, 2), rate // 2  # all that the meters of pitch and time hear
    lufs, peak = levels.loudness(audio, rate), levels.true_peak(audio)
    lead = plans.lead_name(plan)
    lead_db = levels.balance(audio, stems, lead, plans.sung_spans(plan), rate) if lead else None
    return {
        "bpm": round(estimate_tempo(mono, mono_rate), 2),
        "key": key_text(*estimate_key(mono, mono_rate)),
        "lufs": round(lufs, 2),
        "true_peak": round(peak, 2),
        "crest": round(peak - lufs, 2),
        "lead_db": None if lead_db is None else round(lead_db, 2),
        "instruments": _sounding(stems, rate),
    }


def key_text(tonic: int, mode: str) -> str:
    return f"{TONICS[tonic]} {mode}"


def read_plan(folder: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    return plan


def read_stems(folder: Path) -> dict[str, Array]:
    """Return the stems, [channels, samples], by the names of the plan's parts; empty if there is only a mix."""
    names = [part["name"] for part in read_plan(folder)["parts"]]
    files = sorted((folder / "stems").iterdir(), key=lambda path: int(path.name.split("-")[0]))
    if len(files) != len(names):
        return {}
    return {name: soundfile.read(file, always_2d=True)[0].T for name, file in zip(names, files, strict=True)}


def _sounding(stems: Mapping[str, Array], rate: int) -> list[str]:
    """Return the names of the stems that sound, by the power of their loudest second."""
    powers = {}
    for name, audio in stems.items():
        power = (audio**2).mean(axis=0)
        seconds = power[: len(power) // rate * rate].reshape(-1, rate).mean(axis=1)
        powers[name] = float(seconds.max(initial=0.0))
    loudest = max(powers.values(), default=0.0)
    heard = [name for name, power in powers.items() if power > loudest * 10 ** (PRESENT_DB / 10)]
    return sorted(heard, key=lambda name: -powers[name])
