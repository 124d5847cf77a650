"""`harmonia setup`: the installs that package metadata can't express.

Owns how pip is run. Its arguments come from each engine's `spec.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys

from harmonia_lab.engine_registry import installations
from harmonia_lab.engines.spec import Installation
from harmonia_lab.errors import HarmoniaError, InvalidRequest

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    installation = installations()[options.what]
    if options.random:
        _make_random_model(options.what, installation, *options.random)
        return 0
    if installation.is_installed():
        print(f"{installation.title} is installed.", file=sys.stderr)
    else:
        _install(installation)
    installation.prepare()
    return 0


def _install(installation: Installation) -> None:
    """Run pip as the installation says. Raises HarmoniaError where there is no pip, or it fails."""
    if importlib.util.find_spec("pip") is None:
        raise HarmoniaError(
            f"{sys.executable} has no pip to install {installation.title} with.",
            code=installation.code,
            hint=f"run: {sys.executable} -m ensurepip",
        )
    for arguments in installation.pip_arguments():
        command = [sys.executable, "-m", "pip", "install", *arguments]
        shown = shlex.join(command)
        print(f"Installing {installation.title}: {shown}", file=sys.stderr)
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode
        if status != 0:
            raise HarmoniaError(
                f"{installation.title} could not be installed: pip ended with status {status}.",
                code=installation.code,
                hint=f"Mend what pip says above, then run it again, or by hand: {shown}",
            )
    if not installation.is_installed():
        raise HarmoniaError(
            f"{installation.title} can't be used, though pip installed it.",
            code=installation.code,
            hint="run: harmonia doctor",
        )


def _make_random_model(name: str, installation: Installation, size: str, folder: str) -> None:
    if installation.random_model is None:
        raise InvalidRequest(f"There are no models with random weights for {name}: leave out --random.")
    made = installation.random_model(size, folder)
    print(f"A model of {size} shape with random weights (it makes noise): {made}", file=sys.stderr)
