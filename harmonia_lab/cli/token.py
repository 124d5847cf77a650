"""`harmonia token`: print a token with which a client connects to `harmonia serve`, or to a notebook's server."""

from __future__ import annotations

import argparse

from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import home_folder

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    print(new_tokens(ServerSettings(), home_folder()).issue(options.user, tuple(options.role), options.ttl))
    return 0
