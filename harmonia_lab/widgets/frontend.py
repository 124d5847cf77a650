"""Whether somebody can see a widget: the front end does not introduce itself, so its traces are read.

Owns that guess. `HARMONIA_PANEL=live` or `=lines` settles it.
"""

from __future__ import annotations

import os
import sys

__all__ = ["front_end", "in_kernel"]

TRACES = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG")
"""Set for kernels that a page started. Jupyter Server sets the first for each session; papermill and nbconvert start
their kernels without."""


def in_kernel() -> bool:
    """Whether this is a Jupyter kernel. Loads nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def front_end() -> bool:
    """Whether a page is likely to show what this kernel displays, live."""
    choice = os.environ.get("HARMONIA_PANEL", "")
    if choice in ("live", "lines"):
        return choice == "live" and in_kernel()
    return in_kernel() and any(name in os.environ for name in TRACES)
