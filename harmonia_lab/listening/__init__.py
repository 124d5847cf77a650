"""Blind listening tests: made of songs, taken in a page without a network or on a server, and analysed.

`sources.py` finds the songs and what they differ in, `design.py` says which are heard together, `loudness.py` makes
their sounds equally loud, `page.py` writes the listener's page, `make.py` does all that, and `files.py` has the files.
`answers.py` reads what comes back, `home.py` keeps what a server collects, `analysis.py` says what the listeners
preferred, `webmushra.py` writes it as webMUSHRA does.

The public names load on first use: a server needs neither the meter nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["ListeningTest", "make_test", "open_test"]

_HOMES = {"ListeningTest": "files", "make_test": "make", "open_test": "files"}

if TYPE_CHECKING:
    from harmonia_lab.listening.files import ListeningTest, open_test
    from harmonia_lab.listening.make import make_test


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harmonia_lab.listening' has no attribute {name!r}")
    return getattr(importlib.import_module(f"harmonia_lab.listening.{_HOMES[name]}"), name)
