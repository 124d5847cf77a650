"""Shared songs: what an owner lets others do, and how it ends."""

import asyncio
import threading

import pytest

from harmonia_lab.client import BlockingClient, Client
from harmonia_lab.errors import ErrorCode, MetadataError, Refused
from tests.server.conftest import GENERATION, Ear, serving
from tests.server.engines import METADATA, Player, Writer
from tests.server.test_http import ROUTES, STORY, call
from tests.waiting import PATIENCE_S, until

WHO = {
    "owner": ("ann", ()),
    "viewer": ("vic", ()),
    "controller": ("con", ()),
    "admin": ("root", ("admin",)),
    "other": ("eve", ()),
}
"""Name → user and roles."""


def shared(server, generation_id="g"):
    """Share ann's generation with vic as viewer and con as controller."""
    server.lab.share(generation_id, "vic")
    server.lab.share(generation_id, "con", "controller")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with two shared songs of ann's: "done", and "failed", which can be tried again."""
    lost = MetadataError("It went away.", code=ErrorCode.METADATA_INVALID)
    with serving(tmp_path_factory.mktemp("shares"), metadata=Writer(errors=[lost])) as server:
        for generation_id, status in (("failed", "failed"), ("done", "completed")):
            assert call(server, "POST", "/api/generations", json=STORY | {"generationId": generation_id})[0] == 202
            until(lambda: server.lab.journal.state(generation_id).status == status)  # noqa: B023 - called at once
            shared(server, generation_id)
        yield server


COMMANDS = [
    # name, payload, the answer's code for each of WHO ("" if it is carried out)
    ("join-generation", {"generationId": "done"}, {"other": "NOT_FOUND"}),
    ("job:subscribe", {"jobId": "done"}, {"other": "NOT_FOUND"}),
    ("cancel-generation", {"generationId": "done"}, dict.fromkeys(WHO, "CANCEL_FAILED")),  # it has ended, or may not
    (
        "share-generation",
        {"generationId": "done", "userId": "zoe"},
        {"viewer": "UNAUTHORIZED", "controller": "UNAUTHORIZED", "admin": "UNAUTHORIZED", "other": "NOT_FOUND"},
    ),
    (
        "unshare-generation",
        {"generationId": "done", "userId": "zoe"},
        {"viewer": "UNAUTHORIZED", "controller": "UNAUTHORIZED", "admin": "UNAUTHORIZED", "other": "NOT_FOUND"},
    ),
    (
        "retry-generation",
        {"generationId": "done"},
        {"viewer": "UNAUTHORIZED", "other": "NOT_FOUND"}
        | dict.fromkeys(("owner", "controller", "admin"), "NOT_RECOVERABLE"),
    ),
]


@pytest.mark.parametrize("who", WHO)
def test_each_command_is_answered_as_the_role_says(served, who):
    user, roles = WHO[who]

    async def main():
        async with Ear(served, user, roles=roles) as ear:
            for name, payload, refused in COMMANDS:
                ack = await ear.ask(name, payload)
                assert ack.get("error", {}).get("code", "") == refused.get(who, ""), name
            return ear.heard

    heard = asyncio.run(main())
    names = {name for name, _ in heard} - {"server-hello", "generation-shared"}
    assert bool(names) is (who != "other")
    if who == "other":
        assert METADATA.title not in str(heard)


@pytest.mark.parametrize("route", ROUTES)
def test_each_file_is_had_by_those_with_whom_it_is_shared_and_by_no_others(served, route):
    got = {w: call(served, "GET", f"/api/generations/done{route}", user=u, roles=r)[0] for w, (u, r) in WHO.items()}
    assert got == dict.fromkeys(WHO, 200) | {"other": 404}


def test_who_may_see_the_shares_and_what_each_is_told_of_them(served):
    async def joined(user, roles):
        async with Ear(served, user, roles=roles) as ear:
            snapshot = (await ear.ask("join-generation", "done"))["snapshot"]
            return snapshot["access"], snapshot.get("shares")

    listed = [{"userId": "con", "role": "controller"}, {"userId": "vic", "role": "viewer"}]
    for who in ("owner", "viewer", "controller", "admin"):
        user, roles = WHO[who]
        knows = who in ("owner", "admin")
        assert asyncio.run(joined(user, roles)) == (who, listed if knows else None)
        status, _, body = call(served, "GET", "/api/generations/done/shares", user=user, roles=roles)
        assert status == (200 if knows else 403)
        assert (b"controller" in body) is knows
    assert call(served, "GET", "/api/generations/done/shares", user="eve")[0] == 404


