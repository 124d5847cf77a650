"""The process that makes songs with one version: plans alone, songs from metadata, or songs from narratives.

Owns nothing but the calls of the package, of whichever checkout PYTHONPATH names: it must run with versions that don't
have this file. It reads a JSON object a line, and answers each with one. `children.py` starts it by its path.

Songs from metadata are composed, rendered and mixed as stage 2 does it, but their files are plain WAV, and there is no
picture and no record: these take a third of the time, and are heard in no meter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import soundfile

import harmonia_lab
from harmonia_lab import Lab
from harmonia_lab.audio_engines.sketch.engine import SketchEngine
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.engines.probes import cpu_seconds, git_commit
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.audio_stage import _AudioStage
from harmonia_lab.music.composing import compose
from harmonia_lab.music.moods import suggest_features
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.models import SongMetadata


def main() -> int:
    scratch, stage_1 = Path(sys.argv[1]), sys.argv[2]
    print(json.dumps({"folder": str(Path(harmonia_lab.__file__).parents[1]), "commit": git_commit()}), flush=True)
    with _lab(scratch, stage_1) as lab, contextlib.closing(SketchEngine()) as engine:
        does: dict[str, Callable[..., dict[str, Any]]] = {
            "plan": _plan,
            "song": lambda **asked: _song(engine, scratch, **asked),
            "narrative": lambda **asked: _narrative(lab(), **asked),
        }
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = does[asked.pop("what")](**asked)
            except HarmoniaError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)
    return 0


@contextlib.contextmanager
def _lab(scratch: Path, stage_1: str) -> Iterator[Callable[[], Lab]]:
    """Yield a function that returns the lab, which is made when it is first needed."""
    made: list[Lab] = []

    def lab() -> Lab:
        if not made:
            made.append(Lab(metadata=stage_1, audio="sketch", songs=scratch / "songs", home=scratch))
        return made[0]

    try:
        yield lab
    finally:
        for each in made:
            each.close()


def _metadata(genre: str, mood: str, seed: int, lyrics: str) -> SongMetadata:
    """Return metadata as stage 1 makes it, but for title and lyrics.

    The digest stands for a narrative of its own for each text; versions that don't know it leave it out.
    """
    found = suggest_features(genre, [mood], derive_seed(seed, "style"))
    return SongMetadata.model_validate(
        {
            "title": f"{genre} {seed}",
            "lyrics": lyrics,
            "genre": genre,
            "mood": [mood],
            "bpm": found.bpm,
            "key": found.key,
            "instruments": list(found.instruments),
            "narrativeDigest": hashlib.sha256(lyrics.encode()).hexdigest()[:16],
        }
    )


def _plan(genre: str, mood: str, seed: int, lyrics: str, seconds: float) -> dict[str, Any]:
    metadata = _metadata(genre, mood, seed, lyrics)
    return {"plan": compose(metadata, seconds, derive_seed(seed, "plan")).to_json()}


def _song(
    engine: SketchEngine, scratch: Path, genre: str, mood: str, seed: int, lyrics: str, seconds: float
) -> dict[str, Any]:
    """cpu_s, stage_2_s: processor time and time of composing, rendering and mixing."""
    metadata = _metadata(genre, mood, seed, lyrics)
    started, cpu = time.perf_counter(), cpu_seconds()
    plan = compose(metadata, seconds, derive_seed(seed, "plan"))
    seeds = {part.name: derive_seed(seed, "stem", part.name) for part in plan.parts}
    stems = engine.render(plan.parts, plan, seeds, lambda _: None, CancelToken(), {})
    # How the mixer is called differs from version to version: stage 2's own method knows.
    stage: Any = SimpleNamespace(
        _attempt=SimpleNamespace(cancel=CancelToken()), _report=lambda *_: None, _stem_count=len(stems)
    )
    mixed = _AudioStage._mix(stage, plan, stems)  # noqa: SLF001
    took = {"stage_2_s": round(time.perf_counter() - started, 3), "cpu_s": round(cpu_seconds() - cpu, 3)}
    folder = scratch / f"song-{seed}"
    (folder / "stems").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(plan.to_json()), encoding="utf-8")
    soundfile.write(folder / "song.wav", mixed.audio.T, mixed.sample_rate, "FLOAT")
    for number, stem in enumerate(stems, 1):
        soundfile.write(folder / "stems" / f"{number}-{stem.name}.wav", stem.audio.T, stem.sample_rate, "FLOAT")
    return _answer(str(folder), metadata) | took


def _narrative(lab: Lab, narrative: str, seed: int, seconds: float) -> dict[str, Any]:
    song = lab.compose(narrative, seconds=seconds, seed=seed, progress=False)
    return _answer(song.directory, song.metadata)


def _answer(folder: str, metadata: SongMetadata) -> dict[str, Any]:
    return {"song": folder, "metadata": metadata.to_wire()}


if __name__ == "__main__":
    sys.exit(main())
