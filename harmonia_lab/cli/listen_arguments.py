"""The arguments of `harmonia listen`. Owns names and help texts; imports nothing heavy."""

from __future__ import annotations

import argparse

__all__ = ["add_listen_arguments"]


def add_listen_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "songs", nargs="*", metavar="DIR",
        help="a study's or a batch's folder; or for each condition a folder with its songs, DIR or NAME=DIR",
    )  # fmt: skip
    command.add_argument("--out", metavar="FILE", help="the listeners' page, .html; its key is written beside it")
    command.add_argument(
        "--serve", action="store_true", help="in place of --out: a test that `harmonia serve` serves to those invited"
    )
    command.add_argument(
        "--kind", choices=("pairs", "scales"), default="pairs",
        help="pairs: which of two is preferred (default); scales: 0 to 100 for each of several, as in MUSHRA",
    )  # fmt: skip
    command.add_argument("--trials", type=int, metavar="N", help="comparisons, drawn if there are more (default 24)")
    command.add_argument("--checks", type=int, default=2, metavar="N", help="attention checks among them (default 2)")
    command.add_argument("--seconds", type=float, default=12.0, help="of each song that is heard (default 12; 0: all)")
    command.add_argument("--start", type=float, default=0.0, metavar="S", help="where in the songs (default 0)")
    command.add_argument(
        "--reference",
        metavar="NAME",
        help="of scales: the condition named as the reference; adds hidden one and anchor",
    )
    command.add_argument("--by", metavar="FIELD", help="compare by a field of the requests, such as seed or bpm")
    command.add_argument("--sound", choices=("mp3", "flac"), default="mp3", help="how sounds are sent (default mp3)")
    command.add_argument(
        "--listen-s", type=float, default=2.0, metavar="S", help="least time for each sound (default 2)"
    )
    command.add_argument("--title", default="Listening test", help="of the test, on its page")
    command.add_argument(
        "--question", help="for listeners (default: which one they prefer, or how good each one sounds)"
    )
    command.add_argument("--intro", default="", help="a text for the first page")
    command.add_argument("--seed", type=int, help="draws trials and numbers (default: drawn)")
    command.add_argument(
        "--key",
        metavar="FILE",
        help="a test that was made: with --answers, what they say; with --webmushra, its export",
    )
    command.add_argument(
        "--answers", nargs="+", metavar="FILE", help="what listeners sent: files or folders (default: collected ones)"
    )
    command.add_argument("--test", metavar="ID", help="a test that is served: what its answers say, or who is invited")
    command.add_argument("--invite", nargs="+", metavar="NAME", help="print a link for each listener of --test")
    command.add_argument("--url", default="http://127.0.0.1:3333", help="of the server, for --invite")
    command.add_argument("--ttl", type=float, default=30.0, metavar="DAYS", help="how long links work (default 30)")
    command.add_argument("--settings", metavar="FILE", help="the server's, where it was started with --settings")
    command.add_argument("--list", action="store_true", help="list the tests that are served, with their answers")
    command.add_argument(
        "--webmushra", metavar="DIR", help="write results as webMUSHRA does, and of scales with a reference its config"
    )
    command.add_argument("--allow-failed", type=int, default=0, metavar="N", help="attention checks one may fail")
    command.add_argument("--keep-incomplete", action="store_true", help="count who stopped early, too")
    command.add_argument("--json", action="store_true", help="print one JSON object")
