"""A lab elsewhere over a bad line, and after a restart: nothing is lost or doubled, and songs come home as they are.

HARMONIA_CUTS: how many cuts (default 4; `make stress`: 50).
"""

import asyncio
import contextlib
import io
import os
import random
import tarfile
import threading
import time
from pathlib import Path

import httpx
import pytest

from harmonia_lab.backends.remote_address import remote_address
from harmonia_lab.backends.remote_server import RemoteServer
from harmonia_lab.backends.remote_songs import unpack
from harmonia_lab.client import Backoff
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from tests.backends.test_remote import FAST, STORY, _without_pictures, contents, elsewhere, lifecycle  # noqa: F401
from tests.client.conftest import patient  # noqa: F401 - for all of them
from tests.client.proxy import Proxy
from tests.generation.crashes import die
from tests.server.conftest import GENERATION, JOB, serving
from tests.server.elsewhere import Elsewhere
from tests.server.engines import Player, Writer
from tests.waiting import PATIENCE_S, until

SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python 3.11.4 and later extract with a filter, and ask for one from 3.14 on."""

SEED = 11


class ProxyThread:
    """A proxy in a thread of its own. limit: bytes after which it cuts each connection's answers."""

    def __init__(self, server, limit=None):
        self._loop, self._limit, self._ready = asyncio.new_event_loop(), limit, threading.Event()
        self._server, self._stop = server, asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=lambda: self._loop).run(self._run()))

    def __enter__(self):
        self._thread.start()
        self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def token(self, user):
        return self._server.token(user)

    @property
    def made(self):
        return self.proxy.made

    def cut(self):
        self._loop.call_soon_threadsafe(self.proxy.cut)

    async def _run(self):
        async with (Proxy if self._limit is None else self._stingy)(self._server) as self.proxy:
            self.url = self.proxy.url
            self._ready.set()
            await self._stop.wait()

    def _stingy(self, server):
        proxy = Proxy(server)

        async def pass_a_part(reader, writer):
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                far_writer.write(await reader.read(65536))
                writer.write(await far_reader.read(self._limit))
                await writer.drain()
                far_writer.close()
                writer.close()
                await writer.wait_closed()

        proxy._pass = pass_a_part
        return proxy


def songs_over_cuts(folder, cuts, monkeypatch):
    """Have songs made over a line that is cut at random moments, until it was cut `cuts` times."""
    monkeypatch.setattr("harmonia_lab.backends.remote_server.BACKOFF", Backoff(0.005, 0.03))
    moments, heard = random.Random(SEED), []
    engines = {"metadata": Writer(steps=20, step_s=0.01), "audio": Player(step_s=0.05)}
    with (
        serving(folder / "there", **engines, **FAST) as server,
        ProxyThread(server) as proxy,
        elsewhere(proxy, folder / "here") as lab,
    ):
        lab.events.subscribe(heard.append)
        jobs, made = [], 0
        while made < cuts:
            job = lab.submit(STORY, seconds=1, seed=len(jobs))
            jobs.append(job)
            while made < cuts and not job.done:
                time.sleep(moments.random() * 0.2)
                before = proxy.made
                proxy.cut()
                made += 1
                until(lambda before=before, job=job: proxy.made > before or job.done)
            song = job.result(PATIENCE_S)
            assert contents(song.directory) == contents(server.lab.journal.state(job.id).song_path.parent)
        assert proxy.made > cuts / 2  # most of the cuts have hit a connection
    for job in jobs:
        own = [event for event in heard if event.generation_id == job.id]
        assert (lifecycle(own, "generation"), lifecycle(own, "job")) == (GENERATION, JOB)
    assert not list((folder / "here" / "home" / "archives").glob("*"))


def test_over_cuts_the_same_bytes_come_home_and_no_event_is_lost_or_doubled(tmp_path, monkeypatch):
    songs_over_cuts(tmp_path, int(os.environ.get("HARMONIA_CUTS", "4")), monkeypatch)


@pytest.mark.stress
def test_over_fifty_cuts_too(tmp_path, monkeypatch):
    songs_over_cuts(tmp_path, 50, monkeypatch)


