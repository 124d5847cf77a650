"""An interrupt is raised until somebody hears it, and not while he puts things away."""

import signal
import subprocess
import sys
import threading

import pytest

from harmonia_lab.cli import interrupts
from harmonia_lab.cli.interrupts import Interrupts
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def sent(monkeypatch):
    sent = []
    monkeypatch.setattr(interrupts, "AGAIN_S", 0.2)
    monkeypatch.setattr(interrupts.os, "kill", lambda _, number: sent.append(number))
    return sent


def test_an_interrupt_that_nobody_hears_is_raised_again(sent):
    with pytest.raises(KeyboardInterrupt):
        Interrupts()(signal.SIGTERM, None)
    assert until(lambda: sent, "the second signal") == [signal.SIGINT]


def test_whoever_has_heard_it_is_left_alone_however_long_the_end_takes(sent):
    mine, asked = Interrupts(), threading.Event()
    with pytest.raises(KeyboardInterrupt):
        mine(signal.SIGINT, None)
    mine.acknowledge()
    interrupts._later(2 * interrupts.AGAIN_S, asked.set)
    assert asked.wait(PATIENCE_S)
    assert sent == []


def test_an_interrupt_in_a_finaliser_is_not_lost():
    program = """
import os, signal, time
from harmonia_lab.cli.interrupts import swallowed_raised_again

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

try:
    with swallowed_raised_again():
        del (_ := [Finalised()])[0]
        print("swallowed", flush=True)
        time.sleep(300)
except KeyboardInterrupt:
    print("raised again")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert (done.stdout.split("\n"), done.stderr) == (["swallowed", "raised again", ""], "")


def test_what_else_a_finaliser_cannot_raise_is_printed_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Finalised:
        def __del__(self):
            raise ValueError

    with interrupts.swallowed_raised_again():
        Finalised()
    assert [each.exc_type for each in told] == [ValueError]


@pytest.fixture
def before():
    handlers = {number: signal.getsignal(number) for number in interrupts.STOPS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def heard(number, frame):
    """A handler."""


def test_a_terminal_that_is_closed_stops_a_command_as_a_service_does(before):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    interrupts.handle(interrupts.STOPS, heard)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == [heard, heard]


def test_nohup_is_respected(before):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.handle(interrupts.STOPS, heard)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == [heard, signal.SIG_IGN]
