"""An event is added in one class, its place in the union and one case of the reducer; everything else follows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def patched(tmp_path):
    """A folder with a copy of the package, to which the patch was applied."""
    shutil.copytree(ROOT / "harmonia_lab", tmp_path / "harmonia_lab", ignore=shutil.ignore_patterns("__pycache__"))
    command = ["git", "apply", "-C1", str(HERE / "new_event.patch")]
    subprocess.run(
        command, cwd=tmp_path, check=True, env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    )
    return tmp_path


def test_wire_journal_replay_schemas_client_and_panel_handle_it(patched):
    script = [sys.executable, "-P", str(HERE / "new_event.py")]
    environment = os.environ | {"PYTHONPATH": str(patched)}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {
        "before": "Harbour Light",
        "live": "Revised",
        "late": "Revised",
        "panel": "Revised",
        "journal": ["metadata-generation-started", "metadata-generation-complete", "lyrics-revised"],
        "state": "Revised",
        "asyncapi": True,
        "typescript": True,
    }


def test_the_patch_touches_one_class_its_place_in_the_union_and_one_case_of_the_reducer():
    lines = (HERE / "new_event.patch").read_text().splitlines()
    touched = [line.removeprefix("+++ b/harmonia_lab/") for line in lines if line.startswith("+++")]
    assert touched == ["events/state.py", "protocol/events.py"]
    assert not [line for line in lines if line.startswith("-") and not line.startswith("---")]
