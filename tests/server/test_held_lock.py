"""A real C call that holds the interpreter's lock: its stack is written while it does, and what to do afterwards."""

import ctypes
import logging
import threading

from harmonia_lab.server.held_lock import HeldLockWatch


def hold_the_lock(ms):
    """poll(2) on nothing; `PyDLL` keeps the lock during the call."""
    ctypes.PyDLL(None).poll(None, 0, ms)


def test_a_call_that_holds_the_lock_is_named_while_it_does_and_the_way_out_is_said_after_it(tmp_path, caplog):
    with (
        (tmp_path / "stacks").open("w+") as file,
        caplog.at_level(logging.WARNING),
        HeldLockWatch(held_s=0.2, file=file) as watch,
    ):
        hold_the_lock(700)
        written = (tmp_path / "stacks").read_text()  # at once: nothing of Python has written it
        assert "Timeout" in written
        assert "in hold_the_lock" in written
        for _ in range(1000):
            if caplog.records:
                break
            threading.Event().wait(0.01)
        assert "isolated=True" in caplog.text
        assert watch._thread.is_alive()


def test_a_call_that_lets_go_of_the_lock_and_a_watch_that_has_ended_write_nothing(tmp_path, caplog):
    with (tmp_path / "stacks").open("w+") as file:
        with HeldLockWatch(held_s=30.0, file=file) as watch:
            ctypes.CDLL(None).poll(None, 0, 100)
        assert not watch._thread.is_alive()
        assert (tmp_path / "stacks").read_text() == ""
        assert caplog.text == ""
