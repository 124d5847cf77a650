"""The workflow file is one: by the schema that editors use, and by what the project says elsewhere."""

import importlib.resources
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"


def test_it_follows_the_schema_of_workflow_files():
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "github-workflows.json"
    given = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    given["on"] = given.pop(True)  # YAML 1.1 reads the key so
    validator = jsonschema.Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(given)] == []
    assert list(validator.iter_errors(given | {"jobs": {"song": {"runs-on": 5}}}))  # it does refuse


def test_it_runs_the_versions_that_the_package_names_on_three_systems():
    matrix = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["song"]["strategy"]["matrix"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = [each.rpartition(" ")[2] for each in classifiers if re.search(r"Python :: 3\.\d+$", each)]
    assert matrix["python"] == named
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]


def test_what_it_runs_is_there():
    text = WORKFLOW.read_text(encoding="utf-8")
    assert "first run" in text.splitlines()[0]
    for path in re.findall(r"tests/\S+", text.partition("pytest")[2].splitlines()[0]):
        assert (ROOT / path).exists(), path
