"""`harmonia setup`: the installs that package metadata can't express.

Owns the order of its steps. What is installed is in each engine's `spec.py`, with what in `installer.py`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys

from harmonia_lab.cli.installer import find_installer, usual_installer
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
    """Run the installer as the installation says. Raises HarmoniaError where there is none, or it fails."""
    installer = find_installer()
    if installer is None:
        usual = usual_installer()
        commands = " && ".join(usual.shown(arguments) for arguments in installation.pip_arguments())
        raise HarmoniaError(
            f"There is neither pip nor uv here to install {installation.title} with.",
            code=installation.code,
            hint=f"Put {usual.name} on the PATH, or into {sys.prefix}, and run it again, or by hand: {commands}",
        )
    for arguments in installation.pip_arguments():
        shown = installer.shown(arguments)
        print(f"Installing {installation.title}: {shown}", file=sys.stderr)
        command = installer.install(arguments)
        # Old pips without `wheel` (Debian 12's) build a source archive the old way, whose metadata is no .dist-info.
        environment = {**os.environ, "PIP_USE_PEP517": "1"}
        run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment, check=False)
        status = run.returncode
        if status != 0:
            raise HarmoniaError(
                f"{installation.title} could not be installed: {installer.name} ended with status {status}.",
                code=installation.code,
                hint=f"Mend what {installer.name} says above, then run it again, or by hand: {shown}",
            )
    importlib.invalidate_caches()
    if not installation.is_installed():
        raise HarmoniaError(
            f"{installation.title} can't be used, though {installer.name} installed it.",
            code=installation.code,
            hint="run: harmonia doctor",
        )


def _make_random_model(name: str, installation: Installation, size: str, folder: str) -> None:
    if installation.random_model is None:
        raise InvalidRequest(f"There are no models with random weights for {name}: leave out --random.")
    made = installation.random_model(size, folder)
    print(f"A model of {size} shape with random weights (it makes noise): {made}", file=sys.stderr)
