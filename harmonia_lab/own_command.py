"""What a person types to run this very installation's `harmonia`. Owns nothing else.

pipx and `uv tool` put it on the path, a virtual environment only where it is activated, and another installation's may
come first: then the interpreter runs it as a module.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["own_command"]


def own_command(*arguments: str) -> str:
    """Return the command line, as the system's shell takes it."""
    found = shutil.which("harmonia")
    here = Path(sys.executable).parent
    if found is not None and here in (Path(found).parent, Path(found).resolve().parent):
        command = ["harmonia", *arguments]
    else:
        command = [sys.executable, "-m", "harmonia_lab", *arguments]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
