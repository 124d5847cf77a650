"""`rehearse`: runs all steps of a measurement on a bare machine, on this machine's CPU.

Owns the rehearsal's virtual environment, which has the distributions of `bare_machine.txt` that the test environment
has, and Triton on request, but neither this package nor the kit. Then it runs `prepare`, `measure --rehearse`, and the
tests of the Triton kernels. The measurements are those of `measure.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from benchmarks.gpu.kit import KIT, ROOT, KitError, bare_machine, installed

__all__ = ["bare_environment", "bare_python", "configure", "link", "run", "visible"]

WORK = Path("build/gpu-rehearsal")
"""Packages of the environment: `site/`, links into the test environment, and `triton/`, kept between rehearsals."""
ENVIRONMENT = Path("build/gpu-rehearsal-venv")
REHEARSAL_KIT = Path("build/gpu-kit-rehearsal")
OUT = Path("build/gpu-rehearsal-out")

UNREACHABLE = "http://127.0.0.1:9"
"""A proxy address that refuses connections, so that access to a model hub fails as without a network."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--without-triton", action="store_true", help="save its download (188 MB; 641 MB installed)")
    parser.add_argument(
        "--installed", action="store_true", help="without a package index: pack the packages installed here"
    )
    parser.add_argument("--out", type=Path, default=ROOT / OUT, help=f"the folder for the results (default {OUT})")
    parser.add_argument("measure", nargs="*", metavar="-- OPTION", help="passed on to measure")


def run(options: argparse.Namespace) -> int:
    try:
        python = bare_python(triton=not options.without_triton)
    except (KitError, OSError, subprocess.CalledProcessError) as error:
        print(f"rehearse: {error}", file=sys.stderr)
        return 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    prepare = ["prepare", "--python", version, "--kit", str(REHEARSAL_KIT)]
    prepare += ["--installed"] if options.installed else []
    options.out = options.out.absolute()
    (options.out / "rows.jsonl").unlink(missing_ok=True)
    measure = ["measure", "--rehearse", "--kit", str(REHEARSAL_KIT), "--out", str(options.out), *options.measure]
    return (
        _command(sys.executable, prepare, dict(os.environ))
        or _command(str(python), measure, bare_environment())
        or (0 if options.without_triton else _kernels())
    )


def _kernels() -> int:
    """Run the Triton kernels' tests in the test environment, with Triton beside it."""
    tests = "tests/audio_engines/musicgen/test_triton_kernels.py"
    print(f"$ python -m pytest {tests}", flush=True)
    paths = [str(ROOT / WORK / "triton"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    pytest = [sys.executable, "-m", "pytest", "-q", "--numprocesses=2", tests]
    return subprocess.run(pytest, cwd=ROOT, env=environment, check=False).returncode


def _command(python: str, arguments: list[str], environment: dict[str, str]) -> int:
    print(f"$ python -m benchmarks.gpu {' '.join(arguments)}", flush=True)
    return subprocess.run(
        [python, "-m", "benchmarks.gpu", *arguments], cwd=ROOT, env=environment, check=False
    ).returncode


def bare_python(work: Path = ROOT / WORK, environment: Path = ROOT / ENVIRONMENT, *, triton: bool) -> Path:
    """Make the virtual environment anew and return its Python. Raise KitError if Triton can't be installed.

    work: the folder for the environment's packages.
    """
    seen = visible()
    link(seen, work / "site")
    absent = sorted(bare_machine() - seen - {"triton"})
    print(f"A bare machine's distributions that this rehearsal lacks: {', '.join(absent) or 'none'}.", flush=True)
    folders = [work / "site"]
    if triton:
        folders.append(_triton(work / "triton"))
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment)], check=True)
    paths = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", scheme="venv", vars=paths))
    (packages / "bare_machine.pth").write_text("".join(f"{folder}\n" for folder in folders), encoding="utf-8")
    return environment / "bin" / "python"


def bare_environment() -> dict[str, str]:
    """Return this process's environment variables without Python's own, and with proxies that block the network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), UNREACHABLE)
    local = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
    return kept | proxies | local | {"PYTHONNOUSERSITE": "1"}


def visible() -> set[str]:
    """Return the bare machine's distributions that are installed here, and their requirements.

    The releases installed here may have requirements that those of the bare machine lack, so a requirement need not be
    on its list. The kit's distributions and the package itself are left out in any case.
    """
    present = installed().keys() - set(KIT) - {"harmonia-lab"}
    seen: set[str] = set()
    ahead = sorted(bare_machine() & present)
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += [required for required in _required(name) if required in present]
    return seen


def _required(name: str) -> list[str]:
    found: list[str] = []
    for line in importlib.metadata.requires(name) or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # an old distribution's spelling
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(canonicalize_name(requirement.name))
    return found


def link(names: Iterable[str], site: Path, *, hidden: Iterable[str] = (*KIT, "harmonia-lab")) -> Path:
    """Make `site` a folder of links to the top-level files and folders of the named distributions, and return it.

    hidden: distributions that are left out, also if another distribution shares a top-level name with them.
    """
    kept_out = {top for name in hidden for top in _tops(name)}
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    for name in sorted(names):
        for top, path in _tops(name).items():
            if top not in kept_out and not (site / top).exists():
                (site / top).symlink_to(path)
    return site


def _tops(name: str) -> dict[str, Path]:
    """Return the distribution's top-level files and folders in site-packages; none if it isn't installed.

    Leaves out what can't be imported: scripts, which are elsewhere, `__pycache__`, and `.pth` files, which work only at
    the top of site-packages.
    """
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return {}
    tops = {file.parts[0] for file in distribution.files or []}
    return {
        top: Path(str(distribution.locate_file(top)))
        for top in tops
        if top not in {"..", "__pycache__"} and not top.endswith(".pth")
    }


def _triton(folder: Path) -> Path:
    """Install the packages of the extra `gpu-rehearsal` into `folder`, unless that is done, and return the folder."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"][
        "gpu-rehearsal"
    ]
    marker = folder / ".installed"
    if marker.is_file() and marker.read_text(encoding="utf-8") == "\n".join(wanted):
        return folder
    print(f"Installing {', '.join(wanted)} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, "--target", str(folder), *wanted], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        reason = "\n".join(done.stderr.splitlines()[-3:])
        raise KitError(f"Triton can't be installed: {reason}\nGo without it: make bench-gpu-rehearsal TRITON=")
    folder.mkdir(exist_ok=True)  # pip makes no folder if the markers exclude all packages
    marker.write_text("\n".join(wanted), encoding="utf-8")
    return folder
