"""Fake engines for tests, without a model or a sound bank, which fail when a test wants it.

Owns `FakeMetadataEngine` and `FakeAudioEngine`, and the metadata that the first returns. Both implement the protocols
in `engines/base.py`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from harmonia_lab.engines.base import (
    AudioProgress,
    CancelToken,
    MetadataProgress,
    MetadataResult,
    Preview,
    Remedy,
    Stem,
    Step,
)
from harmonia_lab.engines.song_options import recordings_in, song_option, song_options, with_song_options
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.protocol.models import Instrument, SongMetadata, SongRequest
from harmonia_lab.protocol.sound import Followed
from harmonia_lab.storage import cached_digest

__all__ = ["SONG_METADATA", "FakeAudioEngine", "FakeMetadataEngine"]

SONG_METADATA = SongMetadata(
    title="Harbour Light",
    lyrics="[Verse 1]\nThe lamp is burning low\nI wait for you\n\n[Chorus]\nHold on, hold on",
    genre="folk",
    mood=["nostalgic"],
    bpm=96,
    key="A minor",
    instruments=[Instrument(name="piano", role="chords"), Instrument(name="flute", role="lead")],
)


class FakeMetadataEngine:
    """Stage 1 without a model: reports every step, and returns `metadata` or raises an error.

    steps: how often it checks for a cancel, `step_s` seconds apart. errors: the first calls raise these, in order;
    later calls succeed.
    """

    for_tests = True
    """Its songs are marked as tests in the run log."""

    name = "fake"
    model = "fake-model"

    def __init__(
        self,
        metadata: SongMetadata | None = None,
        *,
        errors: Sequence[Exception] = (),
        steps: int = 5,
        step_s: float = 0.0,
    ) -> None:
        self.metadata = metadata or SONG_METADATA
        self.errors = list(errors)
        self.steps, self.step_s = steps, step_s
        self.seeds: list[int] = []
        self.released = self.closed = False

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        self.seeds.append(seed)
        order: tuple[Step, ...] = ("analysis", "title", "genre", "mood", "lyrics")
        for index in range(self.steps):
            cancel.raise_if_cancelled()
            step = order[index * len(order) // self.steps]
            report(MetadataProgress(index / self.steps, step, f"Working on the {step}...", index))
            cancel.wait(self.step_s)
        cancel.raise_if_cancelled()
        if self.errors:
            raise self.errors.pop(0)
        record = {"model": self.model, "digest": "0" * 64, "strategy": "fake"}
        exchange = {"request": request.narrative, "answer": self.metadata.title}
        return MetadataResult(self.metadata, [exchange], record, 0.0, 0.0, self.steps, None)

    def release(self) -> None:
        self.released = True

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class FakeSettings:
    """What one song can ask of a `FakeAudioEngine`. pitch: of its lowest tone, Hz; half of it with a melody."""

    pitch: float = song_option(220.0, "hertz of the lowest tone", float)
    prompt: str | None = song_option(None, "words that change nothing")
    melody: Path | None = song_option(None, "a recording, of which only its being there counts", Path)

    def __post_init__(self) -> None:
        if not 20 <= self.pitch <= 2000:
            raise InvalidRequest(f"pitch {self.pitch:g} is not in 20…2000.", details={"fields": ["pitch"]})


class FakeAudioEngine:
    """Stage 2 without a sound bank: every part is a quiet tone of its own pitch.

    rendered: names of the parts rendered so far, in order, without those that an earlier attempt had finished.
    """

    for_tests = True
    """Its songs are marked as tests in the run log."""

    name = "fake"
    song_options = song_options(FakeSettings)
    settings = FakeSettings()
    recordings: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        *,
        errors: Sequence[Exception] = (),
        remedies: Sequence[Remedy | None] = (),
        step_s: float = 0.0,
        ignores_cancel: bool = False,
        sample_rate: int = 32_000,
        uses_gpu: bool = False,
        follows: Collection[Followed] = frozenset({"notes"}),
    ) -> None:
        """errors: the first renderings raise these, each after its first part. remedies: what the engine does after
        them; after another error nothing, so that it is final. follows: what it says that it follows.

        ignores_cancel: whether it ignores a cancel while it sleeps, like a call into a library that can't be
        interrupted.
        """
        self.rendered: list[str] = []
        self.errors, self.remedies = list(errors), list(remedies)
        self.step_s, self.ignores_cancel, self.sample_rate = step_s, ignores_cancel, sample_rate
        self.uses_gpu = uses_gpu
        self.follows = frozenset(follows)
        self.closed = False

    def for_song(self, options: Mapping[str, Any]) -> FakeAudioEngine:
        """Return an engine with these settings; what this one rendered, and its errors, are that one's too."""
        settings = with_song_options(self.settings, options)
        for name, path in recordings_in(settings).items():
            if not path.is_file():
                raise InvalidRequest(f"The recording {path} does not exist.", details={"fields": [name]})
        song = copy.copy(self)
        song.settings = settings
        song.recordings = {name: cached_digest(path) for name, path in recordings_in(settings).items()}
        return song

    def prepare(self) -> None:
        pass

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> list[Stem]:
        stems = []
        seconds = np.arange(round(plan.seconds * self.sample_rate)) / self.sample_rate
        for index, part in enumerate(parts):
            if part.name in finished:
                stems.append(finished[part.name])
                continue
            progress(AudioProgress(index / len(parts), "Rendering instruments...", part.name, index))
            if self.ignores_cancel:
                time.sleep(self.step_s)
            else:
                cancel.wait(self.step_s)
                cancel.raise_if_cancelled()
            phase = seeds[part.name] % 628 / 100
            lowest = self.settings.pitch / (2 if self.settings.melody else 1)
            tone = 0.1 * np.sin(np.pi * lowest * (index + 2) * seconds + phase)
            stem = Stem(part.name, part.instrument.role, tone[None].astype(np.float32), self.sample_rate)
            stems.append(stem)
            self.rendered.append(part.name)
            done = (index + 1) / len(parts)
            preview = Preview(part.name, 0, stem.audio, self.sample_rate)
            progress(AudioProgress(done, "Rendering instruments...", part.name, index, preview=preview))
            progress(AudioProgress(done, "Rendering instruments...", None, index + 1, finished=stem))
            if self.errors:
                raise self.errors.pop(0)
        progress(AudioProgress(1.0, "Rendering instruments...", None, len(parts)))
        return stems

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        del error, attempt, cancel
        return self.remedies.pop(0) if self.remedies else None

    def identity(self) -> dict[str, Any]:
        chosen = {
            name: value for name, value in asdict(self.settings).items() if value != getattr(FakeSettings(), name)
        }
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}
        own = {"settings": settings, "recordings": dict(self.recordings)}
        return {"model": "tones", "licence": "none needed", **{name: value for name, value in own.items() if value}}

    def record(self) -> dict[str, Any]:
        return self.identity()

    def close(self) -> None:
        self.closed = True