def test_what_is_shared_with_somebody_is_listed_for_him_and_is_not_among_his_own(served):
    import json

    found = json.loads(call(served, "GET", "/api/shared", user="vic")[2])["jobs"]
    assert {job["id"]: job["userId"] for job in found} == {"done": "ann", "failed": "ann"}
    url = next(job["result"]["outputPath"] for job in found if job["id"] == "done")
    assert "user=vic" in url
    assert call(served, "GET", url, user=None)[0] == 200
    assert json.loads(call(served, "GET", "/api/generations", user="vic")[2])["jobs"] == []
    assert json.loads(call(served, "GET", "/api/shared", user="eve")[2])["jobs"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"userId": ""}, 400),
        ({"userId": "a\nb"}, 400),
        ({"userId": "x" * 129}, 400),
        ({"userId": 5}, 400),
        ({"userId": "ann"}, 400),
        ({"userId": "bob", "role": "owner"}, 400),
        ({"userId": "bob", "generationId": "failed"}, 200),
    ],
)
def test_a_share_is_with_another_user_as_a_role_that_there_is(served, body, status):
    assert call(served, "POST", "/api/generations/done/shares", json=body)[0] == status
    assert served.lab.journal.shares.of("failed") == {"con": "controller", "vic": "viewer"}
    if status == 200:
        assert call(served, "DELETE", "/api/generations/done/shares?userId=bob")[0] == 200
        assert call(served, "DELETE", "/api/generations/done/shares?userId=bob")[0] == 200
    assert call(served, "DELETE", "/api/generations/done/shares")[0] == 400


def test_a_controller_cancels_and_retries_and_a_viewer_does_not(tmp_path):
    gate = threading.Event()
    lost = MetadataError("It went away.", code=ErrorCode.METADATA_INVALID)

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "con") as con, Ear(server, "vic") as vic:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            await ann.until("generation-error")
            await asyncio.to_thread(shared, server)
            assert (await vic.ask("retry-generation", {"generationId": "g"}))["error"]["code"] == "UNAUTHORIZED"
            assert (await con.ask("retry-generation", {"generationId": "g"}))["ok"]
            await ann.until("metadata-generation-started", count=2)
            answer = await vic.ask("cancel-generation", {"generationId": "g"})
            assert answer["error"]["code"] == "CANCEL_FAILED"
            assert "to hear it" in answer["error"]["message"]
            await vic.tell("cancel-generation", {"generationId": "g"})
            assert (await vic.until("generation-error"))["stage"] == "metadata"
            status = await asyncio.to_thread(call, server, "DELETE", "/api/generations/g", user="vic")
            assert status[0] == 403
            assert (await con.ask("cancel-generation", {"generationId": "g"}))["ok"]
            await ann.until("generation-cancelled")

    with serving(tmp_path, metadata=Writer(errors=[lost], gate=gate)) as server:
        gate.set()
        server.lab.events.subscribe(lambda event: event.name == "generation-error" and gate.clear())
        asyncio.run(main(server))


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "queued"])
def test_who_it_is_shared_with_hears_all_of_it_until_it_is_taken_back_and_then_nothing(tmp_path, framed):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "vic") as vic, Ear(server, "con") as con:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            await ann.until("metadata-generation-started")
            assert (await vic.ask("join-generation", "g"))["error"]["code"] == "NOT_FOUND"
            for user, role in (("vic", "viewer"), ("con", "controller")):
                ack = await ann.ask("share-generation", {"generationId": "g", "userId": user, "role": role})
            assert ack["shares"] == [{"userId": "con", "role": "controller"}, {"userId": "vic", "role": "viewer"}]
            assert ann.of("generation-shared")[-1]["shares"] == ack["shares"]
            for ear in (vic, con):
                assert (await ear.ask("join-generation", "g"))["snapshot"]["status"] == "processing"
                assert (await ear.ask("job:subscribe", {"jobId": "g"}))["ok"]
            assert vic.of("metadata-generation-started")[0]["narrative"] == STORY["narrative"]
            ack = await ann.ask("unshare-generation", {"generationId": "g", "userId": "vic"})
            assert ack["shares"] == [{"userId": "con", "role": "controller"}]
            told = await vic.until("generation-shared")
            assert (told["generationId"], "access" in told, "shares" in told) == ("g", False, False)
            assert (await con.ask("cancel-generation", {"generationId": "g"}))["ok"]
            await con.until("generation-cancelled")
            assert con.lifecycle() == [*GENERATION[:1], ("generation-cancelled", 2)]
            await con.until("job:status", count=3)
            assert (vic.lifecycle(), len(vic.of("job:status"))) == (GENERATION[:1], 2)
            assert (await vic.ask("join-generation", "g"))["error"]["code"] == "NOT_FOUND"

    with serving(tmp_path, metadata=Writer(gate=gate), fast_broadcast=framed) as server:
        asyncio.run(main(server))


