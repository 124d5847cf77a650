"""What the benchmarks' subjects share of a command: ranges of options, and a table and a file at the end.

What is measured, and how it is shown, is each subject's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.storage import storage_errors

__all__ = ["check_range", "publish"]


def check_range(option: str, value: float, most: int) -> None:
    """Raises InvalidRequest where `value`, given as `--option`, is not in 1…most."""
    if not 1 <= value <= most:
        raise InvalidRequest(f"--{option} {value:g} is out of range.", hint=f"Choose 1 to {most}.")


def publish(figures: dict[str, Any], table: str, file: str | None) -> int:
    """Prints `table`, writes the figures to `file` as JSON where there is one, and returns the exit status.

    Raises StorageError.
    """
    print(table)
    if file:
        path = Path(file)
        with storage_errors(path):
            path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0
