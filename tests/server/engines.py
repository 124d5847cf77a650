"""Engines for server tests: they report, wait, fail and cancel as configured, and make a song at once."""

from __future__ import annotations

import threading

from harmonia_lab import Lab
from harmonia_lab.engines.base import MetadataProgress, MetadataResult
from harmonia_lab.protocol.models import Instrument, SongMetadata
from harmonia_lab.testing import FakeAudioEngine

METADATA = SongMetadata(
    title="A Small Boat",
    lyrics="[Verse 1]\nThe tide comes in\nThe boat goes out",
    genre="folk",
    mood=["calm"],
    bpm=90,
    key="A minor",
    instruments=[Instrument(name="piano", role="chords"), Instrument(name="double bass", role="bass")],
)

STEPS = ("analysis", "title", "genre", "mood", "lyrics")


class Writer:
    """Stage 1. gate: `write` waits until it is set, or is cancelled. errors: raised by the first calls, in order."""

    name = "fake"
    model = "fake-model"

    def __init__(self, *, errors=(), step_s=0.0, steps=5, gate=None):
        self.errors, self.step_s, self.steps = list(errors), step_s, steps
        self.gate = gate or threading.Event()
        if gate is None:
            self.gate.set()
        self.calls = 0

    def write(self, request, seed, report, cancel):
        self.calls += 1
        for index in range(self.steps):
            cancel.raise_if_cancelled()
            step = STEPS[index * len(STEPS) // self.steps]
            report(MetadataProgress(index / self.steps, step, f"Working on the {step}...", index))
            cancel.wait(self.step_s)
        while not self.gate.is_set():
            cancel.wait(0.005)
            cancel.raise_if_cancelled()
        cancel.raise_if_cancelled()
        if self.errors:
            raise self.errors.pop(0)
        return MetadataResult(METADATA, [], {"model": self.model}, 0.0, 0.0, self.steps, None)

    def release(self):
        pass

    def close(self):
        pass


class Player(FakeAudioEngine):
    """Stage 2, at a low sample rate. gate: the first preview waits until it is set, or the song is cancelled."""

    def __init__(self, *, gate=None, **options):
        super().__init__(sample_rate=8000, **options)
        self.gate = gate

    def render(self, parts, plan, seeds, progress, cancel, finished):
        def tell(news):
            while news.preview is not None and self.gate is not None and not self.gate.is_set():
                cancel.wait(0.005)
                cancel.raise_if_cancelled()
            progress(news)

        return super().render(parts, plan, seeds, tell, cancel, finished)


def make_lab(folder, *, metadata=None, audio=None, **options):
    """Make a lab with these engines, with all of its files in `folder`."""
    return Lab(
        metadata=metadata or Writer(), audio=audio or Player(), songs=folder / "songs", home=folder / "home", **options
    )
