"""Revoked tokens: all that a user got before a moment, and single ones by their id.

Owns the file `revoked.json` in the home, which all servers of one home read. It is a file, not a table of the journal:
whether it has changed is one `stat` (2 µs), which costs nothing at every check of a token and every quarter-second in
each server, and it can be read and written where the journal is damaged or locked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harmonia_lab import locks
from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.server.keys import FileStamp, file_stamp
from harmonia_lab.storage import open_private, replace, storage_errors, write_bytes

__all__ = ["KEPT_S", "REVOKED_FILE", "Revocations", "RevokedTokens", "check_one_named", "token_id_of"]

REVOKED_FILE = "revoked.json"

KEPT_S = 10 * 365 * 86400.0
"""Seconds after which a revoked id is forgotten: no token lives longer."""

MAX_ID = 64
"""Characters of a token's id."""

_log = logging.getLogger(__name__)


class RevokedTokens(BaseModel):
    """The file's content. users: moments (seconds since 1970) up to which each user's tokens are revoked. ids: revoked
    ids, each with the moment at which it can be forgotten."""

    version: int = 1
    users: dict[str, float] = {}
    ids: dict[str, float] = {}

    def has(self, user: str, token_id: str, issued_at: float) -> bool:
        """Return whether a token is revoked. issued_at: seconds since 1970."""
        return token_id in self.ids or issued_at <= self.users.get(user, -1.0)


@dataclass(frozen=True)
class _Known:
    stamp: FileStamp = None
    content: RevokedTokens = field(default_factory=RevokedTokens)


def token_id_of(jti: str) -> str:
    """Return the id by which a token is known here: its `jti`, or the digest of one that is long or not printable."""
    if len(jti) <= MAX_ID and jti.isprintable():
        return jti
    return hashlib.sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()


def check_one_named(user: str | None, token_id: str | None) -> None:
    """Raise InvalidRequest unless exactly one of the two is given."""
    if (user is None) == (token_id is None) or "" in (user, token_id):
        raise InvalidRequest(
            "Name a user, or the id of a token, and not both.", details={"fields": ["userId", "tokenId"]}
        )


class Revocations:
    """Any thread and any process may read and write at the same time."""

    def __init__(self, path: Path) -> None:
        """Raise StorageError if the file exists and can't be read: tokens that it revokes would work."""
        self._path = path
        self._known = _Known(file_stamp(path), _read(path))

    @property
    def stamp(self) -> FileStamp:
        """What tells the file's present content from the next."""
        return file_stamp(self._path)

    def revoke(self, user: str | None = None, token_id: str | None = None) -> None:
        """Revoke every token that `user` got before now, or the one with the id `token_id`.

        Raise InvalidRequest unless exactly one of the two is given, StorageError if the file can't be written.
        """
        check_one_named(user, token_id)
        with self._changing() as content:
            if user is not None:
                content.users[user] = time.time()
            elif token_id is not None:
                content.ids[token_id_of(token_id)] = time.time() + KEPT_S

    def now(self) -> RevokedTokens:
        """Return what is revoked now; it is read again if the file has changed."""
        stamp = self.stamp
        if stamp != self._known.stamp and stamp is not None:  # a file that was removed revokes on, until the next start
            try:
                self._known = _Known(stamp, _read(self._path))
            except StorageError as error:
                self._known = _Known(stamp, self._known.content)
                _log.warning("The revocations were not read again. %s", error)
        return self._known.content

    @contextmanager
    def _changing(self) -> Iterator[RevokedTokens]:
        """Yield the file's content for changes, and write it. Other processes wait."""
        lock = self._path.with_name(f".{self._path.name}.lock")
        with ExitStack() as stack:
            with storage_errors(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                stack.enter_context(locks.held(lock))
            content = _read(self._path)
            yield content
            now = time.time()
            content.ids = {name: until for name, until in content.ids.items() if until > now}
            whole = self._path.with_name(f".{self._path.name}.new")
            whole.unlink(missing_ok=True)
            with storage_errors(whole):
                os.close(open_private(whole, os.O_EXCL))
                write_bytes(whole, content.model_dump_json().encode())
                replace(whole, self._path)
            self._known = _Known(self.stamp, content)


def _read(path: Path) -> RevokedTokens:
    try:
        with storage_errors(path):
            return RevokedTokens.model_validate(json.loads(path.read_bytes()))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return RevokedTokens()
        raise
    except (ValueError, ValidationError) as error:
        raise StorageError(
            f"The list of revoked tokens {path} is damaged ({type(error).__name__}).",
            hint="Restore it, or remove it and revoke again: without it, no token is revoked.",
            details={"path": str(path)},
        ) from error
