"""One percentage over both stages, and the time left.

Owns the weights of the phases, learnt from earlier runs, and the arithmetic. It emits nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = [
    "LEARNT_COLUMNS",
    "LEARNT_ROWS",
    "Expectation",
    "OverallProgress",
    "Phase",
    "ProgressEstimate",
    "expected_durations",
]

Phase = Literal["metadata", "render", "mix", "write"]
PHASES: tuple[Phase, ...] = ("metadata", "render", "mix", "write")
AUDIO_PHASES: tuple[Phase, ...] = ("render", "mix", "write")

RECENT_RUNS = 20
LEARNT_ROWS = 500
"""Rows at the end of the run log in which the recent runs are looked for."""
LEARNT_COLUMNS = (
    "status", "metadata_model", "metadata_s", "audio_engine", "audio_model", "audio_seconds", "render_s", "mix_s",
    "write_s",
)  # fmt: skip


@dataclass(frozen=True)
class Expectation:
    """Seconds that each phase is expected to take. metadata: 0 if stage 1 is skipped."""

    metadata: float
    render: float
    mix: float
    write: float


def expected_durations(
    rows: Sequence[dict[str, Any]],
    *,
    metadata_model: str | None,
    audio_engine: str,
    audio_model: str | None,
    seconds: float,
) -> Expectation:
    """Return medians over the latest completed runs with the same models. rows: with `LEARNT_COLUMNS`, oldest first.

    Rendering, mixing and writing are taken to grow with `seconds`, the length of the song. Without earlier runs,
    figures of a two-core machine are used. metadata_model: None if stage 1 is skipped.
    """
    done = [row for row in rows if row.get("status") == "completed"]
    same_model = [row for row in done if row.get("metadata_model") == metadata_model and row.get("metadata_s")]
    engine = (audio_engine, audio_model)
    same_audio = [row for row in done if (row.get("audio_engine"), row.get("audio_model")) == engine]
    recent_audio = [row for row in same_audio if row.get("audio_seconds")][-RECENT_RUNS:]

    def audio_phase(column: str, fallback: float) -> float:
        """fallback: seconds for each second of the song."""
        ratios = [row[column] / row["audio_seconds"] for row in recent_audio if row.get(column) is not None]
        return max(0.1, seconds * (statistics.median(ratios) if ratios else fallback))

    metadata = 0.0
    if metadata_model is not None:
        values = [row["metadata_s"] for row in same_model[-RECENT_RUNS:]]
        metadata = statistics.median(values) if values else 10.0
    return Expectation(
        metadata, audio_phase("render_s", 0.05), audio_phase("mix_s", 0.03), audio_phase("write_s", 0.04)
    )


@dataclass(frozen=True)
class ProgressEstimate:
    """stage: percentage of the current stage. overall: percentage of the generation. eta_s: seconds left."""

    stage: float
    overall: float
    eta_s: float


class OverallProgress:
    """Turns the done fraction of a phase into percentages that never decrease, and an estimate of the time left.

    The estimate weighs the observed pace by the fraction that is done, and the expected durations by the rest.
    """

    def __init__(self, expectation: Expectation, clock: Callable[[], float] = time.monotonic) -> None:
        self._expected: dict[str, float] = asdict(expectation)
        self.expected_s = sum(self._expected.values())
        self._clock = clock
        self.start()
        self._highest = {"metadata": 0.0, "audio": 0.0, "overall": 0.0}

    def start(self) -> None:
        """Measure the elapsed time from now on."""
        self._started = self._clock()

    def at(self, phase: Phase, fraction: float) -> ProgressEstimate:
        """Return the estimate at `fraction` of the phase, 0…1; values outside are clipped."""
        inside = min(1.0, max(0.0, fraction))
        stage, phases = ("metadata", ("metadata",)) if phase == "metadata" else ("audio", AUDIO_PHASES)
        of_stage = sum(self._expected[p] for p in phases)
        before = sum(self._expected[p] for p in phases[: phases.index(phase)])
        done = self._expected[phase] * inside
        stage_part = self._monotonic(stage, (before + done) / of_stage if of_stage else inside)
        before_all = sum(self._expected[p] for p in PHASES[: PHASES.index(phase)])
        part = self._monotonic("overall", (before_all + done) / self.expected_s)

        elapsed = self._clock() - self._started
        expected_so_far = part * self.expected_s
        pace = elapsed / expected_so_far if expected_so_far > 0 else 1.0
        eta = (1.0 - part) * self.expected_s * (part * pace + (1.0 - part))
        return ProgressEstimate(round(100 * stage_part, 2), round(100 * part, 2), round(eta, 2))

    def _monotonic(self, name: str, value: float) -> float:
        self._highest[name] = max(self._highest[name], min(1.0, value))
        return self._highest[name]