def test_who_follows_the_own_jobs_hears_at_once_what_is_shared_and_nobody_else_does(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "vic") as vic, Ear(server, "eve") as eve:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            for ear in (vic, eve):
                assert (await ear.ask("jobs:subscribe:user"))["ok"]
            await ann.ask("share-generation", {"generationId": "g", "userId": "vic"})
            told = await vic.until("generation-shared")
            assert (told["generationId"], told["access"], "shares" in told) == ("g", "viewer", False)
            assert (await vic.ask("join-generation", "g"))["ok"]
            assert (await eve.ask("join-generation", "g"))["error"]["code"] == "NOT_FOUND"  # and so all has come
            assert eve.of("generation-shared") == []

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_each_reader_gets_a_link_of_his_own_which_ends_when_it_is_taken_back(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "vic") as vic:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            await ann.ask("share-generation", {"generationId": "g", "userId": "vic"})
            await vic.ask("join-generation", "g")
            gate.set()
            own, his = [(await ear.until("audio-generation-complete"))["audioUrl"] for ear in (ann, vic)]
            assert ("user=ann" in own, "user=vic" in his) == (True, True)
            get = lambda url: asyncio.to_thread(call, server, "GET", url, user=None)  # noqa: E731
            assert [(await get(url))[0] for url in (own, his)] == [200, 200]
            await ann.ask("unshare-generation", {"generationId": "g", "userId": "vic"})
            assert [(await get(url))[0] for url in (own, his)] == [200, 404]
            assert (await get(his.replace("user=vic", "user=ann")))[0] == 401

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_another_server_of_the_home_puts_a_user_out_within_a_second(tmp_path):
    """vic follows on the server that makes the song; the other one, or the lab itself, takes it back."""
    gate = threading.Event()

    async def main(server, other):
        async with Ear(server, "ann") as ann, Ear(server, "vic") as vic:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            for take_back in (
                lambda: call(other, "DELETE", "/api/generations/g/shares?userId=vic"),
                lambda: other.lab.unshare("g", "vic"),
            ):
                await asyncio.to_thread(other.lab.share, "g", "vic")
                assert (await vic.ask("join-generation", "g"))["ok"]
                count = len(vic.of("generation-shared")) + 1
                await asyncio.to_thread(take_back)
                while "access" in await vic.until("generation-shared", count=count):
                    count += 1
                assert (await vic.ask("join-generation", "g"))["error"]["code"] == "NOT_FOUND"
            await ann.ask("cancel-generation", {"generationId": "g"})
            await ann.until("generation-cancelled")
            assert vic.of("generation-cancelled") == []

    with serving(tmp_path, metadata=Writer(gate=gate)) as server, serving(tmp_path) as other:
        asyncio.run(main(server, other))


def test_the_admins_room_stays_without_words_also_for_an_admin_with_whom_it_is_shared(tmp_path):
    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "root", roles=("admin",)) as root:
            await root.ask("jobs:subscribe:admin")
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            await ann.ask("share-generation", {"generationId": "g", "userId": "root"})
            await root.until("job:completed")
            assert METADATA.title not in str(root.heard)

    with serving(tmp_path) as server:
        asyncio.run(main(server))


def test_a_client_of_ours_shares_follows_and_is_told_the_end(tmp_path):
    gate = threading.Event()

    async def follow(server):
        async with Client(server.url) as vic:
            await vic.connect(server.token("vic"))
            await vic.join("g")
            assert vic.store.state.sharing["g"].access == "viewer"
            stream = vic.events("g")
            seen = [(await anext(stream)).name]
            with BlockingClient(server.url) as ann:
                await asyncio.to_thread(ann.connect, server.token("ann"))
                await asyncio.to_thread(ann.unshare, "g", "vic")
            with pytest.raises(Refused, match="no longer shared"):
                async with asyncio.timeout(PATIENCE_S):
                    seen += [event.name async for event in stream]
            assert vic.store.state.sharing["g"].access is None
            assert seen[0] == "metadata-generation-started"

    with serving(tmp_path, metadata=Writer(gate=gate), audio=Player()) as server:
        with BlockingClient(server.url) as ann:
            ann.connect(server.token("ann"))
            ann.start("A small boat goes home.", generation_id="g", seconds=1)
            ann.join("g")
            shares = ann.share("g", "vic").shares
            assert [(share.user_id, share.role) for share in shares] == [("vic", "viewer")]
            until(lambda: ann.store.state.sharing["g"].shares == tuple(shares))
            with pytest.raises(Refused, match="no generation nothing"):
                ann.share("nothing", "vic")
        asyncio.run(follow(server))


def test_the_features_name_it(served):
    async def main():
        async with Ear(served) as ear:
            assert "share-generation" in (await ear.until("server-hello"))["features"]

    asyncio.run(main())


def test_too_many_changes_are_refused_and_leave_what_there_was(served, monkeypatch):
    changes = served._app.gateway.sharing.changes
    monkeypatch.setattr(changes, "take", lambda user, tokens=1.0: user != "ann")
    status, _, body = call(served, "POST", "/api/generations/done/shares", json={"userId": "zoe"})
    assert (status, b"RATE_LIMITED" in body) == (429, True)
    assert "zoe" not in served.lab.journal.shares.of("done")
