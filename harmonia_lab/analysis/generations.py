"""What a store knows as a DataFrame: one row for each generation. Owns the columns; the state is `sinks/store.py`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harmonia_lab.client.store import State

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["generations_frame"]

_COLUMNS = {
    "generation_id": ("string", ""),
    "user_id": ("string", ""),
    "status": ("string", ""),
    "stage": ("string", ""),
    "progress": ("Float64", "%"),
    "title": ("string", ""),
    "genre": ("string", ""),
    "started_at": ("datetime64[ms, UTC]", "UTC"),
    "ended_at": ("datetime64[ms, UTC]", "UTC"),
    "duration": ("Float64", "s"),
    "file_size": ("Int64", "bytes"),
    "checksum": ("string", ""),
    "error_code": ("string", ""),
    "error": ("string", ""),
}


def generations_frame(state: State) -> pd.DataFrame:
    """One row for each generation that `state` has heard of, oldest first; what is not known is missing.

    progress: percentage of the whole generation. duration: seconds of audio. stage: of what is active, or failed.
    Units stand in `attrs["units"]`.
    """
    import pandas as pd  # noqa: PLC0415 - as in frames.py

    ids = [*state.jobs, *state.active_generations, *state.completed_generations, *state.errors]
    rows = sorted((_row(state, i) for i in dict.fromkeys(ids)), key=lambda row: str(row["started_at"]))
    frame = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=dtype) for name, (dtype, _) in _COLUMNS.items()}
    )
    frame.attrs["units"] = {name: unit for name, (_, unit) in _COLUMNS.items()}
    return frame


def _row(state: State, generation_id: str) -> dict[str, Any]:
    job = state.jobs.get(generation_id)
    active = state.active_generations.get(generation_id)
    done = state.completed_generations.get(generation_id)
    failure = state.errors.get(generation_id)
    row: dict[str, Any] = dict.fromkeys(_COLUMNS) | {"generation_id": generation_id}
    metadata = None
    if active:
        row |= {
            "status": "processing",
            "stage": active.stage,
            "progress": active.overall_progress,
            "started_at": active.started_at,
        }
        metadata = active.metadata
    if failure:
        row |= {"stage": failure.stage, "error_code": failure.error.code, "error": failure.error.message}
        if not active:
            row |= {"status": "failed", "ended_at": failure.occurred_at}
    if done:
        row |= {
            "status": "completed",
            "progress": 100.0,
            "ended_at": done.completed_at,
            "duration": done.duration,
            "file_size": done.file_size,
            "checksum": done.checksum,
        }
        metadata = done.metadata
    if job:
        row |= {
            "user_id": job.user_id,
            "status": job.status,
            "progress": job.progress.percentage,
            "started_at": job.created_at,
        }
        metadata = metadata or (job.result.metadata if job.result else None)
    if metadata:
        row |= {"title": metadata.title, "genre": metadata.genre}
    return row
