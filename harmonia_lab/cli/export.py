"""`harmonia export`: songs for other programs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harmonia_lab.cli.quoting import quoted
from harmonia_lab.errors import Cancelled, HarmoniaError, InvalidRequest
from harmonia_lab.export.credentials import read_signer
from harmonia_lab.export.song import ExportOptions, export_song
from harmonia_lab.generation.verify import song_folders
from harmonia_lab.protocol.text import printable, printable_lines

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    formats = list(dict.fromkeys(options.formats or ["mp3"]))
    asked = [Path(name) for name in options.folders]
    songs = list(dict.fromkeys(song for path in asked for song in song_folders(path) or [path]))
    if "audiofolder" in formats:
        return _dataset(songs, formats, options)
    chosen = ExportOptions(
        formats=formats,
        stems=list(dict.fromkeys(options.stems)),
        midi=options.midi,
        cover="" if options.cover == "none" else options.cover,
        artist=options.artist,
        album=options.album,
        signer=read_signer(*map(Path, options.sign)) if options.sign else None,
        overwrite=options.overwrite,
    )
    failed = 0
    for song in songs:
        try:
            done = export_song(song, Path(options.out), chosen)
        except HarmoniaError as error:
            if len(songs) == 1 or isinstance(error, Cancelled):
                raise
            failed += 1
            _say_failed(song, error, as_json=options.json)
        else:
            files = [str(path) for path in done.files]
            if options.json:
                print(json.dumps({"directory": str(song), "ok": True, "files": files, "notes": done.notes}), flush=True)
            else:
                lines = [quoted(path) for path in done.files] + [f"  Note: {printable(note)}" for note in done.notes]
                print("\n".join(lines), flush=True)
    return 1 if failed else 0


def _say_failed(song: Path, error: HarmoniaError, *, as_json: bool) -> None:
    body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    if as_json:
        print(json.dumps({"directory": str(song), "ok": False, "error": body}), flush=True)
    else:
        text = f"Not exported: {quoted(song)}\n  {error.message} [{error.code}]\n  {error.hint}"
        print(printable_lines(text).rstrip(), flush=True)


def _dataset(songs: list[Path], formats: list[str], options: argparse.Namespace) -> int:
    from harmonia_lab.export.audiofolder import export_audiofolder  # noqa: PLC0415 - only for this format

    given = [
        name
        for name, default in asdict(ExportOptions()).items()
        if name not in ("formats", "signer") and getattr(options, name) not in (default, [], None)
    ]
    if len(formats) > 1 or options.sign or given:
        raise InvalidRequest(
            "A data set has the songs as they are: --format audiofolder goes with --out alone.",
            hint="Export the other files by a second command.",
        )
    dataset = export_audiofolder(songs, Path(options.out))
    if options.json:
        print(json.dumps({"out": options.out, "songs": len(dataset), "notes": dataset.notes}))
    else:
        lines = [
            f"{quoted(Path(options.out))}: {len(dataset)} songs",
            *(f"  Note: {printable(note)}" for note in dataset.notes),
        ]
        print("\n".join(lines))
    return 0
