"""`harmonia completion`: a script with which a shell completes commands, options, choices and files.

Owns which arguments are files or folders: those whose help text calls them FILE or DIR. shtab writes the script, which
starts no Python when a person presses Tab.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from harmonia_lab.cli.arguments import make_full_parser

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    parser = make_full_parser()
    for action in _actions(parser):
        named = action.metavar if isinstance(action.metavar, str) else ""
        if "DIR" in named:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # where shtab looks for it
        elif "FILE" in named or "FOLDER" in named:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of a parser's arguments
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for command in dict.fromkeys(action.choices.values()):
                yield from _actions(command)
