"""Who is taken for a page, and who is not."""

import IPython
import pytest

from harmonia_lab.widgets import frontend


class Shell:
    def __init__(self, kernel):
        self.kernel = kernel


@pytest.fixture
def shell(monkeypatch):
    """shell(kernel): the running IPython has that kernel."""
    for name in (*frontend.FRONTEND_VARIABLES, "HARMONIA_PANEL"):
        monkeypatch.delenv(name, raising=False)
    return lambda kernel: monkeypatch.setattr(IPython, "get_ipython", lambda: Shell(kernel))


def test_outside_a_kernel_there_is_no_front_end_whatever_is_asked_for(shell, monkeypatch):
    assert not frontend.in_kernel()
    shell(None)
    monkeypatch.setenv("HARMONIA_PANEL", "live")
    assert not frontend.in_kernel()
    assert not frontend.has_live_frontend()


def test_a_kernel_that_a_page_started_has_a_front_end_and_papermills_has_none(shell, monkeypatch):
    shell(object())
    assert frontend.in_kernel()
    assert not frontend.has_live_frontend()
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    assert frontend.has_live_frontend()


def test_the_guess_can_be_overruled(shell, monkeypatch):
    shell(object())
    monkeypatch.setenv("HARMONIA_PANEL", "live")
    assert frontend.has_live_frontend()
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    monkeypatch.setenv("HARMONIA_PANEL", "lines")
    assert not frontend.has_live_frontend()
