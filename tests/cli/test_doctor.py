"""`harmonia doctor` and `harmonia setup` from outside."""

import json

import pytest

from harmonia_lab.cli import setup
from harmonia_lab.engine_registry import installations
from harmonia_lab.errors import HarmoniaError


def test_the_doctor_finds_a_machine_on_which_songs_can_be_made(harmonia):
    done = harmonia("doctor")
    assert done.returncode == 0, done.stdout.decode()
    text = done.stdout.decode()
    assert text.endswith("Songs can be made.\n")
    assert "nothing answers at" in text
    assert "ollama pull" in text


def test_the_doctor_answers_a_script_with_one_object(harmonia):
    report = json.loads(harmonia("doctor", "--json").stdout)
    assert report["ok"] is True
    names = {check["name"] for check in report["checks"]}
    assert names >= {"Python", "Ollama", "embedded model", "sketch engine", "MusicGen", "state folder", "songs"}
    assert {check["verdict"] for check in report["checks"]} <= {"ok", "optional"}


def test_the_doctor_names_a_home_that_cannot_be_written_and_the_way_out(harmonia):
    done = harmonia("doctor", HARMONIA_HOME="/dev/null/home")
    assert done.returncode == 1
    assert "✗ state folder" in done.stdout.decode()
    assert "HARMONIA_HOME" in done.stdout.decode()


def test_setting_up_what_is_there_changes_nothing(harmonia):
    done = harmonia("setup", "embedded")
    assert done.returncode == 0
    assert "is installed" in done.stderr.decode()


@pytest.mark.parametrize("name", ["embedded", "musicgen"])
def test_a_python_without_pip_is_named(monkeypatch, name):
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(HarmoniaError, match="has no pip to install") as caught:
        setup._install(installations()[name])
    assert caught.value.code == installations()[name].code
    assert caught.value.hint.endswith("-m ensurepip")
