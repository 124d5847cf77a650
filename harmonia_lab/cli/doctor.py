"""`harmonia doctor`: what is installed, what is missing, the command that mends it, and whether a song can be made.

Owns the list of checks, and those of the machine and its folders. Each engine's checks are in its `spec.py`, that of
packages in `requirements.py`, those of a running server in `reach.py`. A check changes nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from harmonia_lab._version import __version__
from harmonia_lab.cli.engine_arguments import lab_parameters
from harmonia_lab.cli.installer import usual_installer
from harmonia_lab.cli.requirements import Unmet, unmet_options, unmet_requirements
from harmonia_lab.engine_registry import AudioEngines, audio_specs, broken_engines, choose_metadata, metadata_specs
from harmonia_lab.engines.probes import git_commit, host
from harmonia_lab.engines.spec import Check, EngineSpec, Verdict
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.text import printable_lines
from harmonia_lab.storage import home_folder

__all__ = ["run"]

PACKAGE = "harmonia-lab"
MARKS: dict[Verdict, str] = {"ok": "✓", "missing": "✗", "optional": "–"}
ASCII_MARKS: dict[Verdict, str] = {"ok": "+", "missing": "x", "optional": "-"}

DRIVER_S = 10.0
"""Seconds that a GPU's driver has to answer: it takes one or two where nothing keeps it loaded."""

SMALLEST_FREE = 2**28
"""Bytes that must be free for a song of ten minutes with its stems, or for what is kept in the state folder."""


def run(options: argparse.Namespace) -> int:
    if options.redis is not None:
        from harmonia_lab.cli.shared import checks_of_redis  # noqa: PLC0415 - Redis loads where it is used

        checks = checks_of_redis(options.redis or os.environ.get("HARMONIA_REDIS") or "")
    elif options.url is not None:
        from harmonia_lab.cli.reach import checks_of  # noqa: PLC0415 - the client loads where it is used

        checks = checks_of(options.url, options.token or os.environ.get("HARMONIA_TOKEN"))
    elif options.cluster is not None:
        from harmonia_lab.cli.cluster_check import checks_of_cluster  # noqa: PLC0415 - as above

        checks = checks_of_cluster(options.cluster, lab_parameters(options))
    else:
        checks = _checks(lab_parameters(options))
    ok = all(check.verdict != "missing" for check in checks)
    if options.json:
        print(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}))
    else:
        marks, arrow = (MARKS, "→") if _prints("✓✗–→") else (ASCII_MARKS, "->")
        for check in checks:
            mend = f"\n      {arrow} {check.mend}" if check.mend else ""
            print(printable_lines(f"{marks[check.verdict]} {check.name:<18}{check.found}{mend}"))
        if options.url is None and options.redis is None and options.cluster is None:
            print(_summary(checks, marks["missing"]))
    return 0 if ok else 1


def _checks(asked: Mapping[str, Any]) -> list[Check]:
    """Return all checks. asked: parameters of `Lab`. What the song that is asked for doesn't need is never missing."""
    words, writer = _words(asked)
    music, player = _music(asked)
    checks = [_version(), _python(), *_packages(), _machine()]
    for spec in (*metadata_specs().values(), *audio_specs().values()):
        if spec.check is not None:
            check = _engine(spec.name, spec.check)
            needed = spec.name in (writer, player)
            checks.append(check if needed or check.verdict != "missing" else replace(check, verdict="optional"))
    checks += [_broken(name, reason) for name, reason in broken_engines().items()]
    return [*checks, _gpu(), _fonts(), _home(), _songs(), words, music]


def _prints(letters: str) -> bool:
    """Return whether standard output has these letters: else marks would all be question marks."""
    try:
        letters.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _summary(checks: list[Check], mark: str) -> str:
    missing = [check.name for check in checks if check.verdict == "missing"]
    if not missing:
        return "Songs can be made."
    only = " Songs from given metadata (--from FILE) can be." if missing == ["words"] else ""
    return f"Songs can't be made as asked until what is marked {mark} is mended.{only}"


def _words(asked: Mapping[str, Any]) -> tuple[Check, str | None]:
    """Return whether stage 1 can run as it is asked for, and the name of its engine, None where there is none."""
    settings = asked["metadata_settings"]
    try:
        engine, reason = choose_metadata(asked["metadata"], asked["model"], settings)
        found = _proof(metadata_specs().get(engine.name), asked["model"], settings) or engine.name
    except HarmoniaError as error:
        return Check("words", "missing", error.message, error.hint), None
    warning = str(getattr(engine, "warning", ""))
    return Check("words", "ok", f"by {found} ({reason})", warning), engine.name


