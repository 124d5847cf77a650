"""Whether a notebook page shows this kernel's widgets live.

Owns that guess, made from environment variables, since a front end doesn't announce itself. `HARMONIA_PANEL=live` or
`=lines` overrules it.
"""

from __future__ import annotations

import os
import sys

__all__ = ["has_live_frontend", "in_kernel"]

FRONTEND_VARIABLES = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG")
"""Set in kernels that a page started. Jupyter Server sets the first for each session; papermill and nbconvert set none
of them."""


def in_kernel() -> bool:
    """Return whether this is a Jupyter kernel. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def has_live_frontend() -> bool:
    """Return whether this is a kernel whose widgets a page is likely to show live."""
    choice = os.environ.get("HARMONIA_PANEL", "")
    if choice in ("live", "lines"):
        return choice == "live" and in_kernel()
    return in_kernel() and any(name in os.environ for name in FRONTEND_VARIABLES)
