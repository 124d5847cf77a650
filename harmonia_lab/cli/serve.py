"""`harmonia serve`: run the server without a notebook, until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import threading
from dataclasses import replace
from pathlib import Path

from harmonia_lab.backends.serve_settings import ServeSettings, read_settings
from harmonia_lab.cli import EXIT_DONE, exit_at_once
from harmonia_lab.lab import Lab
from harmonia_lab.server.server_thread import key_path
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import home_folder

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    given = read_settings(options.settings) if options.settings is not None else ServeSettings()
    if options.trusted_proxies is not None:
        options.trusted_proxies = tuple(options.trusted_proxies)
    given = given.with_options(vars(options))
    settings = given.server
    if settings.audit is None:
        settings = replace(settings, audit=True)
    server = Lab(**vars(given.lab)).serve(settings)
    with contextlib.suppress(KeyboardInterrupt):  # once its address is printed, it may be interrupted
        if options.json:
            print(json.dumps({"url": server.url, "localUrl": server.local_url, "pid": os.getpid()}), flush=True)
        else:
            print(f"Serving at {server.url}. {_how_to_get_a_token(given, options.settings)}", flush=True)
        if not settings.loopback and settings.certificate is None and settings.insecure:
            print(
                "harmonia: other machines can reach it, and nothing is encrypted: see --certificate.", file=sys.stderr
            )
        _wait(attached=options.attached)
    server.stop()
    # Songs in the making are not cancelled, since no user asked for that: the next start of the server marks them as
    # interrupted, and they can be tried again.
    exit_at_once(EXIT_DONE)


def _how_to_get_a_token(given: ServeSettings, source: str | None) -> str:
    """Return the command whose tokens this server takes, or else who issues them."""
    settings, home = given.server, home_folder()
    if settings.public_keys is not None:
        return f'Clients connect with tokens of the issuer "{settings.issuer}".'
    plain = ServerSettings(origins=())
    own_home = home if given.lab.home is None else Path(given.lab.home).expanduser().absolute()
    same_key = key_path(settings, own_home).absolute() == key_path(plain, home).absolute() and own_home == home
    if same_key and (settings.audience, settings.issuer) == (plain.audience, plain.issuer):
        return "A token for a client: harmonia token NAME"
    if source is not None and source != "-":
        return f"A token for a client: harmonia token NAME --settings {shlex.quote(source)}"
    return "Clients connect with tokens of whoever has its key."


def _wait(*, attached: bool) -> None:
    """Wait for an interrupt, or if attached for the end of standard input, which the parent process holds open."""
    if attached:
        sys.stdin.read()
    else:
        threading.Event().wait()
