"""Processes that exit in the middle of a song, without another process: a copy of home and songs at each change.

A copy is what a kill at that moment would leave. It is looked at in the place of the original, since the journal has
absolute paths.
"""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from harmonia_lab import Lab, storage
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


def lab_in(root, **engines):
    engines = {"metadata": FakeMetadataEngine(), "audio": FakeAudioEngine()} | engines
    return Lab(**engines, songs=root / "songs", home=root / "home")


def draw_nothing(path, **picture):
    storage.write_bytes(path, b"picture")
    return ""


def die(lab):
    """End the lab's hold on its home as a kill does: locks go, files stay. Its threads may still do harmless things."""
    journal = lab.journal
    lab._caretaker.stop()
    journal._closed = journal.unwritten._closed = True
    journal._file.close()
    journal._liveness.reserve.close()
    os.close(journal._liveness._fd)
    journal._liveness._fd = -1


@dataclass
class CrashPoint:
    """what: the change before or after which the copy was taken. heard: lifecycle events published by then."""

    what: str
    copy: Path
    heard: list = field(default_factory=list)


class Recorder:
    """While it records, every change of what is on the disk under `root` leaves a crash point."""

    def __init__(self, root, copies):
        self.root, self.copies = root, copies
        self.points = []
        self.heard = []

    @contextlib.contextmanager
    def recording(self, lab, monkeypatch, *, before=False):
        real = storage.changing

        @contextlib.contextmanager
        def changing(path):
            with real(path):
                if before:
                    self.take(f"before {path.name}")
                yield
            self.take(f"after {path.name}")

        def listen(event):
            if event.delivery == "lifecycle":
                self.heard.append(event)

        unsubscribe = lab.events.subscribe(listen)
        monkeypatch.setattr(storage, "changing", changing)
        yield self
        monkeypatch.setattr(storage, "changing", real)
        unsubscribe()

    def take(self, what):
        copy = self.copies / str(len(self.points))
        shutil.copytree(self.root, copy)
        self.points.append(CrashPoint(what, copy, list(self.heard)))

    def put_back(self, point):
        """Put a copy in the place of what is there."""
        shutil.rmtree(self.root)
        shutil.move(point.copy, self.root)
