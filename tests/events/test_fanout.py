"""Listeners get every event in order, whatever the others do."""

import logging

from harmonia_lab.events.fanout import Fanout
from harmonia_lab.protocol.events import GenerationCancelled


def event(name):
    return GenerationCancelled(generation_id=name, reason="timeout")


def test_a_listener_that_fails_is_reported_and_the_others_still_hear(caplog):
    fanout, heard = Fanout(), []

    def broken(_):
        raise RuntimeError("no")

    fanout.subscribe(broken)
    fanout.subscribe(heard.append)
    with caplog.at_level(logging.ERROR):
        fanout(event("a"))
        fanout(event("b"))
    assert [e.generation_id for e in heard] == ["a", "b"]
    assert "failed on generation-cancelled of generation a" in caplog.text


def test_a_listener_that_left_hears_nothing_more():
    fanout, heard = Fanout(), []
    leave = fanout.subscribe(heard.append)
    fanout(event("a"))
    leave()
    leave()
    fanout(event("b"))
    assert [e.generation_id for e in heard] == ["a"]
