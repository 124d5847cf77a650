"""`harmonia song`: a story in, a song's folder out."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from pydantic import ValidationError

from harmonia_lab.cli.interrupts import Interrupts
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.lab import CANCEL_GRACE_S, Lab
from harmonia_lab.protocol.models import MAX_NARRATIVE, Song, SongMetadata, check_contradictions, explain, parse_request
from harmonia_lab.terminal import watch

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    interrupts = Interrupts()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts)
    metadata = _metadata(Path(options.source)) if options.source else None
    narrative = _narrative(options.narrative)
    # Checked before any engine is looked for: a mistyped key must not wait for a language model.
    request = parse_request(
        narrative=narrative,
        seconds=options.seconds,
        seed=options.seed,
        bpm=options.bpm,
        key=options.key,
        genre=options.genre,
        instruments=options.instruments,
        metadata=metadata,
    )
    check_contradictions(request)
    chosen = {name: getattr(options, name) for name in ("arrangement", "device", "decoder")}
    lab = Lab(
        metadata=options.metadata,
        model=options.metadata_model,
        audio=options.audio,
        audio_model=options.audio_model,
        audio_settings={name: value for name, value in chosen.items() if value is not None},
    )
    with lab:
        job = lab.submit_request(request, out=options.out)
        try:
            watch(job)
            song = job.result()
        except KeyboardInterrupt:
            interrupts.heard()
            job.stop(CANCEL_GRACE_S)
            raise
    print(json.dumps(_summary(song), ensure_ascii=False) if options.json else _text(song, lab))
    return 0


def _narrative(given: str | None) -> str:
    if given != "-":
        return given or ""
    data = sys.stdin.buffer.read(8 * MAX_NARRATIVE)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The narrative on standard input is no UTF-8 text.", hint="Save it as UTF-8.") from None


def _metadata(path: Path) -> SongMetadata:
    try:
        return SongMetadata.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HarmoniaError(
            f"{path} cannot be read: {error.strerror}.", code=ErrorCode.NOT_FOUND, hint="Name a song's metadata.json."
        ) from None
    except ValidationError as error:
        raise InvalidRequest(f"{path} holds no song metadata: {explain(error)}") from None


def _summary(song: Song) -> dict[str, object]:
    """What `--json` prints: the song's figures, with what scripts ask for at the top level."""
    metadata = song.metadata.to_wire()
    chosen = {name: metadata[name] for name in ("title", "genre", "mood", "bpm", "key", "lyrics")}
    figures = song.to_wire()
    del figures["metadata"]
    return {"generationId": song.generation_id, **chosen, **figures}


def _text(song: Song, lab: Lab) -> str:
    metadata, timings = song.metadata, song.timings
    folder = Path(song.directory)
    if folder.is_relative_to(Path.cwd()):
        folder = Path(os.path.relpath(folder))
    stage_1 = f"lyrics {timings['metadata']:.1f} s, " if "metadata" in timings else ""
    rows = {
        "song": f"{folder / 'song.flac'}  ({song.duration:.1f} s, {song.file_size / 1e6:.1f} MB)",
        "stems": f"{folder / 'stems'}  ({', '.join(stem.name for stem in song.stems)})",
        "plot": str(folder / "overview.png"),
        "record": f"{folder / 'run.json'}  (check it: harmonia verify {folder})",
        "log row": str(lab.log.path),
        "made in": f"{timings['total']:.1f} s ({stage_1}music {timings['audio']:.1f} s), seed {song.seed}",
    }
    lines = [
        "",
        metadata.title,
        f"{metadata.genre} · {', '.join(metadata.mood)} · {metadata.bpm} bpm · {metadata.key}",
        "",
        metadata.lyrics.strip() or "(instrumental)",
        "",
        *(f"  {name:<9}{value}" for name, value in rows.items()),
        "",
        *_notes(song, lab),
    ]
    return "\n".join(lines)


def _notes(song: Song, lab: Lab) -> list[str]:
    """Which engines ran, and what switches on the bigger ones."""
    notes = []
    if song.engines["metadata"] == "embedded":
        notes.append(
            f"Stage 1: the small embedded model ({lab.metadata_reason}). A bigger one writes better lyrics: "
            "start Ollama, `ollama pull` a model, and it is found by itself."
        )
    elif song.engines["metadata"] == "ollama":
        notes.append(f"Stage 1: {lab.metadata_engine.model} ({lab.metadata_reason}).")
    if song.engines["audio"] == "sketch":
        notes.append(
            "Stage 2: the offline sketch engine (General MIDI). For MusicGen: `harmonia setup musicgen`, "
            "then --audio musicgen."
        )
    elif song.engines["audio"] == "musicgen":
        record = lab.audio_engine.record()
        weights = ", with random weights: this is noise, not music" if record["weights"] == "random" else ""
        notes.append(f"Stage 2: MusicGen {record['model']}{weights}. Licence of the weights: {record['licence']}.")
    return notes
