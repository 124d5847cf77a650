"""What all commands share: bad usage, defects, and a standard output that takes less than it gets."""

import json

import pytest

from harmonia_lab.cli import doctor
from tests.cli.conftest import STORY


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("song", STORY, "--seconds", "long", "--json"), "argument --seconds: invalid float value: 'long'."),
        (("verify", "--json"), "the following arguments are required: DIR."),
        (("--json",), "the following arguments are required: COMMAND."),
    ],
)
def test_bad_usage_is_one_object_too_where_json_is_asked_for(harmonia, command, said):
    done = harmonia(*command)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["message"]) == ("INVALID_PAYLOAD", said)
    assert done.stderr == b""


@pytest.mark.parametrize("command", [("song", STORY, "--seconds", "long"), ("bench", "pipeline", "--json")])
def test_bad_usage_is_told_on_standard_error(harmonia, command):
    done = harmonia(*command)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith("usage: harmonia ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("pipeline", "--json", "nowhere/figures.json"), "there is no folder"),
        (("pipeline", "--runs", "0"), "--runs 0 is out of range. [INVALID_PAYLOAD]\nChoose 1 to 100."),
        (("cancel", "--seconds", "601"), "--seconds 601 is out of range"),
    ],
)
def test_a_benchmark_that_cannot_be_run_says_so_before_it_measures(harmonia, options, said):
    done = harmonia("bench", *options)
    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_a_terminal_that_lacks_letters_gets_the_rest(harmonia):
    done = harmonia.process("protocol", "markdown", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"# The wire protocol")


def test_a_reader_that_goes_away_is_no_news(harmonia):
    started = harmonia.start("protocol", "asyncapi")
    started.stdout.close()
    started.stdout = None
    _, said = started.communicate(timeout=300)
    assert (started.returncode, said) == (1, b"")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_defect_is_told_without_a_traceback(harmonia, as_json, monkeypatch):
    """`doctor` is the command that breaks: it has the option."""
    monkeypatch.setattr(doctor, "run", lambda options: 1 / 0)
    done = harmonia("doctor", *(["--json"] if as_json else []))
    assert done.returncode == 1
    told = json.loads(done.stdout)["error"]["message"] if as_json else done.stderr.decode()
    assert "ZeroDivisionError: division by zero" in told
    assert b"Traceback" not in done.stdout + done.stderr


def test_who_did_not_choose_the_state_folder_is_told_how_to(harmonia):
    harmonia.home.write_text("a file in its place")
    done = harmonia("token", "ann")
    assert done.returncode == 1
    assert "Set HARMONIA_HOME to a folder that you may write to." in done.stderr.decode()
