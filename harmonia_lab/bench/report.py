"""The parts of a benchmark's command that all subjects share: checks of options, and the output of the results.

Owns neither the measurements nor the tables: each subject has its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.storage import storage_errors

__all__ = ["check_range", "publish"]


def check_range(option: str, value: float, most: int) -> None:
    """Raise InvalidRequest if `value`, the value of `--option`, is not in 1…most."""
    if not 1 <= value <= most:
        raise InvalidRequest(f"--{option} {value:g} is out of range.", hint=f"Choose 1 to {most}.")


def publish(figures: dict[str, Any], table: str, file: str | None) -> int:
    """Print `table`, write the figures to `file` as JSON if there is one, and return the exit status.

    Raise StorageError if the file can't be written.
    """
    print(table)
    if file:
        path = Path(file)
        with storage_errors(path):
            path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0
