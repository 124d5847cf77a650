"""The meter: what a listener can measure in a song's sound. It knows nothing of the plan, and owns no engine."""

from __future__ import annotations

from harmonia_lab.audio_engines.listening.meter import CLEAR, Measures, clipped_share, measure, measure_beats

__all__ = ["CLEAR", "Measures", "clipped_share", "measure", "measure_beats"]
