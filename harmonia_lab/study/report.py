"""`StudyReport`: what `lab.study` returns, and what reads a study's folder, one's own or somebody else's.

Owns nothing beside the two verbs that join `result.py` to the page and to another run of the study.
"""

from __future__ import annotations

from pathlib import Path

from harmonia_lab.study.page import write_page
from harmonia_lab.study.reproduction import Reproduction, reproduction
from harmonia_lab.study.result import StudyResult

__all__ = ["StudyReport"]


class StudyReport(StudyResult):
    """A study's result, its page, and its comparison with the study that it repeats."""

    def against(self, folder: Path | str) -> Reproduction:
        """Compare this study with another run of it, in `folder`: which songs and ratios came out the same.

        Raises HarmoniaError (NOT_FOUND) if the folder holds no study, InvalidRequest if it is another study.
        """
        return reproduction(StudyResult(folder), self)

    def write_page(self, again: Reproduction | None = None) -> Path:
        """Write `study.html` into the study's folder, and return its path. again: what `against` found, for a study
        that repeats another; it stands on the page then, and in `again.json`. Raises StorageError."""
        if again:
            again.write(self.folder)
        return write_page(self, again)
