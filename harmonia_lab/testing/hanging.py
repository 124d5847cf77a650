"""Engines for tests that are stuck in one C call, which hears no cancel.

Owns `HangingMetadataEngine`, `HangingAudioEngine`, and the call. Not for use outside tests: a thread stays behind.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence

from harmonia_lab.engines.base import AudioProgress, CancelToken, MetadataProgress, MetadataResult, Stem
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing.engines import FakeAudioEngine, FakeMetadataEngine

__all__ = ["HangingAudioEngine", "HangingMetadataEngine"]

POLLIN = 1


class _PollFd(ctypes.Structure):
    """struct pollfd of poll(2)."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class _Hang:
    """One call of poll(2), until `release_call` is called or `limit_s` is over. holds_lock: whether the call keeps the
    interpreter's lock, so that no other thread of the process runs meanwhile."""

    def __init__(self, limit_s: float, *, holds_lock: bool) -> None:
        self._limit_ms = int(1000 * limit_s)
        self._library = ctypes.PyDLL(None) if holds_lock else ctypes.CDLL(None)
        self._reader, self._writer = os.pipe()

    def __call__(self) -> None:
        self._library.poll(ctypes.byref(_PollFd(self._reader, POLLIN, 0)), 1, self._limit_ms)

    def release_call(self) -> None:
        os.write(self._writer, b"!")


class HangingAudioEngine(FakeAudioEngine):
    """Stage 2 that hangs in its first `hangs` renderings. renewed: the engines that took its place."""

    def __init__(self, *, hangs: int = 1, limit_s: float = 600.0, holds_lock: bool = False) -> None:
        super().__init__(sample_rate=8000)
        self.hangs, self.renewed = hangs, list[FakeAudioEngine]()
        self._hang = _Hang(limit_s, holds_lock=holds_lock)
        self.release_call = self._hang.release_call

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> list[Stem]:
        if self.hangs:
            self.hangs -= 1
            progress(AudioProgress(0.0, "Hanging..."))
            self._hang()
        return super().render(parts, plan, seeds, progress, cancel, finished)

    def fresh(self) -> FakeAudioEngine:
        self.renewed.append(FakeAudioEngine(sample_rate=8000))
        return self.renewed[-1]


class HangingMetadataEngine(FakeMetadataEngine):
    """Stage 1 that hangs in its first `hangs` songs. renewed: the engines that took its place."""

    def __init__(self, *, hangs: int = 1, limit_s: float = 600.0, holds_lock: bool = False) -> None:
        super().__init__()
        self.hangs, self.renewed = hangs, list[FakeMetadataEngine]()
        self._hang = _Hang(limit_s, holds_lock=holds_lock)
        self.release_call = self._hang.release_call

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        if self.hangs:
            self.hangs -= 1
            self._hang()
        return super().write(request, seed, report, cancel)

    def fresh(self) -> FakeMetadataEngine:
        self.renewed.append(FakeMetadataEngine())
        return self.renewed[-1]
