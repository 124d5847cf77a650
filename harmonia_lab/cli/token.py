"""`harmonia token`: print a token with which a client connects to `harmonia serve`, or to a notebook's server, or the
link of its page; revoke tokens, and change the key that signs them. Running servers notice within a second."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from harmonia_lab.backends.serve_settings import ServeSettings, read_settings
from harmonia_lab.cli import EXIT_DONE
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.auth import check_user_name, token_id_in
from harmonia_lab.server.keys import rotate_key
from harmonia_lab.server.page import page_link
from harmonia_lab.server.revocations import REVOKED_FILE, Revocations
from harmonia_lab.server.server_thread import key_path, new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.storage import expanded, home_folder

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    given = (  # FRONTEND_URL is none of this command's business
        ServeSettings(server=ServerSettings(origins=()))
        if options.settings is None
        else read_settings(options.settings)
    )
    settings = given.server
    home = home_folder() if given.lab.home is None else expanded(given.lab.home)
    if options.rotate:
        path = key_path(settings, home)
        rotate_key(path)
        _say(options, {"rotated": str(path)}, "A new key signs. The former one works until the next --rotate.")
    elif options.revoke_id is not None:
        token_id = token_id_in(options.revoke_id)
        with _revocations(options, given, home) as (revocations, where):
            revocations.revoke(token_id=token_id)
        _say(options, {"revokedId": token_id}, f"The token {token_id} is revoked on the servers of {where}.")
    elif options.user is None:
        raise InvalidRequest("Whose token? Name a USER.", details={"fields": ["user"]})
    elif options.revoke:
        check_user_name(options.user)
        with _revocations(options, given, home) as (revocations, where):
            revocations.revoke(options.user)
        _say(
            options,
            {"revokedUser": options.user},
            f"The tokens that {options.user} got before now are revoked on the servers of {where}.",
        )
    else:
        page = None if options.link is None else settings.page_at(options.link or settings.url())
        issued = new_tokens(settings, home).issue(options.user, tuple(options.role), options.ttl)
        ends = datetime.fromtimestamp(issued.expires_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        facts = {"token": issued.token, "id": issued.token_id, "expiresAt": ends}
        link = None if page is None else page_link(page, issued.token)
        _say(options, facts | ({} if link is None else {"link": link}), link or issued.token)
    return EXIT_DONE


@contextmanager
def _revocations(
    options: argparse.Namespace, given: ServeSettings, home: Path
) -> Iterator[tuple[Revocations, Path | str]]:
    """Yield the list of revoked tokens, and whose it is: the home's, or that of servers which share a Redis."""
    url = options.redis or given.lab.redis or os.environ.get("HARMONIA_REDIS")
    if not url:
        yield Revocations(home / REVOKED_FILE), home
        return
    from harmonia_lab.server.shared_revocations import SharedRevocations  # noqa: PLC0415 - Redis loads where it is used
    from harmonia_lab.store.shared.connection import RedisConnection  # noqa: PLC0415 - as above

    with closing(RedisConnection(url)) as connection:
        yield SharedRevocations(connection, home / REVOKED_FILE), connection.label


def _say(options: argparse.Namespace, facts: dict[str, str], words: str) -> None:
    print(json.dumps(facts) if options.json else words)
