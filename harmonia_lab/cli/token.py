"""`harmonia token`: print a token with which a client connects to `harmonia serve`, or to a notebook's server; revoke
tokens, and change the key that signs them. Running servers notice within a second."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from harmonia_lab.backends.serve_settings import ServeSettings, read_settings
from harmonia_lab.cli import EXIT_DONE
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.auth import check_user_name, token_id_in
from harmonia_lab.server.keys import rotate_key
from harmonia_lab.server.revocations import REVOKED_FILE, Revocations
from harmonia_lab.server.server_thread import key_path, new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import home_folder

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    given = (  # FRONTEND_URL is none of this command's business
        ServeSettings(server=ServerSettings(origins=()))
        if options.settings is None
        else read_settings(options.settings)
    )
    settings = given.server
    home = home_folder() if given.lab.home is None else Path(given.lab.home).expanduser()
    if options.rotate:
        path = key_path(settings, home)
        rotate_key(path)
        _say(options, {"rotated": str(path)}, "A new key signs. The former one works until the next --rotate.")
    elif options.revoke_id is not None:
        token_id = token_id_in(options.revoke_id)
        Revocations(home / REVOKED_FILE).revoke(token_id=token_id)
        _say(options, {"revokedId": token_id}, f"The token {token_id} is revoked on the servers of {home}.")
    elif options.user is None:
        raise InvalidRequest("Whose token? Name a USER.", details={"fields": ["user"]})
    elif options.revoke:
        check_user_name(options.user)
        Revocations(home / REVOKED_FILE).revoke(options.user)
        _say(
            options,
            {"revokedUser": options.user},
            f"The tokens that {options.user} got before now are revoked on the servers of {home}.",
        )
    else:
        issued = new_tokens(settings, home).issue(options.user, tuple(options.role), options.ttl)
        ends = datetime.fromtimestamp(issued.expires_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        _say(options, {"token": issued.token, "id": issued.token_id, "expiresAt": ends}, issued.token)
    return EXIT_DONE


def _say(options: argparse.Namespace, facts: dict[str, str], words: str) -> None:
    print(json.dumps(facts) if options.json else words)
