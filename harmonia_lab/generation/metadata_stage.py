"""Stage 1: runs the metadata engine.

Owns how the engine's reports become events and log columns, and adds the narrative's digest to the metadata. How a
generation starts, is retried and ends is decided in `generation.py`.
"""

from __future__ import annotations

import time
from dataclasses import replace

from harmonia_lab.engines.base import MetadataEngine, MetadataProgress, MetadataResult
from harmonia_lab.generation.attempt import Attempt
from harmonia_lab.music.seeds import derive_seed, narrative_digest
from harmonia_lab.protocol.events import MetadataGenerationComplete, MetadataGenerationProgress, PartialMetadata

__all__ = ["run_metadata"]


def run_metadata(attempt: Attempt, engine: MetadataEngine) -> MetadataResult:
    """Have the engine write the metadata of the attempt's request. Raises MetadataError or Cancelled.

    Whatever the engine is, the narrative's wishes are followed: an engine that follows them by itself loses nothing.
    """

    def report(progress: MetadataProgress) -> None:
        if progress.failure is not None:
            attempt.recovers_within(progress.failure, "metadata", "engine", progress.status)
        estimate = attempt.overall.at("metadata", progress.fraction)
        attempt.emit(
            MetadataGenerationProgress(
                generation_id=attempt.generation_id,
                progress=estimate.stage,
                status=progress.status,
                overall_progress=estimate.overall,
                eta_seconds=estimate.eta_s,
                current_step=progress.step,
                tokens_generated=progress.tokens,
                partial=PartialMetadata.model_validate(dict(progress.partial)) if progress.partial else None,
            )
        )

    from harmonia_lab.metadata_engines.wishes import understand  # noqa: PLC0415 - loads with the first song

    asked = understand(attempt.request)
    if asked.status:
        report(MetadataProgress(0.0, "analysis", asked.status))
    started = time.perf_counter()
    with attempt.measured("metadata") as reading:
        result = engine.write(attempt.request, derive_seed(attempt.seed, "metadata"), report, attempt.cancel)
    seconds = reading.ended - started
    # Of the story without its wishes: another tempo wished for leaves the rest of the plan as it was.
    digest = {"narrative_digest": narrative_digest(asked.request.narrative)}
    result = replace(result, metadata=asked.followed_by(result.metadata).model_copy(update=digest))
    attempt.record_duration("metadata_s", seconds)
    attempt.record_duration("metadata_load_s", result.model_load_s)
    attempt.row |= {
        "time_to_first_token_s": result.time_to_first_token_s,
        "tokens": result.tokens,
        "tokens_per_second": result.tokens_per_second,
        "metadata_model": result.record.get("model"),
        "metadata_digest": result.record.get("digest"),
        "metadata_strategy": result.record.get("strategy"),
    }
    attempt.cancel.raise_if_cancelled()
    attempt.emit(
        MetadataGenerationComplete(
            generation_id=attempt.generation_id, metadata=result.metadata, duration=round(seconds * 1000)
        )
    )
    return result
