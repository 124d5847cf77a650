"""The program that installs packages into this environment: pip, uv or pipx, whichever is there.

Owns how it is found and called. What is to be installed is in each engine's `spec.py`.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Installer", "find_installer", "usual_installer"]


@dataclass(frozen=True)
class Installer:
    """name: of the program. command: what stands before the arguments of `pip install`, which uv takes too."""

    name: str
    command: tuple[str, ...]

    def install(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that installs `arguments` here."""
        return [*self.command, *arguments]

    def shown(self, arguments: Sequence[str]) -> str:
        """Return that command line as a person pastes it into a shell."""
        return shlex.join(self.install(arguments))


def find_installer() -> Installer | None:
    """Return the first of pip (of this environment), uv and pipx that can be run here; None where none can."""
    if importlib.util.find_spec("pip") is not None:
        return Installer("pip", (sys.executable, "-m", "pip", "install"))
    beside = Path(sys.executable).with_name("uv")
    if (uv := str(beside) if beside.is_file() else shutil.which("uv")) is not None:
        return _uv(uv)
    if _made_by_pipx() and (pipx := shutil.which("pipx")) is not None:
        return _pipx(pipx)
    return None


def usual_installer() -> Installer:
    """Return what a person should install with, to be named in a message: what can be run, or what made this
    environment, or else pip."""
    found = find_installer()
    if found is not None:
        return found
    if _made_by_pipx():
        return _pipx("pipx")
    return _uv("uv") if _made_by_uv() else Installer("pip", (sys.executable, "-m", "pip", "install"))


def _uv(program: str) -> Installer:
    return Installer("uv", (program, "pip", "install", "--python", sys.executable))


def _pipx(program: str) -> Installer:
    return Installer("pipx", (program, "runpip", Path(sys.prefix).name, "install"))


def _made_by_pipx() -> bool:
    return (Path(sys.prefix) / "pipx_metadata.json").is_file()


def _made_by_uv() -> bool:
    """Return whether uv made this environment: it says so in the file that describes it."""
    try:
        lines = (Path(sys.prefix) / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in lines)
