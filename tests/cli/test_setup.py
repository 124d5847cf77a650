"""`harmonia setup`: which program installs, and what is said where none can. The real ones run in `make stress`."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harmonia_lab.cli import setup
from harmonia_lab.cli.installer import find_installer, usual_installer
from harmonia_lab.engine_registry import installations
from harmonia_lab.engines.spec import Installation
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.metadata_engines.embedded.launch import find_model


def program(folder, name, script):
    """Put a program into a folder: lines of sh, with the arguments in "$@"."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """An environment without pip, and with no program but sh's own."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "the-lab"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "the-lab" / "bin" / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:/bin")
    (tmp_path / "the-lab").mkdir()
    return tmp_path


def installation(log):
    """Install by two commands; done once the log has two lines."""
    return Installation(
        title="a model",
        help="",
        code=ErrorCode.AUDIO_UNAVAILABLE,
        is_installed=lambda: log.is_file() and len(log.read_text().splitlines()) == 2,
        pip_arguments=lambda: [["--no-deps", "a==1"], ["b>=2"]],
    )


def test_pip_of_the_environment_comes_first():
    assert find_installer().command == (sys.executable, "-m", "pip", "install")


@pytest.mark.parametrize("beside", [True, False], ids=["in the environment", "on the PATH"])
def test_uv_installs_where_there_is_no_pip(bare, beside):
    log = bare / "log"
    folder = bare / "the-lab" / "bin" if beside else bare / "programs"
    uv = program(folder, "uv", f'echo "$@" >> {log}')
    setup._install(installation(log))
    assert log.read_text().splitlines() == [
        f"pip install --python {sys.executable} --no-deps a==1",
        f"pip install --python {sys.executable} b>=2",
    ]
    assert find_installer().shown(["b>=2"]) == f"{uv} pip install --python {sys.executable} 'b>=2'"


def test_pipx_installs_into_the_environment_that_it_made(bare):
    log = bare / "log"
    program(bare / "programs", "pipx", f'echo "PEP517=$PIP_USE_PEP517 $@" >> {log}')
    assert find_installer() is None or "uv" in find_installer().command[0]
    (bare / "the-lab" / "pipx_metadata.json").write_text("{}")
    setup._install(installation(log))
    assert log.read_text().splitlines() == [
        "PEP517=1 runpip the-lab install --no-deps a==1",
        "PEP517=1 runpip the-lab install b>=2",
    ]


@pytest.mark.parametrize(
    ("made_by", "command"),
    [
        (("pyvenv.cfg", "home = /usr/bin\nuv = 0.13.8\n"), "uv pip install --python {python} --no-deps a==1 && uv"),
        (("pipx_metadata.json", "{}"), "pipx runpip the-lab install --no-deps a==1 && pipx"),
        (("pyvenv.cfg", "home = /usr/bin\nversion = 3.13.5\n"), "{python} -m pip install --no-deps a==1 && {python}"),
    ],
    ids=["uv", "pipx", "venv"],
)
def test_where_nothing_can_install_the_command_of_what_made_the_environment_is_told(bare, made_by, command):
    (bare / "the-lab" / made_by[0]).write_text(made_by[1])
    with pytest.raises(HarmoniaError, match="neither pip nor uv here to install a model") as caught:
        setup._install(installation(bare / "log"))
    assert caught.value.code == ErrorCode.AUDIO_UNAVAILABLE
    assert command.format(python=sys.executable) in caught.value.hint
    assert "ensurepip" not in caught.value.hint


def test_an_installer_that_fails_is_named_with_the_command_to_repeat(bare):
    uv = program(bare / "programs", "uv", "exit 3")
    with pytest.raises(HarmoniaError, match="could not be installed: uv ended with status 3") as caught:
        setup._install(installation(bare / "log"))
    assert caught.value.hint.endswith(f"{uv} pip install --python {sys.executable} --no-deps a==1")
    program(bare / "programs", "uv", "exit 0")
    with pytest.raises(HarmoniaError, match="can't be used, though uv installed it"):
        setup._install(installation(bare / "log"))


def test_setting_up_what_is_there_changes_nothing(harmonia):
    harmonia.environment["HARMONIA_GGUF"] = str(find_model()[1])  # of one's own file, no fast copy is made
    done = harmonia("setup", "embedded")
    assert done.returncode == 0
    assert "is installed" in done.stderr.decode()


@pytest.mark.parametrize("name", ["embedded", "musicgen"])
def test_every_installation_says_what_it_would_install_with(bare, name):
    commands = [usual_installer().shown(arguments) for arguments in installations()[name].pip_arguments()]
    assert all(command.startswith(f"{sys.executable} -m pip install ") for command in commands)


@pytest.mark.stress
@pytest.mark.skipif(shutil.which("uv") is None, reason="there is no uv")
def test_in_an_environment_of_uv_without_pip_the_model_is_installed_and_the_doctor_finds_it(tmp_path):
    """By a package index: uv's environment, this project with its lock, the language model."""
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HARMONIA_HOME": str(tmp_path / "home"), "OLLAMA_HOST": "127.0.0.1:9"}

    def run(*command, status=0):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    run("uv", "venv", "--quiet", "--python", sys.executable, "lab")
    run("uv", "pip", "install", "--quiet", "--python", "lab", "--constraint", str(root / "constraints.txt"), str(root))
    harmonia = str(tmp_path / "lab" / "bin" / "harmonia")
    assert "✗ words" in run(harmonia, "doctor", status=1)
    assert "uv pip install --python" in run(harmonia, "setup", "embedded")
    assert "Songs can be made." in run(harmonia, "doctor")
