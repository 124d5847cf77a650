"""What the benchmarks share of a command: ranges of options, the file that `--json` names, medians with their range.

Owns no measurement and no table: those are in each benchmark's own module (`bench/pipeline.py`, `bench/cancel.py`,
`bench/decode.py`, and the repository's `benchmarks/`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonia_lab.engines.probes import host
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.artifacts import package_versions
from harmonia_lab.storage import storage_errors

__all__ = ["check_file", "check_range", "circumstances", "format_spread", "publish", "save", "spread"]


def check_range(option: str, value: float, most: int) -> None:
    """Raise InvalidRequest if `value`, given as `--option`, is not in 1…most."""
    if not 1 <= value <= most:
        raise InvalidRequest(f"--{option} {value:g} is out of range.", hint=f"Choose 1 to {most}.")


def check_file(file: str | None) -> None:
    """Raise InvalidRequest if `--json FILE` lies in no existing folder: known before minutes of measuring."""
    if file and not Path(file).absolute().parent.is_dir():
        raise InvalidRequest(f"--json {file}: there is no folder {Path(file).absolute().parent}.")


def circumstances() -> dict[str, Any]:
    """Return the machine (`host`) and the versions of the packages (`versions`), for the figures."""
    return {"host": host(), "versions": package_versions()}


def publish(figures: dict[str, Any], table: str, file: str | None) -> int:
    """Print `table`, write the figures to `file` as JSON if one is given, and return the exit status.

    Raises StorageError.
    """
    print(table)
    save(figures, file)
    return 0


def save(figures: dict[str, Any], file: str | None) -> None:
    """Write the figures to `file` as JSON, if one is given; the file is never half written. Raises StorageError."""
    if file:
        path, partial = Path(file), Path(f"{file}.partial")
        with storage_errors(path):
            partial.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return {median, min, max}."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def format_spread(figure: Mapping[str, float] | None) -> str:
    """Return a spread as a table prints it; an empty string for None."""
    return f"{figure['median']:.2f} ({figure['min']:.2f}–{figure['max']:.2f})" if figure else ""
