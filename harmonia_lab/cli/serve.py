"""`harmonia serve`: the server by itself, until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from harmonia_lab.backends.serve_settings import ServeSettings
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.lab import Lab
from harmonia_lab.server.settings import ServerSettings

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    lab, settings = _made_of(options)
    server = lab.serve(settings)
    with contextlib.suppress(KeyboardInterrupt):  # as soon as its address is told, it may be asked to end
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
    _leave()


def _made_of(options: argparse.Namespace) -> tuple[Lab, ServerSettings]:
    """What the command line says counts before what the settings say. Raises InvalidRequest."""
    given = ServeSettings.parse(_text(options.settings)) if options.settings is not None else ServeSettings()
    settings = given.with_server(
        {
            "host": options.host,
            "port": options.port,
            "public_url": options.public_url,
            "certificate": options.certificate,
            "private_key": options.private_key,
            "public_keys": options.public_keys,
        }
    )
    lab = given.with_lab(
        {
            "metadata": options.metadata,
            "model": options.metadata_model,
            "audio": options.audio,
            "audio_model": options.audio_model,
            "songs": options.songs,
        }
    )
    return Lab(**vars(lab)), settings


def _text(source: str) -> str:
    """One line of standard input, or a file."""
    if source == "-":
        return sys.stdin.readline()
    try:
        return Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{source} cannot be read: {error}.", details={"fields": ["settings"]}) from None


def _wait(*, attached: bool) -> None:
    """Until an interrupt; where it is attached, until whoever started it is gone."""
    if attached:
        sys.stdin.read()
    else:
        threading.Event().wait()


def _leave() -> NoReturn:
    """Ends at once. Songs that are being made are not cancelled, which nobody asked for: at the next start they end as
    interrupted, and can be tried again."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
