"""What the two server benchmarks say of the machine: how many files a process may open, and the packages' versions."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping

from harmonia_lab.errors import InvalidRequest

__all__ = ["allow_files", "format_versions", "server_versions"]

PACKAGES = ("harmonia-lab", "python-socketio", "python-engineio", "aiohttp", "uvloop", "torch")


def allow_files(wanted: int) -> None:
    """Raise this process's limit of open files to `wanted`; each connection takes one, and children inherit the limit.

    Raises InvalidRequest if the system allows fewer.
    """
    if sys.platform == "win32":
        raise InvalidRequest("The server benchmarks need a system with limits of open files.", hint="Use Linux.")
    import resource  # noqa: PLC0415 - Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidRequest(
            f"This system allows {hard} open files, {wanted} are needed.", hint="Measure with fewer --subscribers."
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def server_versions() -> dict[str, str]:
    """Return the version of each installed package that a server's figures depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def format_versions(versions: Mapping[str, str]) -> str:
    """Return the versions as a table's last line prints them."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
