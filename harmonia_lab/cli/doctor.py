"""`harmonia doctor`: what is there, what is missing, and the command that mends it.

Owns the list of checks. Each is a small function that looks and never changes anything.
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
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from harmonia_lab.engines.probes import git_commit, host
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.storage import home_folder

__all__ = ["CHECKS", "Check", "run"]

Verdict = Literal["ok", "missing", "optional"]
MARKS: dict[Verdict, str] = {"ok": "✓", "missing": "✗", "optional": "–"}


@dataclass(frozen=True)
class Check:
    """verdict: ok; missing (songs can't be made); optional (they can). mend: a command, or what to do; "" when ok."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def run(options: argparse.Namespace) -> int:
    checks = [check() for check in CHECKS]
    if options.json:
        print(json.dumps({"ok": _ok(checks), "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            mend = f"\n      → {check.mend}" if check.mend else ""
            print(f"{MARKS[check.verdict]} {check.name:<18}{check.found}{mend}")
        print("Songs can be made." if _ok(checks) else "Songs can't be made until what is marked ✗ is mended.")
    return 0 if _ok(checks) else 1


def _ok(checks: list[Check]) -> bool:
    return all(check.verdict != "missing" for check in checks)


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
    """The package's own requirements, extras left out."""
    missing = []
    for requirement in importlib.metadata.requires("harmonia-lab") or []:
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        if match is None or "extra ==" in requirement:
            continue
        try:
            importlib.metadata.version(match[0])
        except importlib.metadata.PackageNotFoundError:
            missing.append(match[0])
    if missing:
        return Check("packages", "missing", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Check("packages", "ok", "all installed")


def _embedded() -> Check:
    from harmonia_lab.metadata_engines import embedded  # noqa: PLC0415

    if embedded.is_installed():
        return Check("embedded model", "ok", embedded.DEFAULT_MODEL)
    return Check("embedded model", "optional", "not installed: songs need an Ollama server", "harmonia setup embedded")


def _ollama() -> Check:
    from harmonia_lab.metadata_engines.ollama.engine import installed_models, server_address  # noqa: PLC0415

    address = server_address()
    try:
        models = installed_models(address)
    except HarmoniaError:
        hint = "install and start Ollama, then: ollama pull MODEL"
        return Check("Ollama", "optional", f"nothing answers at {address}", hint)
    if not models:
        return Check("Ollama", "optional", f"at {address}, without a model", "ollama pull MODEL")
    return Check("Ollama", "ok", f"at {address}: {', '.join(models[:5])}{' …' if len(models) > 5 else ''}")


def _sketch() -> Check:
    from harmonia_lab.audio_engines.sketch.engine import SketchEngine  # noqa: PLC0415

    try:
        record = SketchEngine().record()
    except HarmoniaError as error:
        return Check("sketch engine", "missing", error.message, error.hint)
    return Check("sketch engine", "ok", f"sound bank {record['model']}")


def _musicgen() -> Check:
    """A second of audio from a model of debug size, through every part that a real one goes through."""
    from harmonia_lab.audio_engines.musicgen.install import missing  # noqa: PLC0415

    absent = missing()
    if absent:
        return Check("MusicGen", "optional", f"not installed: {', '.join(absent)}", "harmonia setup musicgen")
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint  # noqa: PLC0415
    from harmonia_lab.engines.base import CancelToken  # noqa: PLC0415
    from harmonia_lab.music.composing import compose  # noqa: PLC0415
    from harmonia_lab.protocol.models import SongMetadata  # noqa: PLC0415

    metadata = SongMetadata.model_validate(
        {
            "title": "A check-up",
            "lyrics": "",
            "genre": "ambient",
            "mood": ["calm"],
            "bpm": 60,
            "key": "C major",
            "instruments": [{"name": "piano", "role": "chords"}],
        }
    )
    plan = replace(compose(metadata, 1.0, seed=0), metadata=metadata)
    try:
        with tempfile.TemporaryDirectory(prefix="harmonia-doctor-") as scratch:
            engine = MusicGenEngine(str(make_checkpoint(Path(scratch) / "tiny", "tiny")))
            (stem,) = engine.render(plan.parts, plan, {"piano": 0}, lambda _: None, CancelToken(), {})
            record = engine.record()
            engine.close()
    except HarmoniaError as error:
        return Check("MusicGen", "optional", error.message, error.hint)
    seconds = stem.audio.shape[1] / stem.sample_rate
    found = f"audiocraft {record['audiocraft']}, torch {record['torch']} on {record['ranOn']}: {seconds:g} s generated"
    return Check("MusicGen", "ok", found)


def _gpu() -> Check:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("GPU", "optional", "none found; MusicGen's bigger models want one")
    measure = "what it gives MusicGen, in a checkout of Harmonia Lab: python -m benchmarks.gpu measure --out DIR"
    return Check("GPU", "ok", f"NVIDIA driver present ({tool}); {measure}")


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
    """Why nothing can be written in `folder` (or where it would be made); empty when something can."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir():
        return f"{existing} is a file"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return os.strerror(error.errno or 0)


CHECKS: tuple[Callable[[], Check], ...] = (
    _version,
    _python,
    _packages,
    _machine,
    _embedded,
    _ollama,
    _sketch,
    _musicgen,
    _gpu,
    _home,
    _songs,
)
