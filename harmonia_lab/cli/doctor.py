"""`harmonia doctor`: what is installed, what is missing, and the command that mends it.

Owns the list of checks, and those of the machine and its folders. Each engine's check is in its `spec.py`. A check
changes nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from harmonia_lab.engine_registry import audio_specs, broken_engines, metadata_specs
from harmonia_lab.engines.probes import git_commit, host
from harmonia_lab.engines.spec import Check, Verdict
from harmonia_lab.storage import home_folder

__all__ = ["run"]

MARKS: dict[Verdict, str] = {"ok": "✓", "missing": "✗", "optional": "–"}


def run(options: argparse.Namespace) -> int:
    checks = list(_checks())
    ok = all(check.verdict != "missing" for check in checks)
    if options.json:
        print(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            mend = f"\n      → {check.mend}" if check.mend else ""
            print(f"{MARKS[check.verdict]} {check.name:<18}{check.found}{mend}")
        print("Songs can be made." if ok else "Songs can't be made until what is marked ✗ is mended.")
    return 0 if ok else 1


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return Check(
            "Python",
            "optional",
            f"{found}, without venv",
            "apt-get install python3-venv (to make environments with it)",
        )
    return Check("Python", "ok", found)


def _machine() -> Check:
    this = host()
    return Check("machine", "ok", f"{this['cpu']}, {this['cores']} cores, {this['memory_bytes'] / 2**30:.0f} GiB")


def _version() -> Check:
    commit = git_commit()
    return Check(
        "Harmonia Lab", "ok", importlib.metadata.version("harmonia-lab") + (f" at {commit[:12]}" if commit else "")
    )


def _packages() -> Check:
    """Check the package's own requirements, without its extras."""
    missing = []
    for requirement in importlib.metadata.requires("harmonia-lab") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
        if "extra ==" not in requirement and not any(importlib.metadata.distributions(name=name)):
            missing.append(name)
    if missing:
        return Check("packages", "missing", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Check("packages", "ok", "all installed")


def _gpu() -> Check:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("GPU", "optional", "none found; bigger models want one")
    measure = "what it gives, in a checkout of Harmonia Lab: python -m benchmarks.gpu measure --out DIR"
    return Check("GPU", "ok", f"NVIDIA driver present ({tool}); {measure}")


def _fonts() -> Check:
    from harmonia_lab.analysis.glyphs import Glyphs  # noqa: PLC0415 - the drawing library loads with it

    glyphs = Glyphs(["夜あ가क ก"])  # of Han, kana, Hangul, Devanagari and Thai a letter each
    if glyphs.missing:
        lacking = f"none for {', '.join(glyphs.scripts)}, so songs' pictures lack these letters"
        return Check("fonts", "optional", lacking, glyphs.remedy)
    return Check("fonts", "ok", "for Han, kana, Hangul, Devanagari and Thai too")


def _home() -> Check:
    folder = home_folder()
    problem = _unwritable(folder)
    if problem:
        return Check(
            "state folder", "missing", f"{folder}: {problem}", "set HARMONIA_HOME to a folder that you can write"
        )
    return Check("state folder", "ok", str(folder))


def _songs() -> Check:
    folder = Path.cwd()
    problem = _unwritable(folder)
    if problem:
        return Check("songs", "optional", f"{folder}: {problem}", "use --out, or another folder")
    free = shutil.disk_usage(folder).free
    if free < 2**28:
        return Check("songs", "missing", f"{free / 2**20:.0f} MiB free at {folder}", "free some space")
    return Check("songs", "ok", f"{free / 2**30:.0f} GiB free at {folder}")


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written in `folder` (or where it would be made); empty when something can."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir():
        return f"{existing} is a file"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return os.strerror(error.errno or 0)


def _engine(name: str, check: Callable[[], Check]) -> Check:
    """Return the engine's own check."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - an engine of another package must not end the other checks
        return _broken(name, f"its check failed: {type(error).__name__}: {error}")


def _broken(name: str, reason: str) -> Check:
    return Check(f"engine {name}", "optional", reason, "update or uninstall the package that it comes from")


def _checks() -> Iterator[Check]:
    yield from (_version(), _python(), _packages(), _machine())
    for spec in (*metadata_specs().values(), *audio_specs().values()):
        if spec.check is not None:
            yield _engine(spec.name, spec.check)
    yield from (_broken(name, reason) for name, reason in broken_engines().items())
    yield from (_gpu(), _fonts(), _home(), _songs())
