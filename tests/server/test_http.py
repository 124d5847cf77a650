"""The HTTP routes, over real connections."""

import asyncio
import gzip
import hashlib
import io
import json
import threading
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import mido
import pytest

from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.server.http import HttpApi
from harmonia_lab.server.settings import RateLimits
from harmonia_lab.testing import FakeAudioEngine
from tests.server.conftest import Ear, serving
from tests.server.engines import METADATA, Writer
from tests.waiting import until

STORY = {"narrative": "A small boat goes home.", "seconds": 1}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with ann's song "done"."""
    with serving(tmp_path_factory.mktemp("http")) as server:

        async def main():
            async with Ear(server) as ear:
                await ear.ask("start-generation", STORY | {"generationId": "done"})
                server.audio_url = (await ear.until("audio-generation-complete"))["audioUrl"]
                await ear.until("job:status", "audio-generation-complete")

        asyncio.run(main())
        until(lambda: server.lab.journal.state("done").job.status == "completed")
        server.folder = server.lab.journal.state("done").song_path.parent
        yield server


def call(server, method, path, *, user="ann", roles=(), token=None, **options):
    """(status, headers, body)."""

    async def main():
        headers = dict(options.pop("headers", {}))
        if user is not None:
            headers["Authorization"] = f"Bearer {token or server.token(user, roles=roles)}"
        url = path if path.startswith("http") else server.url + path
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=headers, **options) as answer,
        ):
            return answer.status, answer.headers, await answer.read()

    return asyncio.run(main())


def test_a_song_is_started_listed_shown_and_downloaded(served):
    status, headers, body = call(served, "POST", "/api/generations", json=STORY | {"generationId": "posted"})
    assert (status, headers["Location"]) == (202, "/api/generations/posted")
    assert json.loads(body) == {"ok": True, "generationId": "posted", "jobId": "posted"}
    until(lambda: served.lab.journal.state("posted").job.status == "completed")
    jobs = json.loads(call(served, "GET", "/api/generations")[2])["jobs"]
    assert {job["id"] for job in jobs} == {"done", "posted"}
    shown = json.loads(call(served, "GET", "/api/generations/done")[2])["snapshot"]
    assert (shown["status"], shown["seq"]) == ("completed", 4)
    assert shown["job"]["result"]["outputPath"].startswith(served.url)


@pytest.mark.parametrize(
    ("route", "file", "kind"),
    [
        ("audio", "song.flac", "audio/flac"),
        ("midi", "song.mid", "audio/midi"),
        ("overview", "overview.png", "image/png"),
        ("stems/1-piano.flac", "stems/1-piano.flac", "audio/flac"),
    ],
)
def test_files_come_whole_with_their_digest_as_etag(served, route, file, kind):
    status, headers, body = call(served, "GET", f"/api/generations/done/{route}")
    assert status == 200
    assert body == (served.folder / file).read_bytes()
    assert headers["Content-Type"] == kind
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert headers["Accept-Ranges"] == "bytes"
    if kind == "audio/midi":
        assert mido.MidiFile(served.folder / file).length > 0
    again = call(served, "GET", f"/api/generations/done/{route}", headers={"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, b"")
    head = call(served, "HEAD", f"/api/generations/done/{route}")
    assert (head[0], head[1]["Content-Length"], head[2]) == (200, str(len(body)), b"")


def test_whatever_a_folder_is_called_its_files_can_be_fetched(served, tmp_path):
    out = tmp_path / 'my "songs"\n\u00e9t\u00e9'
    served.lab.submit(metadata=METADATA, seconds=1, generation_id="odd", out=out).result(60)
    status, headers, _ = call(served, "GET", "/api/generations/odd/audio", user="local")
    assert (status, headers["Content-Disposition"]) == (200, 'inline; filename="my-songs-t--song.flac"')


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=100-", 206, 100, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=5-99999999", 206, 5, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=9-1", 200, 0, None),
    ],
)
def test_parts_come_by_range(served, asked, status, start, stop):
    whole = (served.folder / "song.flac").read_bytes()
    got, headers, body = call(served, "GET", "/api/generations/done/audio", headers={"Range": asked})
    assert got == status
    assert body == whole[start:stop]
    if status == 206:
        first = start % len(whole)
        assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(whole)}"


