"""`harmonia doctor --redis`, `token --revoke` and `serve --redis`: what they find, and no password in what they say."""

import json

import pytest

from harmonia_lab.cli import main
from harmonia_lab.server.shared_revocations import SharedRevocations
from harmonia_lab.store.shared.connection import RedisConnection
from tests.redis_server import needs_redis, running_redis
from tests.server.engines import make_lab
from tests.waiting import until

pytestmark = needs_redis

SECRET = "s3cr3t-p4ssw0rd"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="no", password=SECRET) as server:
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))


def run(capsys, *arguments):
    status = main(list(arguments))
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    return status, captured.out + captured.err


@pytest.mark.parametrize("where", ["option", "environment"])
def test_doctor_says_what_redis_promises_and_which_servers_are_there(
    redis_server, tmp_path, capsys, monkeypatch, where
):
    with make_lab(tmp_path / "a", redis=redis_server.url) as lab:
        url = lab.serve(port=0).url
        until(lambda: [about.get("url") for about in lab.shared.connection.servers()] == [url])
        if where == "environment":
            monkeypatch.setenv("HARMONIA_REDIS", redis_server.url)
        given = [redis_server.url] if where == "option" else []
        status, said = run(capsys, "doctor", "--json", "--redis", *given)
    checks = {check["name"]: check for check in json.loads(said)["checks"]}
    assert (status, checks["server"]["found"]) == (0, url)
    assert "appendfsync always" in checks["persistence"]["mend"]


def test_doctor_says_what_is_wrong_with_redis(redis_server, tmp_path, capsys):
    status, said = run(capsys, "doctor", "--redis", f"redis://:{SECRET}x@127.0.0.1:{redis_server.port}/0")
    assert status == 1
    assert "refuses the user or the password" in said
    (tmp_path / "forgetful").mkdir()
    with running_redis(tmp_path / "forgetful", "--appendonly", "no") as forgetful:
        status, said = run(capsys, "doctor", "--redis", forgetful.url)
    assert status == 1
    assert "Set appendonly yes" in said


@pytest.mark.parametrize("url", [f"redis://:{SECRET}@redis.example/0", f"htp://:{SECRET}@127.0.0.1/0"])
def test_serve_refuses_an_address_before_it_starts_and_without_its_password(capsys, url):
    status, said = run(capsys, "serve", "--port", "0", "--redis", url)
    assert status != 0
    assert "redis" in said


@pytest.mark.parametrize("how", ["user", "id"])
def test_token_revokes_on_all_servers_of_a_redis(redis_server, tmp_path, capsys, monkeypatch, how):
    monkeypatch.setenv("HARMONIA_REDIS", redis_server.url)
    given = ["ann", "--revoke"] if how == "user" else ["--revoke-id", "some-id"]
    status, said = run(capsys, "token", *given)
    assert (status, "redis://127.0.0.1" in said) == (0, True)
    connection = RedisConnection(redis_server.url)
    found = SharedRevocations(connection, tmp_path / "another" / "revoked.json").now()
    connection.close()
    assert ("ann" in found.users) if how == "user" else ("some-id" in found.ids)
