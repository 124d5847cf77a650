"""`harmonia models`: the models that are here, what each can do and needs, and how to get the others.

Owns the table. What is known of the models is each engine's `inventory`, by way of `model_inventory.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harmonia_lab.cli.quoting import quoted
from harmonia_lab.engines.memory_limits import available_memory
from harmonia_lab.engines.spec import ModelEntry
from harmonia_lab.model_inventory import fetch_model, model_inventory
from harmonia_lab.protocol.text import printable

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Raises HarmoniaError where a model that is to be fetched can't be had."""
    if options.fetch:
        where = fetch_model(options.fetch, lambda status: print(f"harmonia: {status} …", file=sys.stderr, flush=True))
        print(json.dumps({"name": options.fetch, "where": where}) if options.json else f"Here: {quoted(Path(where))}")
        return 0
    entries = model_inventory([Path(folder) for folder in options.folders])
    if options.json:
        print(json.dumps({"availableBytes": available_memory(), "models": [_plain(entry) for entry in entries]}))
        return 0
    here = [entry for entry in entries if entry.where and not entry.missing]
    rest = [entry for entry in entries if entry not in here]
    print(f"Memory available: {_bytes(available_memory())}.")
    _print_table("Here:", here)
    _print_table("Not here, or not complete:", rest)
    return 0


def _plain(entry: ModelEntry) -> dict[str, object]:
    names = {"size_bytes": "sizeBytes", "needs_bytes": "needsBytes"}
    return {names.get(name, name): value for name, value in asdict(entry).items()}


def _print_table(title: str, entries: Sequence[ModelEntry]) -> None:
    if not entries:
        return
    print(f"\n{title}")
    rows = [_row(entry) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for entry, row in zip(entries, rows, strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {cells}  {_told(entry)}".rstrip())
        if entry.where:
            print(f"      {quoted(Path(entry.where)) if entry.where.startswith('/') else printable(entry.where)}")
        if entry.missing:
            print(f"      lacks: {printable('; '.join(entry.missing))}")
        if entry.fetch:
            print(f"      get it: {printable(entry.fetch)}")


def _row(entry: ModelEntry) -> tuple[str, str, str, str]:
    fits = {True: "fits", False: "does not fit", None: "?"}[entry.fits]
    needs = f"needs {_bytes(entry.needs_bytes)}" if entry.needs_bytes else ""
    return printable(f"{entry.engine} {Path(entry.name).name}"), _bytes(entry.size_bytes), needs, fits


def _told(entry: ModelEntry) -> str:
    """Return what the model can do, and its licence."""
    can = [*entry.can]
    if entry.sings is not None:
        can.append("sings" if entry.sings else "no singing")
    return printable("; ".join(filter(None, [", ".join(can), entry.licence])))


def _bytes(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