def test_a_range_beyond_the_end_is_refused_and_one_of_another_file_ignored(served):
    got = call(served, "GET", "/api/generations/done/audio", headers={"Range": "bytes=99999999-"})
    size = (served.folder / "song.flac").stat().st_size
    assert (got[0], got[1]["Content-Range"]) == (416, f"bytes */{size}")
    assert (
        call(served, "GET", "/api/generations/done/audio", headers={"Range": "bytes=-0"})[0] == 416
    )  # RFC 9110, 14.1.1
    got = call(served, "GET", "/api/generations/done/audio", headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert (got[0], len(got[2])) == (200, size)


def test_the_link_in_the_event_works_by_itself_for_its_path_and_its_time(served):
    assert call(served, "GET", served.audio_url, user=None)[0] == 200
    parts = urlsplit(served.audio_url)
    query = dict(parse_qsl(parts.query))
    for changed in (
        {"user": "bob"},
        {"expires": "99999999999"},
        {"signature": "0" * 64},
        {"expires": ""},
        {"user": ""},
    ):
        url = parts._replace(query=urlencode(query | changed)).geturl()
        status, _, body = call(served, "GET", url, user=None)
        assert status == 401, changed
        assert "The link has expired" in json.loads(body)["error"]["message"]
    elsewhere = parts._replace(path="/api/generations/done/midi").geturl()
    assert call(served, "GET", elsewhere, user=None)[0] == 401
    assert call(served, "GET", "/api/generations?" + parts.query, user=None)[0] == 401


def test_stems_are_listed_with_links_that_work(served):
    stems = json.loads(call(served, "GET", "/api/generations/done/stems")[2])["stems"]
    assert [stem["name"] for stem in stems] == ["1-piano.flac", "2-double-bass.flac"]
    for stem in stems:
        assert call(served, "GET", stem["url"], user=None)[0] == 200


ROUTES = ["", "/audio", "/midi", "/overview", "/stems", "/stems/1-piano.flac"]


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_somebody_elses_is_not_there_and_without_a_token_nothing_is(served, route):
    assert call(served, "GET", f"/api/generations/done{route}", user="bob")[0] == 404
    assert call(served, "GET", f"/api/generations/none{route}", user="ann")[0] == 404
    status, headers, body = call(served, "GET", f"/api/generations/done{route}", user=None)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert json.loads(body)["error"]["code"] == "UNAUTHORIZED"
    assert call(served, "GET", f"/api/generations/done{route}", user="root", roles=("admin",))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/generations/done/stems/..%2Frun.json",
        "/api/generations/done/stems/..%2f..%2f..%2fhome%2ftoken.key",
        "/api/generations/done/stems/%2e%2e/run.json",
        "/api/generations/done/stems/run.json",
        "/api/generations/..%2F..%2Fetc/audio",
        "/api/generations/done/audio/../../../etc/passwd",
        "/api/generations/done/stems//etc/passwd",
        "/../home/token.key",
        "/api/generations/done/run.json",
        "/api/generations/done/transcript.jsonl",
    ],
)
def test_no_path_leads_out_of_what_is_served(served, path):
    """The request is sent as raw bytes, because a client library would normalise the path."""
    host, _, port = served.url.removeprefix("http://").rpartition(":")

    async def main():
        reader, writer = await asyncio.open_connection(host, int(port))
        token = served.token("ann")
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    answer = asyncio.run(main())
    assert answer.split()[1] in (b"404", b"400"), answer
    assert b"checksum" not in answer
    assert METADATA.title.encode() not in answer


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"junk", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b"[" * 100_000, 400),
        (b"x" * 2_000_000, 413),
        (b'{"narrative": ""}', 400),
    ],
)
def test_a_bad_body_is_answered_as_the_protocol_says(served, body, status):
    got, _, answer = call(served, "POST", "/api/generations", data=io.BytesIO(body))
    assert got == status
    error = json.loads(answer)
    assert (error["ok"], error["error"]["code"]) == (False, "INVALID_PAYLOAD")


def test_a_packed_body_is_not_unpacked_for_a_stranger_or_anybody(served):
    """One megabyte may become a thousand, in the loop that all clients share."""
    packed = gzip.compress(json.dumps(STORY | {"generationId": "packed"}).encode())
    status, _, body = call(served, "POST", "/api/generations", data=packed, headers={"Content-Encoding": "gzip"})
    assert (status, json.loads(body)["error"]["message"]) == (400, "The body is not JSON.")


def test_a_song_is_cancelled_by_delete(tmp_path):
    gate = threading.Event()
    with serving(tmp_path, metadata=Writer(gate=gate), queue=QueueLimits(per_user=1)) as server:
        assert call(server, "POST", "/api/generations", json=STORY | {"generationId": "g"})[0] == 202
        assert call(server, "DELETE", "/api/generations/g", user="bob")[0] == 404
        assert call(server, "DELETE", "/api/generations/g")[0] == 200
        job = server.lab.journal.state("g").job
        assert job.status in ("pending", "processing", "cancelled")
        gate.set()
        until(lambda: server.lab.journal.state("g").job.status == "cancelled")
        assert call(server, "DELETE", "/api/generations/g")[0] == 200
        assert call(server, "GET", "/api/generations/g/audio")[0] == 404


def test_too_many_calls_are_slowed_down(tmp_path):
    with serving(tmp_path, rates=RateLimits(messages=(0.001, 3))) as server:
        token = server.token("ann")
        assert [call(server, "GET", "/api/generations", token=token)[0] for _ in range(5)] == [200] * 3 + [429] * 2
        assert call(server, "GET", "/api/generations", user="bob")[0] == 200


