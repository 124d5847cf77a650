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

from harmonia_lab.backends.serve_settings import ServeSettings, read_settings
from harmonia_lab.cli import EXIT_DONE, exit_at_once
from harmonia_lab.cli.log_format import log_as
from harmonia_lab.lab import Lab
from harmonia_lab.server.held_lock import HeldLockWatch
from harmonia_lab.server.server_thread import key_path
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import absolute, home_folder
from harmonia_lab.watching import show_link

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    given = read_settings(options.settings) if options.settings is not None else ServeSettings()
    if options.trusted_proxies is not None:
        options.trusted_proxies = tuple(options.trusted_proxies)
    if options.redis is None and given.lab.redis is None:
        options.redis = os.environ.get("HARMONIA_REDIS") or None
    given = given.with_options(vars(options))
    settings = given.server
    if settings.audit is None:
        settings = replace(settings, audit=True)
    log_as(settings.log_format)
    server = Lab(**vars(given.lab)).serve(settings, link=False)
    HeldLockWatch().start()  # to the end of the process
    with contextlib.suppress(KeyboardInterrupt):  # once its address is printed, it may be interrupted
        if options.json:
            print(json.dumps({"url": server.url, "localUrl": server.local_url, "pid": os.getpid()}), flush=True)
        else:
            print(f"Serving at {server.url}. {_how_to_get_a_token(given, options.settings)}", flush=True)
            command = _token_command(given, options.settings)
            if not show_link(server) and settings.page and command is not None:
                print(f"A link to its page in a browser: {command} --link {server.url}", flush=True)
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
    if given.server.public_keys is not None:
        return f'Clients connect with tokens of the issuer "{given.server.issuer}".'
    command = _token_command(given, source)
    if command is None:
        return "Clients connect with tokens of whoever has its key."
    return f"A token for a client: {command}"


def _token_command(given: ServeSettings, source: str | None) -> str | None:
    """Return the command whose tokens this server takes; None where no command of ours can know its key."""
    settings, home = given.server, home_folder()
    plain = ServerSettings(origins=())
    own_home = home if given.lab.home is None else absolute(given.lab.home)
    same_key = key_path(settings, own_home).absolute() == key_path(plain, home).absolute() and own_home == home
    if settings.public_keys is not None:
        return None
    if same_key and (settings.audience, settings.issuer) == (plain.audience, plain.issuer):
        return "harmonia token NAME"
    if source is not None and source != "-":
        return f"harmonia token NAME --settings {shlex.quote(source)}"
    return None


def _wait(*, attached: bool) -> None:
    """Wait for an interrupt, or if attached for the end of standard input, which the parent process holds open. It
    sends a line now and then, which goes back to it: so it knows that this interpreter runs."""
    if attached:
        for line in sys.stdin:
            print(line, end="", flush=True)
    else:
        threading.Event().wait()
