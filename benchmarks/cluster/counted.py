"""MusicGen that writes down each stem which a worker finishes: the engine "counted", for `faults.py`.

Owns the engine, the lines that it writes, and how worker processes find it: by an entry point on their path. The file
is named by the environment, since a setting would be one of MusicGen's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import harmonia_lab
from harmonia_lab import engine_registry
from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.audio_engines.musicgen.spec import ENGINE
from harmonia_lab.engines.base import AudioProgress, CancelToken, Stem
from harmonia_lab.music.plan import Part, Plan

__all__ = ["AUDIO", "CountedMusicGen", "counted_stems", "engine_installed"]

LINES = "HARMONIA_COUNTED_STEMS"
"""The environment variable that names the file."""


class CountedMusicGen(MusicGenEngine):
    """MusicGen, but for the name and the lines: "began", "finished" (in memory), "kept" (on disk, and being sent)."""

    name = "counted"

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> list[Stem]:
        assert plan.metadata is not None
        title = plan.metadata.title

        def told(report: AudioProgress) -> None:
            if report.finished is None:
                progress(report)
                return
            _write("finished", title, report.finished.name)
            progress(report)
            _write("kept", title, report.finished.name)

        _write("began", title, str(len(finished)))
        return super().render(parts, plan, seeds, told, cancel, finished)


def counted_stems(lines: Path) -> list[tuple[str, int, str, str]]:
    """Return what was written so far: what, process, song's title, stem."""
    found = lines.read_text(encoding="utf-8").splitlines() if lines.exists() else []
    return [(what, int(pid), title, stem) for what, pid, title, stem in (line.split("\t") for line in found)]


@contextmanager
def engine_installed(folder: Path) -> Iterator[Path]:
    """Let this process and those that it starts find the engine. Yield the file with its lines."""
    info = folder / "harmonia_counted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmonia-counted\nVersion: 1.0\n", encoding="utf-8")
    entry = "[harmonia_lab.audio_engines]\ncounted = benchmarks.cluster.counted:AUDIO\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
    root = Path(harmonia_lab.__file__).parents[1]
    earlier = {name: os.environ.get(name) for name in (LINES, "PYTHONPATH")}
    os.environ[LINES] = str(folder / "stems.txt")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), str(root), earlier["PYTHONPATH"]]))
    sys.path.insert(0, str(folder))
    engine_registry._search.cache_clear()  # noqa: SLF001 - it has looked already
    try:
        yield folder / "stems.txt"
    finally:
        sys.path.remove(str(folder))
        engine_registry._search.cache_clear()  # noqa: SLF001 - it has looked already
        for name, value in earlier.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _write(what: str, title: str, stem: str) -> None:
    with Path(os.environ[LINES]).open("a", encoding="utf-8") as file:
        file.write(f"{what}\t{os.getpid()}\t{title}\t{stem}\n")


def _make(model: str | None, settings: Mapping[str, Any]) -> CountedMusicGen:
    return CountedMusicGen(model or "small", Settings.of(settings))


AUDIO = replace(ENGINE, name="counted", help="MusicGen, counted", make=_make)
