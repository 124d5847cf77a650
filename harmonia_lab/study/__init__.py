"""Studies: configurations compared in blocks, in an order that is drawn. `lab.study` and `harmonia study` are this.

`design.py` says what is made, `reading.py` reads it, `run.py` makes the songs, `folder.py` keeps what somebody else
needs to make them again, `report.py` and `page.py` show the result, `reproduction.py` compares two runs of a study.
`handle.py` is a study in the background.
"""

from harmonia_lab.study.design import StudyDesign
from harmonia_lab.study.handle import StudyHandle, StudyProgress
from harmonia_lab.study.report import StudyReport
from harmonia_lab.study.reproduction import Reproduction
from harmonia_lab.study.run import DesignSource, check_study, run_study

__all__ = [
    "DesignSource",
    "Reproduction",
    "StudyDesign",
    "StudyHandle",
    "StudyProgress",
    "StudyReport",
    "check_study",
    "run_study",
]
