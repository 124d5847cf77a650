"""`harmonia song`: make a song from a story, and print where its folder is."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from harmonia_lab.cli.engine_arguments import song_parameters
from harmonia_lab.cli.interrupts import STOPS, Interrupts, handle
from harmonia_lab.engine_registry import audio_specs, metadata_specs
from harmonia_lab.engines.spec import EngineSpec
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.lab import CANCEL_GRACE_S, Lab
from harmonia_lab.protocol.models import (
    MAX_NARRATIVE,
    Song,
    SongMetadata,
    SongRequest,
    check_contradictions,
    explain,
    parse_request,
)
from harmonia_lab.protocol.sound import given_note
from harmonia_lab.protocol.text import printable_lines
from harmonia_lab.terminal import watch

__all__ = ["request_of", "run", "summary"]


def run(options: argparse.Namespace) -> int:
    interrupts = Interrupts()
    handle((signal.SIGINT, *STOPS), interrupts)
    engines, own = song_parameters(options)
    # Checked before any engine is looked for, so that the error for a mistyped key comes at once.
    request = request_of(options, _narrative(options.narrative), own)
    with Lab(**engines) as lab:
        job = lab.submit_request(request, out=options.out)
        try:
            watch(job)
            song = job.result()
        except KeyboardInterrupt:
            interrupts.acknowledge()
            job.stop(CANCEL_GRACE_S)
            raise
    print(json.dumps(summary(song), ensure_ascii=False) if options.json else printable_lines(_text(song, lab)))
    return 0


def request_of(options: argparse.Namespace, narrative: str, audio_options: Mapping[str, object]) -> SongRequest:
    """Return what the options of `song` ask for. audio_options: the audio engine's settings for this song alone.

    Raises HarmoniaError for values that can't be used.
    """
    names = ("seconds", "seed", "bpm", "key", "genre", "instruments", "language", "wishes")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    given["metadata"] = _metadata(Path(options.source)) if options.source else None
    return check_contradictions(parse_request(narrative=narrative, audio_options=audio_options, **given))


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


def summary(song: Song) -> dict[str, object]:
    """Return what `--json` prints: the song's figures, with the metadata that scripts need at the top level."""
    figures = song.to_wire()
    metadata = figures.pop("metadata")
    names = ("title", "genre", "mood", "bpm", "key", "lyrics", "wishes", "warnings")
    return {name: metadata[name] for name in names} | figures


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
        *_wishes(metadata),
        *_heard(song),
        "",
        metadata.lyrics.strip() or "(instrumental)",
        "",
        *(f"  {name:<9}{value}" for name, value in rows.items()),
        "",
        *_notes(song, lab),
    ]
    return "\n".join(lines)


def _wishes(metadata: SongMetadata) -> list[str]:
    """Return a line with the wishes that were understood, and a line for each warning."""
    marks = {"followed": "", "overruled": " (overruled)", "impossible": " (can't be done)"}
    said = ", ".join(f"{wish.value}{marks[wish.outcome]}" for wish in metadata.wishes)
    return [*([f"wishes: {said}"] if said else []), *(f"note: {warning}" for warning in metadata.warnings)]


def _heard(song: Song) -> list[str]:
    """Return a line with what was measured in the sound, and one with what of the plan isn't in it."""
    measured = [song.measured.beside(song.metadata.bpm, song.metadata.key)] if song.measured is not None else []
    note = given_note(song.follows) if song.follows is not None else ""
    return [*(f"heard: {words}" for words in measured), *([f"note: {note}"] if note else [])]


def _notes(song: Song, lab: Lab) -> list[str]:
    """Return a line for each engine that ran. After a fallback, it ends with how to get the other engines."""
    notes = []
    if (writer := metadata_specs().get(song.engines["metadata"])) is not None:
        text = writer.note(lab.metadata_engine.model, lab.metadata_reason) if writer.note else writer.help
        notes.append(f"Stage 1: {text}.{_invitations(writer, metadata_specs())}")
    if (player := audio_specs().get(song.engines["audio"])) is not None:
        text = player.note(read_record(Path(song.directory))["engines"]["audio"]) if player.note else player.help
        notes.append(f"Stage 2: {text}.{_invitations(player, audio_specs())}")
    return notes


def _invitations(used: EngineSpec, specs: Mapping[str, EngineSpec]) -> str:
    return "".join(f" {spec.invitation}" for spec in specs.values() if used.fallback and spec.invitation)
