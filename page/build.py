"""`make page`: build `harmonia_lab/server/page_files/` from this folder, with esbuild, by the command in package.json.

Owns where the packages and the generated types come from. A test builds the page again, and compares.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.server.javascript import installed_packages, node_command
from harmonia_lab.protocol.typescript import typescript_module
from harmonia_lab.server.page import FILES

__all__ = ["build", "check_types"]

SOURCES = Path(__file__).parent
ROOT = SOURCES.parent
PLAYER = Path("harmonia_lab") / "player"

BUNDLED = (
    "socket.io-client", "engine.io-client", "socket.io-parser", "engine.io-parser", "@socket.io/component-emitter",
)  # fmt: skip
"""Packages whose code is in the page, all MIT."""


def build(folder: Path) -> None:
    """Build the page into `folder`. Raises HarmoniaError where npm can't install, CalledProcessError for a fault."""
    with tempfile.TemporaryDirectory() as scratch:
        work = _work_folder(Path(scratch))
        _run(work, "build", folder)
        licences = [(name, (work / "node_modules" / name / "LICENSE").read_text(encoding="utf-8")) for name in BUNDLED]
    shutil.copy(SOURCES / "index.html", folder)
    text = "\n\n".join(f"{name}\n{'-' * len(name)}\n{licence.strip()}" for name, licence in licences)
    (folder / "LICENSES.txt").write_text(f"What page.js has in it of others.\n\n{text}\n", encoding="utf-8")


def check_types(scratch: Path) -> str:
    """Return what the TypeScript compiler finds wrong; "" for nothing. scratch: an empty folder."""
    return _run(_work_folder(scratch), "types", None)


def _work_folder(scratch: Path) -> Path:
    """Return a copy of this folder with the packages and the wire's types, as its neighbours lie."""
    work = scratch / SOURCES.name
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns("node_modules", "harmonia.ts", "__pycache__"))
    shutil.copytree(ROOT / PLAYER, scratch / PLAYER, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (work / "harmonia.ts").write_text(typescript_module(), encoding="utf-8")
    packages = json.loads((work / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    (work / "node_modules").symlink_to(installed_packages(packages) / "node_modules")
    return work


def _run(work: Path, script: str, folder: Path | None) -> str:
    """Run a script of package.json, whose program is one of the packages'; return what it prints."""
    words = shlex.split(json.loads((work / "package.json").read_text(encoding="utf-8"))["scripts"][script])
    if folder is not None:
        words = [f"--outfile={folder / 'page.js'}" if word.startswith("--outfile=") else word for word in words]
    program = (work / "node_modules" / ".bin" / words[0]).resolve()
    done = subprocess.run(
        [*node_command(), str(program), *words[1:]],
        cwd=work, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if folder is not None and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
    return done.stdout if done.returncode else ""


if __name__ == "__main__":
    build(FILES)
    for file in sorted(FILES.iterdir()):
        sys.stdout.write(f"{file.name}: {file.stat().st_size:,} bytes\n")
