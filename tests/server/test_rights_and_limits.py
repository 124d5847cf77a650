"""Rights that end, shares and the audit log, where commands wait, lists have pages and rooms expire."""

import asyncio
import json
import threading

import pytest

from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server import http
from harmonia_lab.server.audit import AUDIT_FILE
from harmonia_lab.server.settings import RateLimits
from tests.server.conftest import Ear, serving
from tests.server.engines import METADATA
from tests.server.test_audit import lines_of
from tests.server.test_http import STORY, call
from tests.waiting import PATIENCE_S, until_so

LONG = METADATA.model_copy(update={"lyrics": "[Verse 1]\n" + "The tide comes in\n" * 400})


class Held:
    """A function that says when it was called, and goes on when it may."""

    def __init__(self, function):
        self.function, self.called, self.may = function, threading.Event(), threading.Event()

    def __call__(self, *arguments, **named):
        self.called.set()
        assert self.may.wait(PATIENCE_S)
        return self.function(*arguments, **named)

    async def reached(self):
        await until_so(self.called.is_set, "the call")


def make_song(server, generation_id="g", share_with=()):
    """Make ann's song, and wait for its end."""
    request = SongRequest(narrative="n", metadata=LONG, seconds=1, generation_id=generation_id)
    server.lab.submit_request(request, user="ann").result(PATIENCE_S)
    for user in share_with:
        server.lab.share(generation_id, user)


def was_taken_back(ear):
    """Return whether the last that this client was told of its right is that it has none."""
    told = ear.of("generation-shared")
    return bool(told) and "access" not in told[-1]


def on_disk_alone(server, monkeypatch):
    """Have the journal forget the states that it has at hand, and hold back the reading of the next."""
    journal = server.lab.journal
    held = Held(journal._reader.read_state)
    monkeypatch.setattr(journal._reader, "read_state", held)
    journal._reader._at_hand = {}
    return held


def test_a_command_that_waits_while_its_token_is_revoked_is_not_carried_out(tmp_path, monkeypatch):
    async def main(server):
        gateway = server._app.gateway
        async with Ear(server) as ann:
            (client,) = gateway.clients.values()
            held = on_disk_alone(server, monkeypatch)
            asked = asyncio.create_task(ann.ask("join-generation", "g"))
            await held.reached()
            server.revoke("ann")
            await ann.gone.wait()
            held.may.set()
            later = gateway.handle_command(client, ["start-generation", STORY], has_callback=True)
            answer = asyncio.run_coroutine_threadsafe(later, server._loop)
            assert (await asyncio.wrap_future(answer)).error.code == "UNAUTHORIZED"
            said = lambda: [(line["what"], line["outcome"]) for line in lines_of(tmp_path / "home" / AUDIT_FILE)]  # noqa: E731
            await until_so(lambda: ("join-generation", "UNAUTHORIZED") in said())
            assert gateway._rooms._members == {}
            asked.cancel()

    with serving(tmp_path, audit=True) as server:
        make_song(server)
        asyncio.run(main(server))
        assert len(server.lab.journal.jobs("ann")) == 1


def test_what_is_taken_back_during_a_replay_is_not_sent_any_more(tmp_path, monkeypatch):
    async def main(server):
        delivery = server._app.gateway._delivery
        held = Held(delivery.read_missed)
        monkeypatch.setattr(delivery, "read_missed", held)
        async with Ear(server, "vic") as vic:
            asked = asyncio.create_task(vic.ask("join-generation", "g"))
            await held.reached()
            await asyncio.to_thread(server.lab.unshare, "g", "vic")
            await until_so(lambda: was_taken_back(vic))
            held.may.set()
            assert (await asked)["error"]["code"] == "NOT_FOUND"
            assert vic.lifecycle() == []

    with serving(tmp_path) as server:
        make_song(server, share_with=["vic"])
        asyncio.run(main(server))