@pytest.mark.parametrize("ends", ["meanwhile", "afterwards"])
def test_a_lab_that_starts_again_follows_its_song_or_fetches_what_has_ended(tmp_path, ends):
    gate = threading.Event()
    with serving(tmp_path / "there", metadata=Writer(gate=gate), **FAST) as server:
        first = elsewhere(server, tmp_path / "here")
        job = first.submit(STORY, seconds=1, out=tmp_path / "own")
        until(lambda: len(job.events) > 0)
        first._elsewhere.server.close()  # as a kill would: the server hears of no cancel
        die(first)
        if ends == "meanwhile":
            gate.set()
            until(lambda: server.lab.journal.state(job.id).over)
        heard = []
        with elsewhere(server, tmp_path / "here") as again:
            again.events.subscribe(heard.append)
            gate.set()
            until(lambda: again.journal.state(job.id).over)
            assert again.journal.state(job.id).song_path.parent == tmp_path / "own"
            assert again.verify(tmp_path / "own").ok
            known = again.journal.history(job.id)
            assert (lifecycle(known, "generation"), lifecycle(known, "job")) == (GENERATION, JOB)
            assert len(again.log.of_generation(job.id)) == 1


def test_a_server_that_is_killed_in_mid_song_and_starts_again_ends_it_and_tries_it_again(tmp_path, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.remote_server.BACKOFF", Backoff(0.005, 0.03))
    folder, heard = tmp_path / "there", []
    server = Elsewhere(folder, step_s=0.1)
    port = int(server.url.rpartition(":")[2])
    server.token = lambda user: new_tokens(ServerSettings(), folder / "home").issue(user).token
    try:
        with elsewhere(server, tmp_path / "here") as lab:
            lab.events.subscribe(heard.append)
            job = lab.submit(STORY, seconds=1)
            until(lambda: any(event.delivery == "progress" for event in heard))
            server.kill()
            server = Elsewhere(folder, port=port)
            with pytest.raises(HarmoniaError) as ended:
                job.result(PATIENCE_S)
            assert ended.value.code == ErrorCode.INTERRUPTED
            assert lab.verify(lab.retry(job.id).result(PATIENCE_S).directory).ok
            again = lab.submit(STORY, seconds=1)  # on the same connection
            assert lab.verify(again.result(PATIENCE_S).directory).ok
            kept = [event for event in heard if event.generation_id == job.id]
            names = [name for name, _ in lifecycle(kept, "generation")]
            assert names == ["metadata-generation-started", "generation-error", *(name for name, _ in GENERATION)]
            for family in ("generation", "job"):
                numbers = [seq for _, seq in lifecycle(kept, family)]
                assert numbers == list(range(1, len(numbers) + 1))
            ends = [(row["status"], row["error_code"]) for row in lab.log.of_generation(job.id)]
            assert ends == [("failed", "INTERRUPTED"), ("completed", None)]
    finally:
        server.kill()


def test_a_song_that_the_server_has_no_longer_ends_as_interrupted(tmp_path):
    with serving(tmp_path / "there", metadata=Writer(gate=threading.Event()), **FAST) as server:
        first = elsewhere(server, tmp_path / "here")
        job = first.submit(STORY, seconds=1)
        until(lambda: len(job.events) > 0)
        first._elsewhere.server.close()
        die(first)
        server.lab.journal.forget(job.id)
        with elsewhere(server, tmp_path / "here") as again:
            assert again.journal.state(job.id).failure.error.code == ErrorCode.INTERRUPTED


def test_a_token_that_ends_is_told_with_the_remedy_and_a_new_one_finds_the_song(tmp_path):
    gate = threading.Event()
    with serving(tmp_path / "there", metadata=Writer(gate=gate), **FAST) as server:
        tokens = [server.token("ann")]
        with elsewhere(server, tmp_path / "here", token=lambda: tokens[-1]) as lab:
            job = lab.submit(STORY, seconds=1)
            time.sleep(1.1)  # tokens of the same second would be revoked too
            server.revoke("ann")
            with pytest.raises(Refused, match="harmonia token NAME") as error:
                job.result(PATIENCE_S)
            assert tokens[0] not in str(error.value)
            assert lab.journal.state(job.id).status in ("pending", "processing")
            time.sleep(1.1)
            tokens.append(server.token("ann"))
            gate.set()
            assert lab.verify(lab.retry(job.id).result(PATIENCE_S).directory).ok


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with a song, `server.song`, and its archive, `server.archive`."""
    with serving(tmp_path_factory.mktemp("served"), **FAST) as server:
        server.song = server.lab.submit_request(_request(), user="ann").result(PATIENCE_S)
        server.at = f"/api/generations/{server.song.generation_id}/archive"
        server.headers = {"Authorization": f"Bearer {server.token('ann')}"}
        server.archive = httpx.get(server.url + server.at, headers=server.headers)
        yield server


def _request():
    return SongRequest(narrative=STORY, seconds=1, generation_id="song")


def test_an_archive_holds_the_whole_song_the_same_each_time_and_by_ranges(served, tmp_path):
    whole = served.archive.content
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert tar.getnames()[0] == "run.json"
        tar.extractall(tmp_path, **SAFELY)
    assert contents(tmp_path) == contents(served.song.directory)
    etag, found = served.archive.headers["ETag"], b""
    assert served.archive.headers["Content-Type"] == "application/x-tar"
    while len(found) < len(whole):
        asked = {"Range": f"bytes={len(found)}-{len(found) + 70_000}", "If-Range": etag}
        part = httpx.get(served.url + served.at, headers=served.headers | asked)
        assert part.status_code == 206
        found += part.content
    assert found == whole
    other = httpx.get(served.url + served.at, headers=served.headers | {"Range": "bytes=9-", "If-Range": '"old"'})
    assert (other.status_code, other.content) == (200, whole)
    assert "2000" not in served.archive.headers.get("Last-Modified", "")


def test_a_download_goes_on_after_each_cut(served, tmp_path, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.remote_server.BACKOFF", Backoff(0.005, 0.01))
    whole = served.archive.content
    with ProxyThread(served, limit=len(whole) // 5) as proxy:
        server = remote_server(proxy)
        server.download(served.at, tmp_path / "song.tar")
        assert (tmp_path / "song.tar").read_bytes() == whole
        assert proxy.made >= 5
        server.close()
        server = remote_server(served)
        (tmp_path / "song.tar").write_bytes(whole[: len(whole) // 2])  # another process's part, with its stamp
        server.download(served.at, tmp_path / "song.tar")
        assert (tmp_path / "song.tar").read_bytes() == whole
        (tmp_path / "song.etag").write_text('"of another song"')
        (tmp_path / "song.tar").write_bytes(b"x" * 1000)
        server.download(served.at, tmp_path / "song.tar")
        assert (tmp_path / "song.tar").read_bytes() == whole
        with pytest.raises(Refused) as refused:
            server.download("/api/generations/none/archive", tmp_path / "none.tar")
        assert refused.value.code == ErrorCode.NOT_FOUND
        server.close()


def remote_server(at):
    plain = {"metadata": "auto", "audio": "auto", "metadata_settings": {}, "audio_settings": {}, "audio_model": None}
    address = remote_address(at.url, at.token("ann"), None, plain)
    return RemoteServer(address, on_event=lambda _: None, on_lost=lambda _: None)


def _member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


EVIL = {
    "a name outside": [_member("../outside", b"x")],
    "an absolute name": [_member("/tmp/outside", b"x")],
    "a link": [_member("song.flac", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
    "a hard link": [_member("song.flac", type=tarfile.LNKTYPE, linkname="../outside")],
    "a file that no record names": [_member("extra.txt", b"x")],
    "another size": [_member("song.flac", b"x")],
    "files missing": [],
}


@pytest.mark.parametrize("members", EVIL.values(), ids=EVIL)
def test_an_archive_that_is_not_as_its_record_says_leaves_nothing(served, tmp_path, members):
    record = (Path(served.song.directory) / "run.json").read_bytes()
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for info, data in [_member("run.json", record), *members]:
            tar.addfile(info, io.BytesIO(data))
    _refuse(tmp_path, "song")


def test_another_songs_archive_and_no_archive_are_refused(served, tmp_path):
    (tmp_path / "evil.tar").write_bytes(served.archive.content)
    _refuse(tmp_path, "another")
    for content in (b"", b"no tar at all" * 100, served.archive.content[:-5000], served.archive.content[1024:]):
        (tmp_path / "evil.tar").write_bytes(content)
        _refuse(tmp_path, "song")


def _refuse(folder, generation_id):
    before = set(folder.rglob("*"))
    with pytest.raises(HarmoniaError) as error:
        unpack(folder / "evil.tar", generation_id, SongFolder(folder / "songs", generation_id), "Title")
    assert error.value.code == ErrorCode.RECORD_DAMAGED
    assert set(folder.rglob("*")) - before <= {folder / "songs"}
