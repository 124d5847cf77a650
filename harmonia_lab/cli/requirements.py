"""What this package requires of others, against what is installed.

Owns the walk through the requirements of an installed package, and through theirs. Changes nothing.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["Unmet", "unmet_options", "unmet_requirements"]


@dataclass(frozen=True)
class Unmet:
    """A requirement that is not met. by: the package that has it. installed: the version; None for not installed."""

    requirement: Requirement
    by: str
    installed: str | None

    @property
    def wanted(self) -> str:
        """The requirement as an installer takes it: name, extras and versions."""
        extras = f"[{','.join(sorted(self.requirement.extras))}]" if self.requirement.extras else ""
        return f"{self.requirement.name}{extras}{self.requirement.specifier}"

    def __str__(self) -> str:
        found = f"{self.installed} is installed" if self.installed else "not installed"
        return f"{self.wanted} ({found})"


def unmet_requirements(package: str, extra: str = "") -> list[Unmet]:
    """Return what is not met of the requirements of an installed package, and of those of what it requires.

    extra: one of the package's, whose requirements count too.

    Raises PackageNotFoundError if the package itself isn't installed.
    """
    importlib.metadata.distribution(package)
    found: dict[str, Unmet] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(package, extra)]
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        for requirement in _requirements(*key):
            unmet = _unmet(requirement, key[0])
            if unmet is not None:
                found.setdefault(str(unmet), unmet)
            if unmet is None or unmet.installed is not None:
                waiting += [(requirement.name, of) for of in ("", *requirement.extras)]
    return list(found.values())


def unmet_options(package: str) -> list[Unmet]:
    """Return the requirements of all extras of an installed package that another version is installed of."""
    requirements = map(Requirement, importlib.metadata.requires(package) or [])
    optional = [each for each in requirements if each.marker is not None and "extra" in str(each.marker)]
    return [unmet for each in optional if (unmet := _unmet(each, package)) is not None and unmet.installed]


def _requirements(package: str, extra: str) -> Iterator[Requirement]:
    for line in importlib.metadata.requires(package) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _unmet(requirement: Requirement, by: str) -> Unmet | None:
    try:
        version = importlib.metadata.version(canonicalize_name(requirement.name))
    except importlib.metadata.PackageNotFoundError:
        return Unmet(requirement, by, None)
    return None if requirement.specifier.contains(version, prereleases=True) else Unmet(requirement, by, version)
