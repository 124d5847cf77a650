"""The run log for other programs: CSV, Parquet, MLflow and Weights & Biases.

Owns the format of a row there. Only these functions send rows anywhere; those for MLflow and W&B need extras
(`harmonia-lab[mlflow]`, `harmonia-lab[wandb]`). A row holds no narrative and no lyrics, but it holds the names of the
host and of folders.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.storage import storage_errors

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_csv", "to_mlflow", "to_parquet", "to_wandb"]


def to_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write one line for each row, UTF-8; `instrument_s` is JSON, missing values are empty. Raises StorageError."""
    with storage_errors(Path(path)):
        _flat(frame).to_csv(path, index=False)


def to_parquet(frame: pd.DataFrame, path: Path | str) -> None:
    """Write typed columns, with `attrs["units"]`, which `pandas.read_parquet` restores. `instrument_s` is JSON text.

    Raises StorageError; HarmoniaError if pyarrow is not installed.
    """
    _import_optional("pyarrow", "pyarrow")
    with storage_errors(Path(path)):
        _flat(frame).to_parquet(path, engine="pyarrow", index=False)


def to_mlflow(frame: pd.DataFrame, *, experiment: str = "harmonia-lab", tracking_uri: str | None = None) -> list[str]:
    """Make one MLflow run for each row, in `experiment`; return their ids.

    Durations, sizes, ratios and rates become metrics; choices (engines, models, seed, lengths) become parameters; the
    rest become tags. A row whose `run_id` MLflow already has is not sent again. tracking_uri: as for MLflow (default:
    MLflow's own setting). Raises HarmoniaError if MLflow is not installed.
    """
    mlflow = _import_optional("mlflow", "harmonia-lab[mlflow]")
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    found = client.get_experiment_by_name(experiment)
    experiment_id = client.create_experiment(experiment) if found is None else found.experiment_id
    ids = []
    for row in _rows(frame):
        name = row["tags"]["run_id"]
        quoted = name.replace("'", "")
        earlier = client.search_runs([experiment_id], f"tags.run_id = '{quoted}'", max_results=1)
        if earlier:
            ids.append(earlier[0].info.run_id)
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
    """Make one W&B run for each row, with its figures as summary; return their ids, which are the rows' `run_id`.

    options: of `wandb.init` (entity, mode="offline", dir, …). Raises HarmoniaError if W&B is not installed.
    """
    wandb = _import_optional("wandb", "harmonia-lab[wandb]")
    ids = []
    for row in _rows(frame):
        name = row["tags"]["run_id"]
        config = row["params"] | row["tags"]
        run = wandb.init(
            project=project, id=name, name=name, config=config, resume="allow", reinit="create_new", **options
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
_NOT_IN_NAMES = re.compile(r"[^\w .-]")
"""Characters that MLflow refuses in the name of a metric."""


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each row as {params, metrics, tags, started_ms, ended_ms}, without missing values."""
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    found = []
    for row in frame.to_dict("records"):
        params: dict[str, Any] = {}
        metrics: dict[str, float] = {}
        tags: dict[str, Any] = {}
        for key, value in row.items():
            name = str(key)
            if isinstance(value, dict):
                metrics |= {f"{name}.{_NOT_IN_NAMES.sub('_', part)}": float(seconds) for part, seconds in value.items()}
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
        run = {"params": params, "metrics": metrics, "tags": tags, "started_ms": started_ms, "ended_ms": ended_ms}
        found.append(run)
    return found


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with `instrument_s` as JSON text."""
    texts = frame["instrument_s"].map(lambda value: json.dumps(value) if isinstance(value, dict) else None)
    return frame.assign(instrument_s=texts.astype("string"))


def _import_optional(module: str, requirement: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise HarmoniaError(
            f"The package {module} is not installed.",
            code=ErrorCode.NOT_FOUND,
            hint=f"pip install '{requirement}'",
            details={"requirement": requirement},
        ) from None
