"""The arguments of `harmonia clean`. Owns names and help texts; imports nothing heavy."""

from __future__ import annotations

import argparse
import re

__all__ = ["add_clean_arguments"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def add_clean_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--songs", metavar="DIR", default="songs", help="the folder of songs (default songs)")
    command.add_argument("--dry-run", action="store_true", help="delete nothing: say what would be deleted")
    command.add_argument("--keep-songs", type=int, metavar="N", help="the newest N songs")
    command.add_argument("--keep-days", type=float, metavar="N", help="songs that are at most N days old")
    command.add_argument(
        "--keep-bytes", type=_size, metavar="SIZE", help="the newest songs that have room in SIZE, such as 20G"
    )
    command.add_argument(
        "--keep-generations", type=int, metavar="N", help="generations in the journal (default 10000), songs apart"
    )
    command.add_argument("--keep-generation-days", type=float, metavar="N", help="those that are at most N days old")
    command.add_argument(
        "--lift-quarantine", metavar="ID", help="delete nothing: let a song be tried again whose process died twice"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.epilog = (
        "Without options, it deletes what killed processes left a day ago or longer, where nothing in it is of use. "
        "Songs in folders of their own (--out), batches and studies are left alone, and so is all that a process works "
        "at."
    )


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 500M or 20G")
    return int(float(match[1]) * _UNITS[match[2].upper()])
