"""What must agree, agrees: pyproject.toml, constraints.txt, the heads of modules."""

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


def test_every_requirement_is_pinned_to_what_was_tested():
    base, extras = requirements()
    pinned = names((ROOT / "constraints.txt").read_text().splitlines())
    # What pins itself stays out of the constraints: another torch brings the Triton that fits it.
    ranges = [line for listed in (base, *extras.values()) for line in listed if "==" not in line.partition(";")[0]]
    assert names(ranges) - {"harmonia-lab"} <= pinned


def test_every_module_says_what_it_owns():
    for path in (path for folder in ("harmonia_lab", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        assert not text or text.startswith('"""'), path
