"""`harmonia serve`: run the server without a notebook, until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from harmonia_lab.backends.serve_settings import ServeSettings
from harmonia_lab.cli import EXIT_DONE, exit_at_once
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.lab import Lab

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    given = ServeSettings.parse(_text(options.settings)) if options.settings is not None else ServeSettings()
    given = given.with_options(vars(options))
    settings = given.server
    server = Lab(**vars(given.lab)).serve(settings)
    with contextlib.suppress(KeyboardInterrupt):  # once its address is printed, it may be interrupted
        if options.json:
            print(json.dumps({"url": server.url, "localUrl": server.local_url, "pid": os.getpid()}), flush=True)
        else:
            print(f"Serving at {server.url}. A token for a client: harmonia token NAME", flush=True)
        if not settings.loopback and settings.certificate is None:
            print(
                "harmonia: other machines can reach it, and nothing is encrypted: see --certificate.", file=sys.stderr
            )
        _wait(attached=options.attached)
    server.stop()
    # Songs in the making are not cancelled, since no user asked for that: the next start of the server marks them as
    # interrupted, and they can be tried again.
    exit_at_once(EXIT_DONE)


def _text(source: str) -> str:
    """Return one line of standard input for `-`, or else the content of a file. Raises InvalidRequest."""
    if source == "-":
        return sys.stdin.readline()
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{source} cannot be read: {error}.", details={"fields": ["settings"]}) from None


def _wait(*, attached: bool) -> None:
    """Wait for an interrupt, or if attached for the end of standard input, which the parent process holds open."""
    if attached:
        sys.stdin.read()
    else:
        threading.Event().wait()
