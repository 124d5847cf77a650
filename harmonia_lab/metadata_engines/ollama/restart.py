"""The command that starts an Ollama service again, where a person has set one. Owns its run, nothing else."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import time

from harmonia_lab.child_process import kill_tree, own_group
from harmonia_lab.engines.base import CancelToken

__all__ = ["RESTART_S", "run_restart"]

RESTART_S = 60.0
"""Seconds that the command may take."""

POLL_S = 0.05

_log = logging.getLogger(__name__)


def run_restart(command: str, cancel: CancelToken) -> None:
    """Run the command, without a shell, and return when it has ended, or was ended after RESTART_S or by a cancel.

    Its output is discarded. A command that fails is a warning: the next attempt shows whether the server is there.
    """
    _log.warning("Starting the language model's server again: %s", command)
    try:
        process = subprocess.Popen(
            command if sys.platform == "win32" else shlex.split(command),  # Windows has no list of arguments
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **own_group(),
        )
    except (OSError, ValueError) as error:
        _log.warning("The command that starts it again can't be run: %s", error)
        return
    deadline = time.monotonic() + RESTART_S
    while process.poll() is None:
        if cancel.wait(POLL_S) or time.monotonic() > deadline:
            kill_tree(process)
    if process.returncode:
        _log.warning("The command that starts it again ended with status %d.", process.returncode)