@pytest.mark.parametrize(("end", "status"), [("unshare", 404), ("revoke", 403)])
@pytest.mark.parametrize("part", ["file", "state"])
def test_a_download_that_waits_while_it_is_taken_back_is_refused(tmp_path, monkeypatch, part, end, status):
    async def main(server, url):
        if part == "file":
            held = Held(http.find_file)
            monkeypatch.setattr(http, "find_file", held)
        else:
            held = on_disk_alone(server, monkeypatch)
        asked = asyncio.create_task(asyncio.to_thread(call, server, "GET", url, user=None))
        await held.reached()
        if end == "unshare":
            server.lab.unshare("g", "vic")
        else:
            server.revoke("vic")
        held.may.set()
        assert (await asked)[0] == status

    with serving(tmp_path) as server:
        make_song(server, share_with=["vic"])
        (job,) = json.loads(call(server, "GET", "/api/shared", user="vic")[2])["jobs"]
        asyncio.run(main(server, job["result"]["outputPath"]))


def test_what_others_share_comes_in_pages_with_the_readers_own_links(tmp_path):
    with serving(tmp_path) as server:
        for name in ("one", "two", "three"):
            make_song(server, name, share_with=["vic"])
        make_song(server, "kept")
        found, cursor, pages = [], "", 0
        while cursor is not None:
            query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
            answer = json.loads(call(server, "GET", f"/api/shared{query}", user="vic")[2])
            found, cursor, pages = found + answer["jobs"], answer.get("nextCursor"), pages + 1
        assert ([job["id"] for job in found], pages) == (["three", "two", "one"], 2)
        assert all("user=vic" in job["result"]["outputPath"] for job in found)
        assert call(server, "GET", found[-1]["result"]["outputPath"], user=None)[0] == 200
        assert call(server, "GET", "/api/shared?cursor=x", user="vic")[0] == 400


def test_who_hears_a_shared_song_leaves_its_room_too_some_time_after_the_end(tmp_path):
    async def main(server):
        async with Ear(server, "vic") as vic:
            assert (await vic.ask("join-generation", "g"))["snapshot"]["access"] == "viewer"
            assert (await vic.ask("job:subscribe", {"jobId": "g"}))["ok"]
            rooms = server._app.gateway._rooms
            await until_so(lambda: not rooms.members(["generation-g"]))
            await asyncio.to_thread(server.lab.unshare, "g", "vic")
            await until_so(lambda: was_taken_back(vic))
            assert not rooms.members(["job:g"])

    with serving(tmp_path, room_kept_s=0.1) as server:
        make_song(server, share_with=["vic"])
        asyncio.run(main(server))


def test_what_is_refused_unread_stands_in_the_audit_log(tmp_path):
    async def main(server):
        async with Ear(server) as ann:
            answers = [await ann.ask("leave-generation", "g") for _ in range(3)]
            assert answers[2]["error"]["code"] == "RATE_LIMITED"
            await asyncio.to_thread(call, server, "GET", "/api/generations")
            await asyncio.to_thread(call, server, "GET", "/api/generations")
            assert (await asyncio.to_thread(call, server, "GET", "/api/generations"))[0] == 429

    with serving(tmp_path, audit=True, rates=RateLimits(messages=(0.01, 2))) as server:
        asyncio.run(main(server))
        server.stop()
        lines = lines_of(tmp_path / "home" / AUDIT_FILE)
    limited = [(line["what"], line["user"]) for line in lines if line["outcome"] == "RATE_LIMITED"]
    assert limited == [("leave-generation", "ann"), ("GET /api/generations", "ann")]


@pytest.mark.parametrize(("proxies", "address"), [(("127.0.0.1",), "1.2.3.4"), ((), "127.0.0.1")])
def test_the_audit_log_has_the_address_that_a_trusted_proxy_names(tmp_path, proxies, address):
    with serving(tmp_path, audit=True, trusted_proxies=proxies) as server:
        forwarded = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4"}
        assert call(server, "GET", "/api/generations", user=None, headers=forwarded)[0] == 401
        server.stop()
        (line,) = lines_of(tmp_path / "home" / AUDIT_FILE)
    assert (line["outcome"], line["address"]) == ("UNAUTHORIZED", address)
