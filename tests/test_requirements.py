"""What the project requires, and its lock: constraints.txt, environment.yml, Python's versions.

Read from files and from the metadata of what is installed, without a package index; `make floor` and the tests marked
`stress` ask one.
"""

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {canonicalize_name(r.name): r for r in (Requirement(line) for line in LINES if not line.startswith("#"))}

CONDA_NAMES = {
    "ollama": "ollama-python",
    "soundfile": "pysoundfile",
    "matplotlib": "matplotlib-base",
    "torch": "pytorch-cpu",
}
"""Package → its name on conda-forge, where that is another."""

ONLY_PIP = {"midirenderer", "mido", "pretty-midi", "xllamacpp"}
"""Not on conda-forge, or only in versions that are too old (mido 1.2.10, pretty_midi 0.2.10 in November 2026)."""


def named(lines):
    return {canonicalize_name(r.name): r for r in map(Requirement, lines) if r.name != PROJECT["name"]}


def floor():
    """The oldest Python that pyproject.toml admits: the first release of the series it names."""
    (specifier,) = SpecifierSet(PROJECT["requires-python"])
    assert specifier.operator == ">="
    return f"{specifier.version}.0"


def pinned_version(name):
    (specifier,) = PINS[name].specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.fixture(scope="module")
def installed():
    """Name → metadata of each package that is installed. Of some extras none is."""
    return {canonicalize_name(each.name): each.metadata for each in importlib.metadata.distributions()}


def test_every_pin_admits_the_oldest_python_that_the_project_admits(installed):
    """Else pip searches silently through older versions for minutes, as on Debian 12's Python 3.11.2."""
    ranges = {name: installed[name].get("Requires-Python") or "" for name in PINS.keys() & installed.keys()}
    assert len(ranges) > 100
    assert {name: range_ for name, range_ in ranges.items() if not SpecifierSet(range_).contains(floor())} == {}


def test_what_is_installed_for_the_tests_is_what_is_pinned(installed):
    versions = {name: installed[name]["Version"] for name in PINS.keys() & installed.keys()}
    assert {name: v for name, v in versions.items() if not PINS[name].specifier.contains(v)} == {}


def test_the_lock_pins_everything_that_an_installation_for_the_tests_brings(installed):
    found, waiting = set(), [(PROJECT["name"], extra) for extra in ("", "test")]
    while waiting:
        name, extra = key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        for requirement in map(Requirement, installed[name].get_all("Requires-Dist") or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), of) for of in ("", *requirement.extras)]
    assert {name for name, _ in found} - PINS.keys() == {PROJECT["name"]}


def test_every_pin_is_in_its_declared_range():
    for requirements in (PROJECT["dependencies"], *EXTRAS.values()):
        for name, requirement in named(requirements).items():
            if name in PINS:
                assert requirement.specifier.contains(pinned_version(name)), requirement


def test_every_requirement_has_a_lower_bound_since_the_oldest_versions_are_tried():
    for requirement in named(PROJECT["dependencies"]).values():
        assert {"==", ">="} & {each.operator for each in requirement.specifier}, requirement


def conda():
    """What conda and what pip installs by environment.yml, name → line, and pip's options."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    by_conda = {line.split(">=")[0].split("=")[0]: line for line in listed if isinstance(line, str)}
    by_pip = {canonicalize_name(Requirement(line).name): line for line in pip if not line.startswith("-")}
    return by_conda, by_pip, [line for line in pip if line.startswith("-")]


def test_environment_yml_names_every_package_with_the_range_of_pyproject_toml():
    by_conda, by_pip, options = conda()
    wanted = named([*PROJECT["dependencies"], *EXTRAS["notebook"], *EXTRAS["musicgen"]])
    for name, requirement in wanted.items():
        line = by_pip[name] if name in ONLY_PIP else by_conda[CONDA_NAMES.get(name, name)]
        assert Requirement(line).specifier == requirement.specifier, line
    ours = {CONDA_NAMES.get(name, name) for name in wanted.keys() - ONLY_PIP}
    assert by_conda.keys() == ours | {"python", "pip"}
    assert (by_pip.keys(), options) == (ONLY_PIP, ["-e ."])
    assert SpecifierSet(by_conda["python"].removeprefix("python")).contains(floor())


def test_environment_yml_gets_no_torch_from_pip_and_says_how_it_is_completed():
    """pip's torch, and what the lock would make of it, is a build for CUDA of several gigabytes."""
    _, by_pip, options = conda()
    assert "torch" not in by_pip
    assert not any("constraints" in option or "[" in option for option in options)
    text = (ROOT / "environment.yml").read_text()
    assert "harmonia setup embedded" in text
    assert "harmonia setup musicgen    audiocraft" in text


UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


@pytest.mark.stress
@pytest.mark.skipif(not Path(UV).is_file(), reason="there is no uv")
@pytest.mark.parametrize("python", [floor(), "3.11.2", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_36", "aarch64-manylinux_2_36"])
def test_the_lock_resolves_from_wheels_alone_for_every_python_that_is_promised(python, platform, tmp_path):
    """By a package index. audiocraft is installed without its requirements, and torch by pip, so both are left out."""
    wanted = tmp_path / "wanted.in"
    listed = {str(r) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for r in named(lines).values()}
    wanted.write_text("\n".join(listed - {r for r in listed if r.startswith(("torch", "triton"))}))
    lock = tmp_path / "lock.txt"
    lock.write_text("\n".join(line for line in LINES if not line.startswith(("audiocraft", "torch="))))
    command = [UV, "pip", "compile", "--quiet", "--python-version", python, "--python-platform", platform]
    command += ["--only-binary", ":all:", "--constraint", str(lock), str(wanted), "--no-emit-package", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
