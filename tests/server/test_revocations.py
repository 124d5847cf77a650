"""Revoked tokens: their sockets, links and downloads end, on every server of one home."""

import asyncio
import json
import threading
import time

import pytest

from harmonia_lab.client import Client
from harmonia_lab.errors import InvalidRequest, Refused, StorageError
from harmonia_lab.server.auth import LEEWAY_S, Tokens
from harmonia_lab.server.revocations import REVOKED_FILE, Revocations
from tests.server.conftest import Ear, serving
from tests.server.engines import Writer
from tests.server.test_http import STORY, call
from tests.waiting import PATIENCE_S, until, until_so

KEY = bytes(range(32))
NAMES = {"audience": "harmonia-lab", "issuer": "harmonia-lab"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / REVOKED_FILE


def tokens_with(path, **options):
    return Tokens(keys=lambda: (KEY,), revocations=Revocations(path), **NAMES, **options)


def test_what_a_user_got_before_is_refused_and_what_comes_after_or_is_anothers_is_not(path):
    tokens, other = tokens_with(path), tokens_with(path)
    before, bobs = tokens.issue("ann").token, tokens.issue("bob").token
    assert other.check(before).user == "ann"
    tokens.revoke("ann")
    with pytest.raises(Refused, match="revoked"):
        other.check(before)
    assert other.check(bobs).user == "bob"
    assert other.check(tokens.issue("ann").token).user == "ann"


def test_one_token_is_revoked_by_its_id(path):
    tokens = tokens_with(path)
    first, second = tokens.issue("ann"), tokens.issue("ann")
    tokens.revoke(token_id=first.token_id)
    with pytest.raises(Refused, match="revoked"):
        tokens.check(first.token)
    assert tokens.check(second.token).token_id == second.token_id
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_that_does_not_say_when_it_was_issued_is_revoked_with_its_users(path):
    import jwt

    claims = {"sub": "ann", "aud": "harmonia-lab", "iss": "harmonia-lab", "exp": 2**33}
    old = jwt.encode(claims, KEY, "HS256")  # as version 0.1.0 did not, but others may
    tokens = tokens_with(path)
    assert tokens.check(old).token_id == ""
    tokens.revoke("ann")
    with pytest.raises(Refused, match="revoked"):
        tokens.check(old)


def test_a_clock_elsewhere_that_is_ahead_saves_no_token_from_being_revoked(path):
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    tokens = Tokens(public=lambda _: key.public_key(), revocations=Revocations(path), **NAMES)
    claims = {
        "sub": "ann",
        "aud": "harmonia-lab",
        "iss": "harmonia-lab",
        "exp": 2**33,
        "iat": time.time() + LEEWAY_S / 2,
    }
    token = jwt.encode(claims, key, "RS256")
    assert tokens.check(token).user == "ann"
    tokens.revoke("ann")
    with pytest.raises(Refused, match="revoked"):
        tokens.check(token)


def test_the_process_owner_stays(path):
    tokens = tokens_with(path, owner_key=bytes(32))
    own = tokens.owner_token("local")
    tokens.revoke("local")
    assert tokens.check(own).is_process_owner


@pytest.mark.parametrize("wish", [{}, {"user": "ann", "token_id": "a"}, {"user": ""}, {"token_id": ""}])
def test_a_revocation_names_a_user_or_a_token(path, wish):
    with pytest.raises(InvalidRequest, match="Name a user"):
        Revocations(path).revoke(**wish)


def test_revocations_of_many_at_once_are_all_kept(path):
    threads = [threading.Thread(target=Revocations(path).revoke, args=(f"user {n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(path.read_text())["users"]) == 12


def test_a_damaged_list_starts_no_server_and_revokes_on_in_one_that_runs(path, caplog):
    tokens = tokens_with(path)
    token = tokens.issue("ann").token
    tokens.revoke("ann")
    path.write_text("{")
    with pytest.raises(Refused, match="revoked"):
        tokens.check(token)
    assert "not read again" in caplog.text
    with pytest.raises(StorageError, match="damaged"):
        tokens_with(path)


def test_within_a_second_sockets_close_and_links_end_on_every_server_of_the_home(tmp_path):
    async def main(one, other):
        ann, bob = Ear(one, "ann"), Ear(other, "bob")
        elsewhere = Ear(other, "ann")
        async with ann, bob, elsewhere:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            url = (await ann.until("audio-generation-complete"))["audioUrl"]
            there = url.replace(one.url, other.url)
            assert [(await asyncio.to_thread(call, one, "GET", u, user=None))[0] for u in (url, there)] == [200, 200]
            one.revoke("ann")
            for ear in (ann, elsewhere):
                await asyncio.wait_for(ear.gone.wait(), PATIENCE_S)
            assert [(await asyncio.to_thread(call, one, "GET", u, user=None))[0] for u in (url, there)] == [401, 401]
            refused = await asyncio.to_thread(call, other, "GET", "/api/generations", token=ann.token)
            assert b"revoked" in refused[2]
            assert not bob.gone.is_set()
            assert (await bob.ask("jobs:subscribe:user"))["ok"]

    with serving(tmp_path) as one, serving(tmp_path) as other:
        asyncio.run(main(one, other))


def test_a_new_token_that_a_socket_took_over_keeps_it_open(tmp_path):
    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "ann") as stays:
            first = server._tokens.check(stays.token).token_id
            assert (await stays.ask("refresh-token", {"token": server.token("ann")}))["ok"]
            server.revoke(token_id=first)
            server.revoke(token_id=server._tokens.check(ann.token).token_id)
            await asyncio.wait_for(ann.gone.wait(), PATIENCE_S)
            assert (await stays.ask("jobs:subscribe:user"))["ok"]

    with serving(tmp_path) as server:
        asyncio.run(main(server))


def test_a_client_of_ours_says_why_it_does_not_come_back(tmp_path):
    async def main(server):
        async with Client(server.url) as client:
            await client.connect(server.token("ann"))
            server.revoke("ann")
            with pytest.raises(Refused, match="revoked"):
                async for _ in client.events():
                    pass

    with serving(tmp_path) as server:
        asyncio.run(main(server))


def test_a_download_that_is_being_sent_is_broken_off(tmp_path):
    """Its client reads so slowly that the server still sends when the token is revoked."""

    async def main(server):
        folder = server.lab.journal.state("g").song_path.parent
        big = folder / "song.flac"
        record = json.loads((folder / "run.json").read_text())
        with big.open("ab") as file:
            file.truncate(64 * 2**20)
        record["files"]["song.flac"]["bytes"] = 64 * 2**20
        (folder / "run.json").write_text(json.dumps(record))
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        token = server.token("ann")
        writer.write(
            f"GET /api/generations/g/audio HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        assert (await reader.readexactly(12)).endswith(b"200")
        server.revoke("ann")
        await until_so(lambda: not server._app.gateway.sharing.downloads._open)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(64 * 2**20)
        writer.close()

    with serving(tmp_path) as server:
        call(server, "POST", "/api/generations", json=STORY | {"generationId": "g"})
        until(lambda: server.lab.journal.state("g").status == "completed")
        asyncio.run(main(server))


def test_an_admin_revokes_over_http_and_nobody_else_does(tmp_path):
    async def main(server):
        async with Ear(server, "ann") as ann:
            route = ("POST", "/api/tokens/revoke")
            for user, roles, body, status in (
                (None, (), {"userId": "ann"}, 401),
                ("bob", (), {"userId": "ann"}, 403),
                ("root", ("admin",), {}, 400),
                ("root", ("admin",), [], 400),
                ("root", ("admin",), {"userId": 7}, 400),
                ("root", ("admin",), {"userId": "ann"}, 200),
            ):
                answer = await asyncio.to_thread(call, server, *route, user=user, roles=roles, json=body)
                assert answer[0] == status, (user, body)
            await asyncio.wait_for(ann.gone.wait(), PATIENCE_S)
            await until_so(lambda: server.metrics().connections == 0)

    with serving(tmp_path, metadata=Writer()) as server:
        asyncio.run(main(server))
