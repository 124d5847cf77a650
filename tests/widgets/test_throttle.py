"""Drawings are few, and the last one is never lost."""

import threading

from harmonia_lab.widgets.throttle import Throttle


class Canvas:
    live = False

    def __init__(self, wanted=0):
        self.value, self.drawn, self.wanted = 0, [], wanted
        self.done = threading.Event()

    def paint(self):
        self.drawn.append(self.value)
        if self.value >= self.wanted:
            self.done.set()


def test_many_changes_are_few_drawings_and_the_last_is_drawn():
    throttle, canvas = Throttle(), Canvas(wanted=500)
    for value in range(501):
        canvas.value = value
        throttle.mark(canvas)
    assert canvas.done.wait(60)
    assert canvas.drawn[-1] == 500
    assert len(canvas.drawn) < 250


def test_a_view_that_fails_does_not_freeze_the_others(caplog):
    class Broken(Canvas):
        def paint(self):
            raise ValueError("no canvas")

    throttle, broken, canvas = Throttle(), Broken(), Canvas()
    throttle.mark(broken)
    throttle.mark(canvas)
    assert canvas.done.wait(60)
    assert "could not be drawn" in caplog.text


def test_a_live_view_is_drawn_again_without_news():
    class Living(Canvas):
        live = True

        def paint(self):
            self.value += 1
            super().paint()

    canvas = Living(wanted=2)
    Throttle().mark(canvas)
    assert canvas.done.wait(60)
    canvas.live = False
