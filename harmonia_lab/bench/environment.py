"""What benchmarks share: the limit of open files, package versions, and the spread of repeated measurements."""

from __future__ import annotations

import importlib.metadata
import resource
import statistics
from collections.abc import Mapping, Sequence

from harmonia_lab.errors import InvalidRequest

__all__ = ["allow_files", "named", "server_versions", "shown", "spread"]

PACKAGES = ("harmonia-lab", "python-socketio", "python-engineio", "aiohttp", "uvloop", "torch")


def allow_files(wanted: int) -> None:
    """Raise the limit of open files to `wanted`, for this process and its children. Each connection takes one.

    Raise InvalidRequest if the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidRequest(
            f"This system allows {hard} open files, {wanted} are needed.", hint="Measure with fewer --subscribers."
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def server_versions() -> dict[str, str]:
    """Return the versions of the installed packages that a server's figures depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(figure: Mapping[str, float] | None) -> str:
    """Return a spread as text for a table; "" for None."""
    return f"{figure['median']:.2f} ({figure['min']:.2f}–{figure['max']:.2f})" if figure else ""


def named(versions: Mapping[str, str]) -> str:
    """Return the versions as text."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
