"""What must agree, agrees: pyproject.toml, environment.yml, constraints.txt, the public face."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"], project["optional-dependencies"]


def names(listed):
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in listed)
    return {match[0].lower().replace("_", "-") for match in found if match}


def test_environment_yml_installs_this_project_with_the_notebook_extra_and_the_tested_versions():
    text = (ROOT / "environment.yml").read_text()
    pip = re.findall(r"^ {6}- (.+)$", text, re.MULTILINE)
    assert pip == ["-c constraints.txt", "-e .[notebook,musicgen]"]
    assert {"notebook", "musicgen"} <= requirements()[1].keys()
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"python{python}" in text
    assert "harmonia setup embedded" in text
    assert "harmonia setup musicgen" in text


def test_every_requirement_is_pinned_to_what_was_tested():
    base, extras = requirements()
    pinned = names((ROOT / "constraints.txt").read_text().splitlines())
    listed = base + [requirement for extra in extras.values() for requirement in extra]
    # Triton is pinned in its extra alone: a constraint would forbid the Triton that a torch for GPUs brings along.
    loose = names(requirement for requirement in listed if "==" not in requirement)
    assert loose - {"harmonia-lab"} <= pinned


def test_every_module_says_what_it_owns():
    for path in (ROOT / "harmonia_lab").rglob("*.py"):
        text = path.read_text()
        assert not text or text.startswith('"""'), path
