"""Who is taken for a page, and who is not: by the request that runs the cell, never by a variable."""

import os
import subprocess
import sys
from uuid import uuid4

import IPython
import pytest

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.widgets import frontend


class Kernel:
    """As ipykernel's, with the request of one cell."""

    def __init__(self, message_id):
        self.message_id = message_id

    def get_parent(self, channel):
        assert channel == "shell"
        return {"header": {"msg_id": self.message_id}} if self.message_id else {}


class Shell:
    def __init__(self, kernel):
        self.kernel = kernel


@pytest.fixture
def asked_by(monkeypatch):
    """asked_by(message_id): the running cell was asked for by that request."""
    monkeypatch.delenv("HARMONIA_PANEL", raising=False)
    return lambda message_id: monkeypatch.setattr(IPython, "get_ipython", lambda: Shell(Kernel(message_id)))


def by_python(pid=None):
    return f"{uuid4().hex[:8]}-{uuid4().hex}_{pid or os.getpid()}_12"


def test_outside_a_kernel_there_is_no_front_end_whatever_is_asked_for(monkeypatch):
    assert not frontend.in_kernel()
    monkeypatch.setattr(IPython, "get_ipython", lambda: Shell(None))
    monkeypatch.setenv("HARMONIA_PANEL", "live")
    assert not frontend.in_kernel()
    assert not frontend.has_live_frontend()
    assert frontend.running_cell() == ""


def test_a_page_is_a_front_end_and_a_program_that_keeps_outputs_is_none(asked_by):
    asked_by(str(uuid4()))
    assert frontend.has_live_frontend()
    asked_by(by_python())
    assert not frontend.has_live_frontend()
    asked_by("")
    assert not frontend.has_live_frontend()


@pytest.mark.parametrize("name", ["JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG", "JUPYTERHUB_USER"])
def test_a_variable_that_was_inherited_changes_nothing(asked_by, monkeypatch, name):
    asked_by(by_python())
    monkeypatch.setenv(name, "a.ipynb")
    assert not frontend.has_live_frontend()


def test_a_server_that_pages_look_at_is_a_front_end(asked_by):
    program = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        ["jupyter-lab", *program[1:]], executable=program[0], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        server.stdout.readline()
        asked_by(by_python(server.pid))
        assert frontend.has_live_frontend()
        server.stdin.close()
    asked_by(by_python(server.pid))  # it has exited
    assert not frontend.has_live_frontend()


@pytest.mark.parametrize(
    ("command_line", "serves"),
    [
        ("python /usr/bin/jupyter-lab --port 8888", True),
        ("/opt/bin/python3.11 -m jupyterlab", True),
        ("python /venv/bin/jupyter-labhub", True),
        ("python /venv/bin/jupyterhub-singleuser", True),
        ("/venv/bin/python /venv/bin/voila story.ipynb", True),
        ("python -m voila story.ipynb", True),
        ("python -m jupyter_server", True),
        ("python -m papermill jupyterlab/in.ipynb out.ipynb", False),
        ("/venv/bin/python /venv/bin/papermill voila.ipynb out.ipynb", False),
        ("/venv/bin/python /venv/bin/jupyter-nbconvert --execute a.ipynb", False),
        ("python -m ipykernel_launcher -f kernel.json", False),
        ("python -m pytest tests", False),
        ("", False),
    ],
)
def test_a_program_is_known_by_its_name_and_not_by_its_arguments(command_line, serves):
    assert frontend.serves_pages(command_line.split()) is serves


def test_the_decision_can_be_overruled(asked_by, monkeypatch):
    asked_by(by_python())
    monkeypatch.setenv("HARMONIA_PANEL", "live")
    assert frontend.has_live_frontend()
    asked_by(str(uuid4()))
    monkeypatch.setenv("HARMONIA_PANEL", "lines")
    assert not frontend.has_live_frontend()


def test_what_is_missing_is_said_with_its_remedy():
    frontend.check_installed("The form", "numpy", "")
    with pytest.raises(HarmoniaError, match="The form needs no_such_package") as caught:
        frontend.check_installed("The form", "no_such_package", "`lab.submit(…)` takes the same.")
    assert "harmonia-lab[notebook]" in caught.value.hint
    assert "lab.submit" in caught.value.hint
