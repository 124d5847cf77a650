"""The player's JavaScript and style sheet as text, for pages that can load no second file.

Owns how modules become one. There is no build: the sources are ES modules that a browser loads as they are, and
`joined` puts those that a module imports in front of it. So their top-level names must differ (a test loads them all).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path

__all__ = ["PLAYER_CSS", "PLAYER_JS", "joined", "once_a_page", "runs_style", "script", "style"]

PLAYER_JS = Path(__file__).with_name("player.js")
PLAYER_CSS = Path(__file__).with_name("player.css")
RUNS_CSS = Path(__file__).with_name("runs.css")
"""Of the chart of runs, which has a player."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]*)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?(const|class|function))", re.MULTILINE)
_NO_CODE = re.compile(r"^[ ]+|^[ ]*//.*\n|^\n", re.MULTILINE)
"""Indentation, and lines that hold a comment alone: a third of what each notebook cell with a song would hold."""


@functools.cache
def joined(path: Path) -> str:
    """Return the module at `path` with those that it imports by relative path, each once, as the text of one module."""
    texts: dict[Path, str] = {}

    def read(module: Path) -> None:
        if module in texts:
            return
        text = module.read_text("utf-8")
        texts[module] = ""  # also ends a circle
        for imported in _IMPORT.findall(text):
            read((module.parent / imported).resolve())
        del texts[module]
        texts[module] = _IMPORT.sub("", text)

    read(path.resolve())
    return _without_comments("".join(texts.values()))


def _without_comments(code: str) -> str:
    previous = None
    while code != previous:
        previous, code = code, _NO_CODE.sub("", code)
    return code


@functools.cache
def once_a_page(path: Path) -> str:
    """Return an anywidget's module that runs `joined(path)`, the widget's trait `_code`, once for all of a page.

    A page never forgets a module, and anywidget makes one for each widget: with the code in it, each closed panel would
    cost the page a fifth of a megabyte. A trait goes with its widget.
    """
    return (
        f"const key = Symbol.for({_key(joined(path))});\n"
        "const load = (code) => import(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));\n"
        "export default { render: async (context) =>\n"
        "(await (globalThis[key] ??= load(context.model.get('_code')))).default.render(context) };\n"
    )


@functools.cache
def script(path: Path) -> str:
    """Return the module at `path` as a classic script, for outputs of cells: each output brings it, and a page runs the
    first one's function for all of them. A page never forgets a module, not even one that stands in an output.
    """
    code = _EXPORT.sub("", joined(path))
    return f"(globalThis[Symbol.for({_key(code)})] ??= () => {{\n'use strict';\n{code}}})();\n"


def _key(code: str) -> str:
    return json.dumps(f"harmonia.{hashlib.sha256(code.encode()).hexdigest()[:16]}")


@functools.cache
def style() -> str:
    """Return the player's style sheet."""
    return PLAYER_CSS.read_text("utf-8")


@functools.cache
def runs_style() -> str:
    """Return the style sheet of the chart of runs, with its player's."""
    return style() + RUNS_CSS.read_text("utf-8")
