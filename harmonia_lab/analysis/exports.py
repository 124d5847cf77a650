"""The run log for other programs: CSV, Parquet, MLflow and Weights & Biases.

Owns how a row looks there. Nothing is sent anywhere unless it is asked for here, and MLflow and W&B are asked for by
extras of their own (`harmonia-lab[mlflow]`, `harmonia-lab[wandb]`). No narrative and no lyrics are in a row; host names
and folders are.
"""

from __future__ import annotations

import importlib
import json
import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.storage import storage_errors

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_csv", "to_mlflow", "to_parquet", "to_wandb"]


def to_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """One line a row, UTF-8; `instrument_s` as JSON, what is missing as nothing. Raises StorageError."""
    path = Path(path)
    with storage_errors(path):
        _flat(frame).to_csv(path, index=False)


def to_parquet(frame: pd.DataFrame, path: Path | str) -> None:
    """Typed columns; `pandas.read_parquet` brings `attrs["units"]` back with them. `instrument_s` is JSON text.

    Raises StorageError; HarmoniaError where pyarrow is not installed.
    """
    _installed("pyarrow", "pyarrow")
    path = Path(path)
    with storage_errors(path):
        _flat(frame).to_parquet(path, engine="pyarrow", index=False)


def to_mlflow(frame: pd.DataFrame, *, experiment: str = "harmonia-lab", tracking_uri: str | None = None) -> list[str]:
    """One MLflow run for each row, in `experiment`; returns their ids.

    Numbers with a unit, and ratios and rates, are metrics; what was chosen (engines, models, seed, lengths) are
    parameters, the rest are tags. A row that is there already (by its `run_id`) is left as it is.
    tracking_uri: as MLflow takes it (default: its own setting). Raises HarmoniaError where MLflow is not installed.
    """
    mlflow = _installed("mlflow", "harmonia-lab[mlflow]")
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    found = client.get_experiment_by_name(experiment)
    experiment_id = client.create_experiment(experiment) if found is None else found.experiment_id
    ids = []
    for row in _rows(frame):
        name = row["tags"]["run_id"]
        there = client.search_runs([experiment_id], f"tags.run_id = '{_quoted(name)}'", max_results=1)
        if there:
            ids.append(there[0].info.run_id)
            continue
        run_id = client.create_run(experiment_id, start_time=row["started_ms"], run_name=name).info.run_id
        entities = mlflow.entities
        client.log_batch(
            run_id,
            metrics=[entities.Metric(key, value, row["started_ms"], 0) for key, value in row["metrics"].items()],
            params=[entities.Param(key, str(value)) for key, value in row["params"].items()],
            tags=[entities.RunTag(key, str(value)) for key, value in row["tags"].items()],
        )
        status = {"completed": "FINISHED", "failed": "FAILED"}.get(row["tags"].get("status", ""), "KILLED")
        client.set_terminated(run_id, status, end_time=row["ended_ms"])
        ids.append(run_id)
    return ids


def to_wandb(frame: pd.DataFrame, *, project: str = "harmonia-lab", **options: Any) -> list[str]:
    """One W&B run for each row, its figures as the run's summary; returns their ids, which are the rows' `run_id`.

    options: of `wandb.init` (entity, mode="offline", dir, …). Raises HarmoniaError where W&B is not installed.
    """
    wandb = _installed("wandb", "harmonia-lab[wandb]")
    ids = []
    for row in _rows(frame):
        name = row["tags"]["run_id"]
        run = wandb.init(
            project=project,
            id=name,
            name=name,
            config=row["params"] | row["tags"],
            resume="allow",
            reinit="create_new",
            **options,
        )
        run.summary.update(row["metrics"])
        run.finish(exit_code=0 if row["tags"].get("status") == "completed" else 1)
        ids.append(name)
    return ids


_PARAMETERS = (
    "metadata_engine", "metadata_model", "metadata_strategy", "audio_engine", "audio_model", "audio_batch", "seed",
    "seconds_requested", "bpm", "instruments", "narrative_characters",
)  # fmt: skip
_NO_METRICS = ("schema", "attempt", "cores", "memory_bytes")


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row as {params, metrics, tags, started_ms, ended_ms}; what is missing is nowhere."""
    import pandas as pd  # noqa: PLC0415 - as in frames.py

    found = []
    for row in frame.to_dict("records"):
        params: dict[str, Any] = {}
        metrics: dict[str, float] = {}
        tags: dict[str, Any] = {}
        for key, value in row.items():
            name = str(key)
            if isinstance(value, dict):
                metrics |= {f"{name}.{_named(part)}": float(seconds) for part, seconds in value.items()}
            elif pd.isna(value):
                continue
            elif name in _PARAMETERS:
                params[name] = value
            elif isinstance(value, (int, float)) and name not in _NO_METRICS and math.isfinite(value):
                metrics[name] = float(value)
            else:
                tags[name] = value
        started_ms = round(datetime.fromisoformat(row["started_at"]).timestamp() * 1000)
        ended_ms = started_ms + round(1000 * metrics.get("total_s", 0.0))
        found.append(
            {"params": params, "metrics": metrics, "tags": tags, "started_ms": started_ms, "ended_ms": ended_ms}
        )
    return found


def _named(part: str) -> str:
    """Metric names may hold letters, digits, spaces and a few signs."""
    return "".join(c if c.isalnum() or c in " _-." else "_" for c in part)


def _quoted(text: str) -> str:
    return text.replace("'", "")


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    flat = frame.copy()
    flat["instrument_s"] = [json.dumps(v) if isinstance(v, dict) else None for v in frame["instrument_s"]]
    flat["instrument_s"] = flat["instrument_s"].astype("string")
    return flat


def _installed(module: str, requirement: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise HarmoniaError(
            f"The package {module} is not installed.",
            code=ErrorCode.NOT_FOUND,
            hint=f"pip install '{requirement}'",
            details={"requirement": requirement},
        ) from None
