"""An interrupt is raised until somebody hears it, and not while he puts things away."""

import signal
import threading

import pytest

from harmonia_lab.cli import interrupts
from harmonia_lab.cli.interrupts import Interrupts
from tests.waiting import until


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
    mine, before = Interrupts(), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        mine(signal.SIGINT, None)
    mine.acknowledge()
    until(lambda: not set(threading.enumerate()) - before, "the end of the timer")
    assert sent == []


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