def _music(asked: Mapping[str, Any]) -> tuple[Check, str | None]:
    """As `_words`, for stage 2."""
    model, settings = asked["audio_model"], asked["audio_settings"]
    try:
        engine = AudioEngines(asked["audio"], model, settings).chosen
        found = _proof(audio_specs().get(engine.name), model, settings) or engine.name
    except HarmoniaError as error:
        return Check("music", "missing", error.message, error.hint), None
    return Check("music", "ok", f"by {found}"), engine.name


def _proof(spec: EngineSpec | None, model: str | None, settings: Mapping[str, Any]) -> str:
    """Return what the engine would make the song with. Raises HarmoniaError where it can't."""
    if spec is None:
        return ""
    return spec.check_asked(model, settings) if spec.check_asked is not None else spec.help


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    wanted = _declared_python()
    if not SpecifierSet(wanted).contains(sys.version.split()[0], prereleases=True):
        return Check("Python", "missing", f"{found}, but Harmonia Lab needs {wanted}", "install a newer Python")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return Check(
            "Python",
            "optional",
            f"{found}, without venv",
            "apt-get install python3-venv (to make environments with it)",
        )
    return Check("Python", "ok", found)


def _declared_python() -> str:
    try:
        return importlib.metadata.metadata(PACKAGE)["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def _machine() -> Check:
    this = host()
    return Check("machine", "ok", f"{this['cpu']}, {this['cores']} cores, {this['memory_bytes'] / 2**30:.0f} GiB")


def _version() -> Check:
    commit = git_commit()
    return Check("Harmonia Lab", "ok", __version__ + (f" at {commit[:12]}" if commit else ""))


def _packages() -> Iterator[Check]:
    """Check what is installed against the declared ranges: the package's own, and those of what it requires."""
    try:
        needed, optional = unmet_requirements(PACKAGE), unmet_options(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "optional", "not checked: Harmonia Lab runs from a folder, and is not installed")
        return
    if needed:
        yield _unmet("packages", "missing", needed)
    else:
        yield Check("packages", "ok", "all installed, in the versions that are asked for")
    if optional:
        yield _unmet("optional packages", "optional", optional)


def _unmet(name: str, verdict: Verdict, unmet: list[Unmet]) -> Check:
    mend = usual_installer().shown([each.wanted for each in unmet])
    return Check(name, verdict, ", ".join(map(str, unmet)), mend)


def _gpu() -> Check:
    """Ask the driver, which may be installed and dead: after an update, without its device, or in a container."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("GPU", "optional", "none found (no nvidia-smi); bigger models want one")
    try:
        answer = subprocess.run(
            [tool, "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=DRIVER_S, check=False
        )
        said = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    except subprocess.TimeoutExpired:
        return Check("GPU", "optional", f"the NVIDIA driver doesn't answer within {DRIVER_S:.0f} s", f"run: {tool} -L")
    except OSError as error:
        return Check("GPU", "optional", f"{tool} can't be run: {error.strerror}")
    names = [line.split(":", 1)[1].split(" (UUID")[0].strip() for line in said if line.startswith("GPU ")]
    if answer.returncode != 0 or not names:
        reason = said[0] if said else f"{tool} ended with status {answer.returncode}"
        return Check("GPU", "optional", f"the NVIDIA driver has none: {reason}", f"run: {tool}")
    measure = "what it gives, in a checkout of Harmonia Lab: python -m benchmarks.gpu measure --out DIR"
    return Check("GPU", "ok", f"{', '.join(names)}; {measure}")


def _fonts() -> Check:
    from harmonia_lab.analysis.glyphs import Glyphs  # noqa: PLC0415 - the drawing library loads with it

    glyphs = Glyphs(["夜あ가क ก"])  # of Han, kana, Hangul, Devanagari and Thai a letter each
    if glyphs.missing:
        lacking = f"none for {', '.join(glyphs.scripts)}, so songs' pictures lack these letters"
        return Check("fonts", "optional", lacking, glyphs.remedy)
    return Check("fonts", "ok", "for Han, kana, Hangul, Devanagari and Thai too")


def _home() -> Check:
    try:
        home = home_folder()
    except HarmoniaError as error:
        return Check("state folder", "missing", error.message, error.hint)
    return _folder("state folder", home, "set HARMONIA_HOME to a folder that you can write")


def _songs() -> Check:
    return _folder("songs", Path.cwd(), "use --out, or another folder", unwritable="optional")


def _folder(name: str, folder: Path, mend: str, unwritable: Verdict = "missing") -> Check:
    """Check that files can be written in `folder` (or where it would be made), and that there is space."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    problem = _unwritable(existing)
    if problem:
        return Check(name, unwritable, f"{folder}: {problem}", mend)
    free = shutil.disk_usage(existing).free
    if free < SMALLEST_FREE:
        return Check(name, "missing", f"{folder}: {free / 2**20:.0f} MiB free", "free some space")
    return Check(name, "ok", f"{folder}, {free / 2**30:.0f} GiB free")


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written in `folder`; empty when something can."""
    if not folder.is_dir():
        return f"{folder} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder):
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
