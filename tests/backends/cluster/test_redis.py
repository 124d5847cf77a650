"""A cluster's songs in a journal that servers share: `Lab(cluster="local", redis=URL)`, with a real redis-server."""

import asyncio
from pathlib import Path

import pytest

from harmonia_lab.testing import SONG_METADATA
from tests.backends.cluster.conftest import SONG
from tests.backends.conftest import LIFECYCLE
from tests.redis_server import needs_redis, running_redis
from tests.server.conftest import Ear
from tests.server.engines import make_lab
from tests.waiting import until_so

pytestmark = [pytest.mark.stress, needs_redis]

REQUEST = {"metadata": SONG_METADATA.model_dump(mode="json", by_alias=True), "seconds": 1}


@pytest.fixture
def url(tmp_path):
    with running_redis(tmp_path, password="hush") as server:
        yield server.url


def test_songs_and_a_cancel_through_a_second_server(new_lab, noted, tmp_path, url):
    key = tmp_path / "token.key"
    lab = new_lab("made", cluster="local:2", redis=url)
    slow = new_lab("slow", cluster=lab.cluster.client, redis=url, audio_settings={"step_s": 60.0})
    with make_lab(tmp_path / "other", redis=url) as other:
        servers = [each.serve(port=0, key=key, link=False) for each in (lab, slow, other)]
        ids = asyncio.run(_follow(*servers, noted))
        assert [other.journal.state(each).status for each in ids] == ["completed"] * 3 + ["cancelled"]
    rows = [row for each, made in zip(ids, [lab] * 3 + [slow], strict=True) for row in made.log.of_generation(each)]
    assert [row["status"] for row in rows] == ["completed"] * 3 + ["cancelled"]
    assert all(row["worker"] is not None for row in rows)
    songs = sorted(lab.songs.glob("*/song.flac"))
    assert len(songs) == 3
    assert all(lab.verify(path.parent).ok for path in songs)


async def _follow(made, slow, other, noted):
    ids = []
    async with Ear(made) as ann, Ear(slow) as waits, Ear(other) as far:
        for seed in range(3):
            started = await ann.ask("start-generation", REQUEST | {"seed": seed})
            ids.append(started["generationId"])
            assert (await far.ask("join-generation", {"generationId": ids[-1]}))["ok"]
        for ear in (ann, far):
            await ear.until("audio-generation-complete", count=3)
            assert sorted(ear.lifecycle()) == sorted([each for each in LIFECYCLE if each[0][:4] != "job:"] * 3)
        begun = len(noted("begun"))
        ids.append(generation_id := (await waits.ask("start-generation", REQUEST))["generationId"])
        await until_so(lambda: len(noted("begun")) > begun)
        assert (await far.ask("join-generation", {"generationId": generation_id}))["ok"]
        assert (await far.ask("cancel-generation", {"generationId": generation_id}))["ok"]
        for ear in (waits, far):
            assert (await ear.until("generation-cancelled"))["generationId"] == generation_id
    return ids


def test_a_workers_death_is_counted_in_the_shared_journal(new_lab, noted, tmp_path, url):
    (tmp_path / "die").touch()
    lab = new_lab(cluster="local:2", redis=url, audio_settings={"die": f"@{tmp_path / 'die'}"})
    with make_lab(tmp_path / "other", redis=url) as other:
        lab.events.subscribe(lambda event: event.name == "generation-error" and (tmp_path / "die").unlink())
        song = lab.submit(**SONG).result(300)
        parts = [line[2] for line in noted("rendered")]
        assert len(parts) == len(set(parts)) == len(song.stems)
        assert other.journal.submissions.deaths(song.generation_id) == 1
    assert Path(song.directory).is_dir()
