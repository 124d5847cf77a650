"""The best of several candidates of a stem, by measures of their sound.

Owns the score and the choice. The measures are the meter's (`listening/`), which knows nothing of the plan.

The score is the sum of two parts, less two:

- tempo: 1 within 4 % of the asked one, ½ at its half or double, else 0, times the meter's confidence. (4 % is the
  tolerance of F. Gouyon et al., "An experimental comparison of audio tempo induction algorithms", IEEE Transactions on
  Audio, Speech and Language Processing 14/5 (2006), whose second accuracy allows such multiples.)
- key: the weights of MIREX's audio key detection, 1 for the asked key, 0.5 a fifth away, 0.3 for the relative and 0.2
  for the parallel key, times the meter's confidence.
- silence: the share of tenths of a second below −60 dBFS. clipping: 100 times the share of clipped samples, at most 1.

What isn't asked for doesn't count: drums have no key, and a prompt of one's own names neither. A sound with infinite
numbers or NaN has no score, and is never chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from harmonia_lab.audio_engines.listening import measure
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import AudioError, ErrorCode
from harmonia_lab.protocol.sound import TOLERANCE
from harmonia_lab.protocol.vocabulary import PITCH_CLASSES

__all__ = ["AskedSound", "Score", "Selection", "key_weight", "score_of"]

_CLIPPING = 100.0


@dataclass(frozen=True)
class AskedSound:
    """What a stem's prompt asks for; None: nothing."""

    bpm: float | None
    key: str | None


@dataclass(frozen=True)
class Score:
    """parts: by name, those that count. heard: tempo and key in words, beside the asked ones."""

    parts: dict[str, float]
    heard: str

    @property
    def total(self) -> float:
        """−∞ for a sound that can't be measured."""
        return round(sum(self.parts.values()), 4) if self.parts else -math.inf

    def to_json(self) -> dict[str, Any]:
        return {"score": self.total if self.parts else None, **self.parts, "heard": self.heard}


def score_of(stem: Stem, asked: AskedSound, cancel: CancelToken | None = None) -> Score:
    """Return the stem's score. Raises Cancelled."""
    if not np.isfinite(stem.audio).all():
        return Score({}, "samples that are infinite or not a number")
    measures = measure(stem.audio, stem.sample_rate, cancel)
    heard = measures.heard
    parts = {"silence": -measures.silent_share, "clipping": -min(1.0, _CLIPPING * measures.clipped_share)}
    if asked.bpm is not None:
        parts["tempo"] = _tempo_weight(heard.bpm, asked.bpm) * heard.bpm_confidence
    if asked.key is not None:
        parts["key"] = key_weight(heard.key, asked.key) * heard.key_confidence
    rounded = {name: round(value, 4) + 0.0 for name, value in parts.items()}
    tempo = f"about {heard.bpm:.0f} bpm" if heard.bpm is not None else "no clear beat"
    tempo += f" (asked {asked.bpm:g})" if asked.bpm is not None else ""
    key = (heard.key or "no clear key") + (f" (asked {asked.key})" if asked.key is not None else "")
    return Score(rounded, f"{tempo}, {key}")


def key_weight(heard: str | None, asked: str) -> float:
    """Return MIREX's weight of a key, as "A minor", for the asked one."""
    if heard is None:
        return 0.0
    (tonic, mode), (wanted, wanted_mode) = (_key(each) for each in (heard, asked))
    up = (tonic - wanted) % 12
    if mode == wanted_mode:
        return {0: 1.0, 7: 0.5, 5: 0.5}.get(up, 0.0)
    relative = 3 if wanted_mode == "minor" else 9
    return {relative: 0.3, 0: 0.2}.get(up, 0.0)


class Selection:
    """The candidates of one stem: the scores of all, and the sound of the best one so far."""

    def __init__(self, name: str, asked: AskedSound) -> None:
        self.name, self._asked = name, asked
        self._scores: dict[int, tuple[Score, int]] = {}
        self._best: tuple[float, int, Stem] | None = None

    def add(self, candidate: int, seed: int, stem: Stem, cancel: CancelToken) -> bool:
        """Measure a candidate. Return whether it is the best so far. Of equal ones, the one with the lowest number is.

        Raises Cancelled.
        """
        score = score_of(stem, self._asked, cancel)
        self._scores[candidate] = score, seed
        rank = (score.total, -candidate)
        if score.parts and (self._best is None or rank > (self._best[0], -self._best[1])):
            self._best = score.total, candidate, stem
            return True
        return False

    def __len__(self) -> int:
        return len(self._scores)

    def best(self, precision: str) -> Stem:
        """Return the best candidate, under the stem's own name. Raise AudioError if none can be heard.

        precision: of the model, for what to try then.
        """
        if self._best is None:
            raise AudioError(
                f"All {len(self)} candidates of {self.name} have samples that are infinite or not a number.",
                code=ErrorCode.MUSICGEN_ERROR,
                hint="Try dtype=float32, or bfloat16.",
                details={"precision": precision},
            )
        stem = self._best[2]
        return Stem(self.name, stem.role, stem.audio, stem.sample_rate)

    def record(self) -> dict[str, Any]:
        """Return the number of the chosen candidate, why, and all scores, in the candidates' order."""
        scores = [
            {"candidate": number, "seed": seed, **score.to_json()}
            for number, (score, seed) in sorted(self._scores.items())
        ]
        if self._best is None:
            return {"chosen": None, "why": "none can be heard", "scores": scores}
        total, chosen, _ = self._best
        equal = sum(score.total == total for score, _ in self._scores.values())
        what = f"the first of {equal} with the highest score" if equal > 1 else f"the highest score of {len(self)}"
        why = f"candidate {chosen} has {what}, {total:.3f}: {self._scores[chosen][0].heard}"
        return {"chosen": chosen, "why": why, "scores": scores}


def _tempo_weight(heard: float | None, asked: float) -> float:
    if heard is None:
        return 0.0
    weights = {1.0: 1.0, 2.0: 0.5, 0.5: 0.5}
    return next((w for times, w in weights.items() if abs(heard / (times * asked) - 1) <= TOLERANCE), 0.0)


def _key(name: str) -> tuple[int, str]:
    """Return pitch class and mode of "A minor"."""
    tonic, mode = name.split()
    return PITCH_CLASSES[tonic], mode
