"""The programs that render a MIDI file with a sound bank: the package midirenderer, or FluidSynth of the system where
that isn't there: it has no wheels for Linux on Arm and for musl.

Owns the choice between them (not how they run: `renderer.py`). The same notes sound alike and have other bytes, so a
song's record names the renderer.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from typing import NamedTuple

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["FoundRenderer", "find_renderer"]

VARIABLE = "HARMONIA_RENDERER"

_PLACES = os.pathsep.join(["/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin"])
"""Homebrew's and MacPorts' folders, which a program that isn't started in a terminal may not have on its path."""


class FoundRenderer(NamedTuple):
    """program: FluidSynth's file; "" for midirenderer."""

    program: str

    @property
    def name(self) -> str:
        """Name and version, for the record."""
        if not self.program:
            return f"midirenderer {importlib.metadata.version('midirenderer')}"
        return f"FluidSynth {_version(self.program)}"


def find_renderer() -> FoundRenderer:
    """Return midirenderer if it is installed, else FluidSynth; HARMONIA_RENDERER names one of them. Nothing is loaded.

    Raises AudioError (AUDIO_UNAVAILABLE) where there is none.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "midirenderer", "fluidsynth"):
        raise _unavailable(f"{VARIABLE}={wanted[:40]} names no renderer.", "Set it to midirenderer or fluidsynth.")
    if wanted != "fluidsynth" and importlib.util.find_spec("midirenderer") is not None:
        return FoundRenderer("")
    program = shutil.which("fluidsynth") or shutil.which("fluidsynth", path=_PLACES)
    if wanted != "midirenderer" and program is not None:
        return FoundRenderer(program)
    what = {"": "neither the package midirenderer nor FluidSynth is", "midirenderer": "midirenderer isn't"}
    raise _unavailable(
        f"The sketch engine has no renderer: {what.get(wanted, 'FluidSynth is not')} installed.",
        "Install the package midirenderer: `harmonia doctor` has the command. Where it has no wheels (Linux on Arm,"
        " musl), install FluidSynth: apt-get install fluidsynth, apk add fluidsynth, brew install fluidsynth.",
    )


@functools.cache
def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return "unknown"
    words = done.stdout.decode(errors="replace").split()  # "FluidSynth runtime version 2.3.1 Copyright …"
    return next((word for word in words if word[0].isdigit()), "unknown")


def _unavailable(message: str, hint: str) -> AudioError:
    return AudioError(message, code=ErrorCode.AUDIO_UNAVAILABLE, hint=hint)
