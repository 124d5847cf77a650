"""Paths as a shell takes them, to be copied from a message into a command.

Owns the quoting.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

__all__ = ["quoted"]


def quoted(path: Path) -> str:
    """Return the path so that bash, zsh and ksh read it as one word; a relative path never looks like an option.

    Names with control characters, bytes that are no UTF-8, or letters that standard output lacks are written as `$'…'`
    with escapes: they would move the cursor or get lost.
    """
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"
    if _can_be_shown(text):
        return shlex.quote(text)
    safe = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}" for byte in os.fsencode(text)
    )
    return f"$'{safe}'"


def _can_be_shown(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return text.isprintable()
