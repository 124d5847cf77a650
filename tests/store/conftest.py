"""A place for a journal of each kind: a file of this machine, and a Redis that servers share."""

import json
from pathlib import Path

import pytest

from harmonia_lab.store.journal import Journal
from tests.redis_server import needs_redis, running_redis


def open_journal(place):
    """Open the journal there. place: a text, so that another process can open it, too."""
    where = json.loads(place)
    if "file" in where:
        return Journal(Path(where["file"]))
    from harmonia_lab.store.shared.redis_journal import RedisJournal

    return RedisJournal(where["redis"], Path(where["home"]))


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory):
    """A redis-server for all tests of a process, which doesn't wait for the disk."""
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="no") as server:
        yield server


@pytest.fixture
def redis_url(shared_redis):
    """The URL of an empty Redis."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis.url


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def place(request, tmp_path):
    if request.param == "sqlite":
        return json.dumps({"file": str(tmp_path / "home" / "journal.sqlite3")})
    url = request.getfixturevalue("redis_url")
    return json.dumps({"redis": url, "home": str(tmp_path / "home")})
