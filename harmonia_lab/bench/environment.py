"""What the two server benchmarks have in common beside the load: limits, versions, and how a range is shown."""

from __future__ import annotations

import importlib.metadata
import resource
import statistics
from collections.abc import Mapping, Sequence

from harmonia_lab.errors import InvalidRequest

__all__ = ["allow_files", "named", "server_versions", "shown", "spread"]

PACKAGES = ("harmonia-lab", "python-socketio", "python-engineio", "aiohttp", "uvloop", "torch")


def allow_files(wanted: int) -> None:
    """Each connection takes a file; processes that are started from here inherit the limit.

    Raises InvalidRequest where the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidRequest(
            f"This system allows {hard} open files, {wanted} are needed.", hint="Measure with fewer --subscribers."
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def server_versions() -> dict[str, str]:
    """Of what a server's figures depend on, as far as installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(figure: Mapping[str, float] | None) -> str:
    """A spread for a table; nothing where there is none."""
    return f"{figure['median']:.2f} ({figure['min']:.2f}–{figure['max']:.2f})" if figure else ""


def named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