def test_a_client_that_goes_away_before_its_answer_is_no_defect(tmp_path, monkeypatch, caplog):
    async def gone(self, request):
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(HttpApi, "_health", gone)
    with serving(tmp_path) as server:
        call(server, "GET", "/healthz")
        assert server.metrics().errors == 0
    assert "defect" not in caplog.text


def test_health_metrics_and_the_protocol_are_there(served):
    _, headers, body = call(served, "GET", "/healthz", user=None)
    assert json.loads(body) == {"status": "ok"}
    assert "Server" not in headers
    assert json.loads(call(served, "GET", "/readyz", user=None)[2])["status"] == "ready"
    assert json.loads(call(served, "GET", "/asyncapi.json", user=None)[2])["asyncapi"].startswith("3.")
    status, headers, body = call(served, "GET", "/metrics", user=None)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'harmonia_generations_total{status="completed"}' in body
    assert b"done" not in body
    assert b"ann" not in body.replace(b"channel", b"")


def test_a_stranger_learns_no_figures_beyond_loopback(tmp_path, served):
    for header in ("X-Forwarded-For", "x-real-ip", "Forwarded"):
        assert call(served, "GET", "/metrics", user=None, headers={header: "203.0.113.7"})[0] == 401
    for host in (
        "evil.example",
        "evil.example:3333",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x@127.0.0.1",
    ):
        assert call(served, "GET", "/metrics", user=None, headers={"Host": host})[0] == 401, host
    for host in ("localhost", "LOCALHOST:3333", "[::1]:3333", "127.0.0.1"):
        assert call(served, "GET", "/metrics", user=None, headers={"Host": host})[0] == 200, host
    with serving(tmp_path / "proxied", public_url="https://songs.example") as server:
        assert call(server, "GET", server.local_url + "/metrics", user=None)[0] == 401
    with serving(tmp_path, host="0.0.0.0", insecure=True) as server:
        local = server.url.replace("0.0.0.0", "127.0.0.1")
        assert call(server, "GET", local + "/metrics", user=None)[0] == 401
        assert call(server, "GET", local + "/metrics")[0] == 403
        assert call(server, "GET", local + "/metrics", user="root", roles=("admin",))[0] == 200
        assert json.loads(call(server, "GET", local + "/healthz", user=None)[2]) == {"status": "ok"}


ORIGIN = "http://localhost:4200"


def test_pages_of_this_machine_may_ask_and_others_may_not(served):
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    status, headers, _ = call(served, "OPTIONS", "/api/generations", user=None, headers=ask)
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    _, headers, _ = call(served, "GET", "/api/generations/done/audio", headers={"Origin": ORIGIN, "Range": "bytes=0-1"})
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {"ETag", "Content-Range"} <= set(headers["Access-Control-Expose-Headers"].split(", "))
    for origin in (
        "https://evil.example", "http://localhost.evil.example", "null", "file://", "http://[::1", "http://x@localhost",
        "http://localhost/page", "capacitor://localhost",
    ):  # fmt: skip
        _, headers, _ = call(served, "GET", "/api/generations", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Vary"] == "Origin"
        polling = "/socket.io/?EIO=4&transport=polling"
        assert call(served, "GET", polling, user=None, headers={"Origin": origin})[0] == 400
    assert call(served, "GET", polling, user=None, headers={"Origin": ORIGIN})[0] == 200


def test_the_front_ends_address_replaces_this_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTEND_URL", "HTTPS://Songs.Example:443/, http://müller.example:8080")
    with serving(tmp_path) as server:
        for origin, allowed in (
            ("https://songs.example", True),
            ("http://xn--mller-kva.example:8080", True),
            ("http://xn--mller-kva.example", False),
            ("http://songs.example", False),
            (ORIGIN, False),
        ):
            _, headers, _ = call(server, "GET", "/api/generations", headers={"Origin": origin})
            assert ("Access-Control-Allow-Origin" in headers) is allowed


def test_big_answers_are_compressed_for_who_can_read_them(served):
    _, headers, _ = call(served, "GET", "/asyncapi.json", user=None, headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    _, headers, _ = call(served, "GET", "/asyncapi.json", user=None, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers


def test_a_song_whose_sound_follows_no_notes_has_no_midi_file_to_send(served, tmp_path):
    engine = FakeAudioEngine(follows=("prompt",))
    served.lab.submit(metadata=METADATA, seconds=1, generation_id="words", audio=engine).result(60)
    status, _, body = call(served, "GET", "/api/generations/words/midi", user="local")
    assert (status, json.loads(body)["error"]["code"]) == (404, "NOT_FOUND")
    assert "follows no notes" in json.loads(body)["error"]["message"]
