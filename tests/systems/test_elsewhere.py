"""Our modules on macOS and Windows: simulated, as far as that goes; and the list of what is missing there."""

import json
import subprocess
import sys

import pytest

from tests.systems import typeshed
from tests.systems.simulation import MISSING


@pytest.fixture(scope="module")
def elsewhere():
    """What each system's stand-in made: one process for both, since torch takes seconds to load."""
    command = [sys.executable, "-m", "tests.systems.simulation", "darwin", "win32"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["platform"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("platform", typeshed.SYSTEMS)
def test_every_module_is_imported_and_songs_are_made(elsewhere, platform):
    found = elsewhere[platform]
    assert found["modules"] > 300
    assert found["verified"]
    assert found["batch"] == ["made"]
    assert found["heard"] == "audio-generation-complete"
    assert found["journal"] == ["cancelled", "completed", "completed", "completed"]
    assert found["log"] == ["completed", "completed", "completed", "cancelled"]
    assert found["left"] == []
    assert found["threads"] >= 1


def test_the_names_in_a_record_are_the_same_on_every_system(elsewhere):
    files = [found["files"] for found in elsewhere.values()]
    assert files[0] == files[1]
    assert "stems/1-piano.flac" in files[0]
    assert elsewhere["darwin"]["checksum"] == elsewhere["win32"]["checksum"]


def test_what_is_missing_elsewhere_is_what_typeshed_says():
    assert {system: MISSING[system] for system in typeshed.SYSTEMS} == typeshed.missing()
    assert "fcntl" in MISSING["win32"]["modules"]
    assert "sched_getaffinity" in MISSING["darwin"]["names"]["os"]
