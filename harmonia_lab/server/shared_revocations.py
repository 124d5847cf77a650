"""Revoked tokens of several servers, in the Redis that they share.

Owns one hash there and the copy that every check of a token reads, so that none waits for Redis. `stamp`, which
`watch.py` asks for four times a second, brings the copy up to date.
"""

from __future__ import annotations

import time
from pathlib import Path

from harmonia_lab.errors import StorageError
from harmonia_lab.server.keys import FileStamp
from harmonia_lab.server.revocations import KEPT_S, Revocations, RevokedTokens, check_one_named, token_id_of
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection

__all__ = ["SharedRevocations"]

KEY = f"{PREFIX}revoked"
"""A hash: "user:NAME" -> the moment up to which the user's tokens are revoked, "id:ID" -> when that can be
forgotten."""


class SharedRevocations(Revocations):
    """As `Revocations`. What the home's file revokes is revoked on all servers, too."""

    def __init__(self, connection: RedisConnection, path: Path) -> None:
        """path: the home's file. Raise StorageError if it or Redis can't be read: revoked tokens would work."""
        super().__init__(path)
        self._connection = connection
        for field, moment in _fields(self._known.content):
            self._write(field, moment)
        self._seen, self._content = self._read()

    @property
    def stamp(self) -> FileStamp:
        number = int(self._connection.read(lambda client: client.get(f"{KEY}:changes")) or 0)
        if number != self._seen:
            self._seen, self._content = self._read()
        return number, 0, 0

    def revoke(self, user: str | None = None, token_id: str | None = None) -> None:
        check_one_named(user, token_id)
        if user is not None:
            self._write(f"user:{user}", time.time())
        elif token_id is not None:
            self._write(f"id:{token_id_of(token_id)}", time.time() + KEPT_S)
        self._seen, self._content = self._read()

    def now(self) -> RevokedTokens:
        return self._content

    def _write(self, field: str, moment: float) -> None:
        def ask(pipeline: object) -> None:
            pipeline.hset(KEY, field, repr(moment))  # type: ignore[attr-defined]
            pipeline.incr(f"{KEY}:changes")  # type: ignore[attr-defined]

        before = self._connection.read(lambda client: client.hget(KEY, field))
        if before is None or float(before) < moment:
            self._connection.read_together(ask)

    def _read(self) -> tuple[int, RevokedTokens]:
        number, fields = self._connection.read_together(lambda ask: (ask.get(f"{KEY}:changes"), ask.hgetall(KEY)))
        content = RevokedTokens()
        for field, moment in fields.items():
            kind, _, name = field.partition(":")
            (content.users if kind == "user" else content.ids)[name] = _moment(moment)
        return int(number or 0), content


def _fields(content: RevokedTokens) -> list[tuple[str, float]]:
    users = [(f"user:{name}", moment) for name, moment in content.users.items()]
    return users + [(f"id:{name}", moment) for name, moment in content.ids.items()]


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise StorageError("The list of revoked tokens in Redis is damaged.") from None
