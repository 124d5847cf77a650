"""Shares, submissions and deaths of generations in the shared Redis, as `shares.py` and `submissions.py` in a file.

Owns their keys, beside `scripts.lua`, which changes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harmonia_lab.errors import StorageError
from harmonia_lab.protocol.models import Job, ShareRole
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection
from harmonia_lab.store.shared.mirror import Copy, Mirror
from harmonia_lab.store.shared.rows import row_key, submission_of
from harmonia_lab.store.shares import MAX_SHARES, too_many_shares
from harmonia_lab.store.submissions import Submission

__all__ = ["NowhereElse", "RedisShares", "RedisSubmissions"]


class RedisShares:
    """As `store.shares.Shares`, on all servers that share a Redis. `of` reads the copy, if there is one."""

    def __init__(
        self,
        connection: RedisConnection,
        mirror: Mirror,
        load: Callable[[str], Copy],
        listed: Callable[[str, int, str | None], list[Job]],
    ) -> None:
        """load: reads a generation. listed: returns the newest jobs of a list, how many, before a place."""
        self._connection, self._mirror, self._load, self._listed = connection, mirror, load, listed

    def of(self, generation_id: str) -> dict[str, ShareRole]:
        return dict((self._mirror.get(generation_id) or self._load(generation_id)).shares)

    def add(self, generation_id: str, user: str, role: ShareRole) -> dict[str, ShareRole]:
        return self._change(generation_id, user, role)

    def remove(self, generation_id: str, user: str) -> dict[str, ShareRole]:
        return self._change(generation_id, user, "")

    def _change(self, generation_id: str, user: str, role: str) -> dict[str, ShareRole]:
        (answer,) = self._connection.call("share", generation_id, user, role, MAX_SHARES)
        if answer == "MANY":
            raise too_many_shares(generation_id)
        if answer == "GONE" and role:
            raise StorageError(f"There is no generation {generation_id} in {self._connection.label}.")
        return self._read(generation_id)

    def _read(self, generation_id: str) -> dict[str, ShareRole]:
        """Return the shares as they are now, and have the copy say so."""
        roles = self._connection.read(lambda client: client.hgetall(f"{PREFIX}shares:{generation_id}"))
        found: dict[str, ShareRole] = {user: roles[user] for user in sorted(roles)}
        self._mirror.set_shares(generation_id, found)
        return found

    def jobs_with(self, user: str, limit: int = 100, before: str | None = None) -> list[Job]:
        return self._listed(f"shared:{user}", limit, before)

    def last_change(self) -> int:
        return int(self._connection.read(lambda client: client.get(f"{PREFIX}share_change")) or 0)

    def changed_after(self, number: int) -> list[str]:
        ids = self._connection.read(lambda client: client.zrangebyscore(f"{PREFIX}share_changes", f"({number}", "+inf"))
        for generation_id in ids:
            self._read(generation_id)
        return list(ids)


class RedisSubmissions:
    """As `store.submissions.Submissions`."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    def of(self, generation_id: str) -> Submission | None:
        names = ("songs", "out", "replaces", "audio")
        values = self._connection.read(lambda client: client.hmget(row_key(generation_id), *names))
        try:
            return submission_of({name: value for name, value in zip(names, values, strict=True) if value is not None})
        except (ValueError, TypeError, LookupError) as error:
            label = self._connection.label
            raise StorageError(f"In {label}, how {generation_id} was submitted is damaged.") from error

    def latest_in(self, out: Path) -> str | None:
        found: str | None = self._connection.read(lambda client: client.hget(f"{PREFIX}out", str(out)))
        return found

    def deaths(self, generation_id: str) -> int:
        return int(self._connection.read(lambda client: client.scard(f"{PREFIX}deaths:{generation_id}")))

    def died(self, generation_id: str, process: str) -> int:
        self._connection.read(lambda client: client.sadd(f"{PREFIX}deaths:{generation_id}", process))
        return self.deaths(generation_id)

    def forgive(self, generation_id: str) -> None:
        self._connection.read(lambda client: client.delete(f"{PREFIX}deaths:{generation_id}"))


class NowhereElse:
    """As `store.elsewhere.Elsewhere`: servers that share a Redis make their songs themselves."""

    def server_of(self, generation_id: str) -> str | None:
        del generation_id
        return None
