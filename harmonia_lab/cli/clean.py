"""`harmonia clean`: delete songs beyond the limits that are given, what killed processes left, and old generations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harmonia_lab.cli import EXIT_DONE
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.generation.interrupted import end_interrupted
from harmonia_lab.generation.retention import Deletion, Housekeeping, Retention, StoredFolder, clean, last_change
from harmonia_lab.protocol.text import printable
from harmonia_lab.storage import absolute, home_folder
from harmonia_lab.store.journal import KEPT_GENERATIONS, Journal
from harmonia_lab.store.run_log import RunLog

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    retention = Retention(
        max_songs=options.keep_songs,
        max_days=options.keep_days,
        max_bytes=options.keep_bytes,
        journal_generations=KEPT_GENERATIONS if options.keep_generations is None else options.keep_generations,
        journal_days=options.keep_generation_days,
    )
    home = home_folder()
    journal = Journal(home / "journal.sqlite3")
    try:
        if options.lift_quarantine is not None:
            return _lift(journal, options)
        if not options.dry_run:
            end_interrupted(journal, RunLog(home / "runs.jsonl"))
        songs = absolute(options.songs)
        done = clean(songs, journal, retention, dry_run=options.dry_run)
    finally:
        journal.close()
    if options.json:
        print(json.dumps(_to_json(done, options)))
    else:
        _print(done, songs, "would be deleted" if options.dry_run else "deleted")
    return EXIT_DONE


def _lift(journal: Journal, options: argparse.Namespace) -> int:
    generation_id = options.lift_quarantine
    state = journal.state(generation_id)
    if state is None:
        raise HarmoniaError(f"There is no generation {generation_id[:100]!r}.", code=ErrorCode.NOT_FOUND)
    journal.submissions.forgive(state.id)
    words = f"{state.id} is in quarantine no more: it can be tried again."
    print(json.dumps({"lifted": state.id}) if options.json else words)
    return EXIT_DONE


def _print(done: Housekeeping, songs: Path, deleted: str) -> None:
    for deletion in done.deleted:
        folder, name = deletion.folder, printable(deletion.folder.path.name)
        print(f"{deleted}  {_megabytes(folder.size):>10}  {last_change(folder)}  {name}  ({deletion.reason})")
    for line in done.left:
        print(f"left  {line}")
    kept = sum(folder.size for folder in done.kept)
    gone = sum(deletion.folder.size for deletion in done.deleted)
    print(f"{songs}: {len(done.kept)} kept ({_megabytes(kept)}), {len(done.deleted)} {deleted} ({_megabytes(gone)})")
    print(f"Journal: {done.generations} old generations {deleted}")


def _to_json(done: Housekeeping, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "dryRun": options.dry_run,
        "deleted": [_deletion(each) for each in done.deleted],
        "kept": [_folder(each) for each in done.kept],
        "left": done.left,
        "generationsDeleted": done.generations,
    }


def _folder(folder: StoredFolder) -> dict[str, Any]:
    return {
        "directory": str(folder.path),
        "kind": folder.kind,
        "bytes": folder.size,
        "changedOn": last_change(folder),
    }


def _deletion(deletion: Deletion) -> dict[str, Any]:
    return _folder(deletion.folder) | {"reason": deletion.reason}


def _megabytes(size: int) -> str:
    return f"{size / 10**6:.1f} MB"
