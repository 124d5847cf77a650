"""Engines for server tests: they report, wait, fail and cancel as told, and make a song in no time."""

from __future__ import annotations

import threading

import numpy as np

from harmonia_lab import Lab
from harmonia_lab.engines.base import AudioProgress, MetadataProgress, MetadataResult, Stem
from harmonia_lab.protocol.models import Instrument, SongMetadata

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
    """Stage 1. `gate`: it waits there until it is set, or cancelled. errors: raised by the first calls, in order."""

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


class Player:
    """Stage 2: every part is a quiet tone."""

    name = "fake"
    uses_gpu = False
    sample_rate = 8000

    def __init__(self, *, errors=(), step_s=0.0):
        self.errors, self.step_s = list(errors), step_s

    def prepare(self):
        pass

    def render(self, parts, plan, seeds, progress, cancel):
        seconds = np.arange(round(plan.seconds * self.sample_rate)) / self.sample_rate
        stems = []
        for index, part in enumerate(parts):
            progress(AudioProgress(index / len(parts), "Rendering instruments...", part.name, index))
            cancel.wait(self.step_s)
            cancel.raise_if_cancelled()
            tone = 0.1 * np.sin(2 * np.pi * 110 * (index + 2) * seconds)
            stems.append(Stem(part.name, part.instrument.role, tone[None].astype(np.float32), self.sample_rate))
        if self.errors:
            raise self.errors.pop(0)
        progress(AudioProgress(1.0, "Rendering instruments...", None, len(parts)))
        return stems

    def record(self):
        return {"model": "tones"}

    def close(self):
        pass


def make_lab(folder, *, metadata=None, audio=None, **options):
    """A lab with these engines, all of whose files are in `folder`."""
    return Lab(
        metadata=metadata or Writer(), audio=audio or Player(), songs=folder / "songs", home=folder / "home", **options
    )
