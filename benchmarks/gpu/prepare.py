"""`prepare`: collects the kit's wheels, from a package index or from the installed packages.

Owns the calls of pip, the packing of installed packages, and the replacement of the folder's content. The list of
packages is in `kit.py`, the versions are in constraints.txt.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from benchmarks.gpu.kit import DEFAULT_KIT, KIT, PLATFORMS, ROOT, KitError, fits, wheels

__all__ = ["collect", "configure", "python_version", "run"]

BUILT = frozenset({"audiocraft"})
"""Published as source only. It is pure Python, so any Python builds the same `py3-none-any` wheel."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python", type=python_version, default="3.12", metavar="TAG", help="the machine's Python: 3.12 (default), …"
    )
    parser.add_argument(
        "--kit", type=Path, default=ROOT / DEFAULT_KIT, metavar="DIR", help=f"the folder (default: {DEFAULT_KIT})"
    )
    parser.add_argument(
        "--installed",
        action="store_true",
        help="without a package index: pack the packages installed here; for a machine with the same Python",
    )


def run(options: argparse.Namespace) -> int:
    try:
        found = collect(options.kit, options.python, installed=options.installed)
    except (KitError, OSError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    for path in found:
        print(f"{path.stat().st_size / 1e3:8.0f} kB  {path.name}")
    size = sum(path.stat().st_size for path in found) / 1e6
    print(f"{len(found)} wheels, {size:.1f} MB, for Python {options.python} on Linux x86-64: {options.kit}")
    return 0


def python_version(given: str) -> str:
    """Return "3.12" for "3.12" and for "cp312". Raise ArgumentTypeError for anything else."""
    match = re.fullmatch(r"(?:cp)?3\.?(\d{1,2})", given)
    if not match:
        raise argparse.ArgumentTypeError(f"{given!r} is no Python version. Write it as 3.12 or cp312.")
    return f"3.{match[1]}"


def collect(kit: Path, python: str, *, installed: bool = False) -> list[Path]:
    """Fill the folder `kit` with exactly the kit's wheels for CPython `python`, and return them.

    installed: pack this interpreter's installed packages instead of asking a package index. The folder's old content is
    replaced when all wheels are ready. Raise KitError without pip or an index, if a package isn't installed or is for
    another Python, and if the folder holds anything but wheels.
    """
    if kit.exists():
        wheels(kit)  # raises KitError for a folder that isn't a kit
    kit = kit.absolute()
    work = kit.with_name(f".{kit.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        if installed:
            for name in KIT:
                _pack(name, work, python)
        else:
            _fetch(work, python)
        _check(work, python)
        shutil.rmtree(kit, ignore_errors=True)
        work.rename(kit)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return list(wheels(kit).values())


def _fetch(folder: Path, python: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise KitError(f"{sys.executable} has no pip. Run: {sys.executable} -m ensurepip")
    pinned = _pinned()
    tag = f"cp{python.replace('.', '')}"
    target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    target += [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
    target += [word for name in PLATFORMS for word in ("--platform", name)]
    published = [pinned[name] for name in KIT if name not in BUILT]
    _pip("download", "--dest", str(folder), *target, *published)
    _pip("wheel", "--wheel-dir", str(folder), *(pinned[name] for name in KIT if name in BUILT))


def _pinned() -> dict[str, str]:
    """Return `name==version` of each distribution of the kit, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned: dict[str, str] = {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}
    missing = sorted(set(KIT) - pinned.keys())
    if missing:
        raise KitError(f"constraints.txt has no version of {', '.join(missing)}. Add the one that was tested.")
    return pinned


def _pip(command: str, *arguments: str) -> None:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet", "--no-deps", *arguments]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise KitError(
            f"`pip {command}` failed: {_reason(done.stderr.splitlines())} The kit needs a package index that pip "
            "reaches (its option index-url, or PIP_INDEX_URL); nothing was changed."
        )


def _reason(output: Sequence[str]) -> str:
    """Return pip's error messages as sentences; without any, its last lines."""
    errors = [line.removeprefix("ERROR: ") for line in output if line.startswith("ERROR: ")]
    return " ".join(line if line.endswith(".") else f"{line}." for line in errors or output[-3:])


def _pack(name: str, folder: Path, python: str) -> None:
    """Write a wheel of an installed distribution, for `kit.unpack`. It has no valid RECORD, which pip would need."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise KitError(f"{name} isn't installed in {sys.prefix}. Go without --installed.") from error
    lines = (distribution.read_text("WHEEL") or "").splitlines()
    stem = f"{name.replace('-', '_')}-{distribution.version}"
    names = [f"{stem}-{line.removeprefix('Tag: ')}.whl" for line in lines if line.startswith("Tag: ")]
    fitting = [wheel for wheel in names if fits(wheel, python)]
    if not fitting:
        raise KitError(f"{name}, as it is installed in {sys.prefix}, isn't for Python {python} on Linux x86-64.")
    with zipfile.ZipFile(folder / fitting[0], "w", zipfile.ZIP_DEFLATED) as archive:
        for file in distribution.files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                archive.write(str(file.locate()), str(file))


def _check(folder: Path, python: str) -> None:
    found = wheels(folder)
    if set(found) != set(KIT):
        odd = ", ".join(sorted(set(found) ^ set(KIT)))
        raise KitError(f"pip left other wheels than the kit's: {odd}. Compare KIT in benchmarks/gpu/kit.py.")
    unfit = [path.name for path in found.values() if not fits(path.name, python)]
    if unfit:
        raise KitError(f"Not for Python {python} on Linux x86-64: {', '.join(unfit)}. Change the versions.")
