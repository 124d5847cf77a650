"""What of a song can be seen where this process shows it: who sent the running cell, and which packages are here.

Owns that decision. A cell is asked for by a page (JupyterLab, VS Code, Colab), by a server that pages look at (Voila,
execution on Jupyter's server), or by a program that only keeps outputs (papermill, nbclient, nbconvert). Environment
variables don't tell them apart, since every process inherits them: the request itself does. `HARMONIA_PANEL=live` or
`=lines` overrules it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import psutil

from harmonia_lab.errors import ErrorCode, HarmoniaError

__all__ = [
    "cell_id",
    "check_installed",
    "has_live_frontend",
    "in_kernel",
    "in_marimo",
    "installed",
    "running_cell",
    "serves_pages",
]

_PYTHON_CLIENT = re.compile(r".+_(\d+)_\d+")
"""The ids of jupyter_client's messages: session, process id, number. Pages send UUIDs."""

_PAGE_SERVERS = re.compile(
    r"(jupyter[-_]?(lab(hub)?|server|notebook|hub)|jupyverse|voila|nbclassic|notebook)\b", re.IGNORECASE
)
"""Programs whose cells are shown in pages, by the names of their scripts and modules."""


def in_kernel() -> bool:
    """Return whether this is a Jupyter kernel. Imports nothing."""
    return _kernel() is not None


def in_marimo() -> bool:
    """Return whether this is a marimo notebook. Imports nothing."""
    marimo = sys.modules.get("marimo")
    return bool(marimo is not None and marimo.running_in_notebook())


def has_live_frontend() -> bool:
    """Return whether somebody can see a widget of the running cell."""
    kernel = _kernel()
    if kernel is None:
        return False
    choice = os.environ.get("HARMONIA_PANEL", "")
    if choice in ("live", "lines"):
        return choice == "live"
    message_id = running_cell()
    python_client = _PYTHON_CLIENT.fullmatch(message_id)
    if python_client is None:
        return bool(message_id)
    return serves_pages(_command_line(int(python_client[1])))


def running_cell() -> str:
    """Return the id of the request that runs the present cell; "" outside a kernel."""
    kernel = _kernel()
    return "" if kernel is None else str(_request_header(kernel).get("msg_id", ""))


def cell_id() -> str:
    """Return the id that the running cell has in its notebook; "" where the page doesn't send it."""
    kernel = _kernel()
    return "" if kernel is None else str(_request(kernel).get("metadata", {}).get("cellId", ""))


def serves_pages(command_line: Sequence[str]) -> bool:
    """Return whether a process with this command line shows the cells that it runs in pages.

    Only its program is looked at, not its arguments: papermill may be given a file in a folder `jupyterlab`.
    """
    program = list(command_line[:2])
    if command_line[1:2] == ["-m"]:
        program = list(command_line[2:3])
    return any(_PAGE_SERVERS.match(os.path.basename(part)) for part in program)  # noqa: PTH119 - no path: a name


def installed(package: str) -> bool:
    """Return whether `package` can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a module that was put into sys.modules by hand
        return sys.modules.get(package) is not None


def check_installed(what: str, package: str, instead: str) -> None:
    """Raise HarmoniaError (NOT_FOUND), which says how to install it and what else to do, if `package` isn't there."""
    if not installed(package):
        raise HarmoniaError(
            f"{what} needs {package}, which is not installed.",
            code=ErrorCode.NOT_FOUND,
            hint=f"pip install 'harmonia-lab[notebook]', and start the kernel again. {instead}",
        )


def _kernel() -> Any:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None)


def _request_header(kernel: Any) -> dict[str, Any]:
    header = _request(kernel).get("header", {})
    return dict(header) if header else {}


def _request(kernel: Any) -> dict[str, Any]:
    """Return the request that runs the present cell; empty where there is none."""
    try:
        request = kernel.get_parent("shell")
    except (AttributeError, TypeError):  # a kernel that isn't ipykernel's
        request = getattr(kernel, "_parent_header", None)
    return dict(request or {})


def _command_line(pid: int) -> list[str]:
    """Return the command line of a process; empty for one of another machine or user, and one that has exited."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []
