"""One honest 0–100 % over both stages, and the time left.

Owns the weights of the phases (learnt from earlier runs) and the arithmetic. It emits nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Expectation", "OverallProgress", "Phase", "ProgressEstimate", "expected_durations"]

Phase = Literal["metadata", "render", "mix", "write"]
PHASES: tuple[Phase, ...] = ("metadata", "render", "mix", "write")
AUDIO_PHASES: tuple[Phase, ...] = ("render", "mix", "write")

RECENT_RUNS = 20


@dataclass(frozen=True)
class Expectation:
    """Seconds that each phase is expected to take. metadata: 0 where stage 1 is skipped."""

    metadata: float
    render: float
    mix: float
    write: float

    def of(self, phase: Phase) -> float:
        return float(getattr(self, phase))


def expected_durations(
    rows: Sequence[dict[str, Any]],
    *,
    metadata_model: str | None,
    audio_engine: str,
    audio_model: str | None,
    seconds: float,
) -> Expectation:
    """Medians over the latest completed runs with the same models; rendering, mixing and writing grow with `seconds`.

    metadata_model: None where stage 1 is skipped. Without earlier runs, the figures of a two-core machine stand in.
    """
    done = [row for row in rows if row.get("status") == "completed"]
    same_model = [row for row in done if row.get("metadata_model") == metadata_model and row.get("metadata_s")]
    same_audio = [
        row
        for row in done
        if row.get("audio_engine") == audio_engine
        and row.get("audio_model") == audio_model
        and row.get("audio_seconds")
    ]

    def per_second(column: str, fallback: float) -> float:
        values = [
            row[column] / row["audio_seconds"] for row in same_audio[-RECENT_RUNS:] if row.get(column) is not None
        ]
        return statistics.median(values) if values else fallback

    metadata = 0.0
    if metadata_model is not None:
        values = [row["metadata_s"] for row in same_model[-RECENT_RUNS:]]
        metadata = statistics.median(values) if values else 10.0
    return Expectation(
        metadata,
        max(0.1, seconds * per_second("render_s", 0.05)),
        max(0.1, seconds * per_second("mix_s", 0.03)),
        max(0.1, seconds * per_second("write_s", 0.04)),
    )


@dataclass(frozen=True)
class ProgressEstimate:
    """stage: percentage of the stage at work. overall: percentage of the generation. eta_s: seconds left."""

    stage: float
    overall: float
    eta_s: float


class OverallProgress:
    """Turns "this phase is so far" into percentages that never go back, and an estimate of the time left.

    The estimate trusts the expectation at first and the observed pace more and more, in proportion to what is done.
    """

    def __init__(self, expectation: Expectation, clock: Callable[[], float] = time.monotonic) -> None:
        self._expected = {phase: expectation.of(phase) for phase in PHASES}
        self.expected_s = sum(self._expected.values())
        self._clock = clock
        self.start()
        self._highest = {"metadata": 0.0, "audio": 0.0, "overall": 0.0}

    def start(self) -> None:
        """The work begins now."""
        self._started = self._clock()

    def at(self, phase: Phase, fraction: float) -> ProgressEstimate:
        """fraction: 0…1 of the phase; values outside are cut off."""
        inside = min(1.0, max(0.0, fraction))
        phases = ("metadata",) if phase == "metadata" else AUDIO_PHASES
        stage = "metadata" if phase == "metadata" else "audio"
        of_stage = sum(self._expected[p] for p in phases)
        before = sum(self._expected[p] for p in phases[: phases.index(phase)])
        done = self._expected[phase] * inside
        stage_part = self._raise(stage, (before + done) / of_stage if of_stage else inside)
        before_all = sum(self._expected[p] for p in PHASES[: PHASES.index(phase)])
        part = self._raise("overall", (before_all + done) / self.expected_s)

        elapsed = self._clock() - self._started
        expected_so_far = part * self.expected_s
        pace = elapsed / expected_so_far if expected_so_far > 0 else 1.0
        eta = (1.0 - part) * self.expected_s * (part * pace + (1.0 - part))
        return ProgressEstimate(round(100 * stage_part, 2), round(100 * part, 2), round(eta, 2))

    def _raise(self, name: str, value: float) -> float:
        self._highest[name] = max(self._highest[name], min(1.0, value))
        return self._highest[name]
