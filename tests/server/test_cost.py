"""What a client may cost the others: counts that are kept, lists in pages, sizes, and rooms that end by themselves."""

import asyncio
import json
import threading
from datetime import timedelta
from functools import partial

import pytest

from harmonia_lab.errors import AudioError, ErrorCode, InvalidRequest, StorageError
from harmonia_lab.events.state import new_state
from harmonia_lab.protocol import metadata as words_of_metadata
from harmonia_lab.protocol.codec import MAX_VALUES, check_text, decode
from harmonia_lab.protocol.event_codec import decode_event, encode
from harmonia_lab.protocol.events import ErrorInfo, MetadataGenerationComplete
from harmonia_lab.protocol.models import Job, JobResult, SongRequest, utc_now
from harmonia_lab.server import job_lists
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.room_expiry import RoomExpiry
from harmonia_lab.server.rooms import Rooms
from harmonia_lab.server.settings import RateLimits
from harmonia_lab.server.user_slots import COMMANDS_AT_ONCE, UserSlots
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.journal_rows import place_of
from tests.protocol.test_events import EXAMPLES
from tests.server.conftest import Ear, serving
from tests.server.engines import METADATA, Player
from tests.server.test_http import call
from tests.waiting import until_so

STORY = {"narrative": "A small boat goes home.", "seconds": 1}


@pytest.fixture
def counting(monkeypatch):
    """The lines whose words were counted."""
    counted, count = [], words_of_metadata.sung_words

    def sung_words(line, language=None):
        counted.append(line)
        return count(line, language)

    monkeypatch.setattr(words_of_metadata, "sung_words", sung_words)
    return counted


def test_the_words_of_a_song_are_counted_once(counting):
    song = METADATA.model_copy(update={"lyrics": "[Verse 1]\nCounted once and never again"})
    assert (song.word_count, song.to_wire()["wordCount"], song.model_copy().syllable_count) == (5, 5, 8)
    assert len(counting) == 1
    changed = song.model_copy(update={"lyrics": "[Verse 1]\nOther words"})
    assert (changed.word_count, len(counting)) == (2, 2)


def test_counts_that_we_wrote_are_taken_over_and_a_clients_are_not(counting):
    song = METADATA.model_copy(update={"lyrics": "[Verse 1]\nWritten by another process, long ago"}).to_wire()
    event = {"generationId": "a", "metadata": song | {"wordCount": 77, "syllableCount": 99}, "duration": 1.0, "seq": 2}
    counting.clear()
    read = decode_event("metadata-generation-complete", event)
    assert isinstance(read, MetadataGenerationComplete)
    payload = json.loads(read.to_json())["metadata"]
    assert (payload["wordCount"], payload["syllableCount"], counting) == (77, 99, [])
    lie = {"wordCount": 10**9, "lyrics": "[Verse 1]\nA client says that these are many words"}
    sent = decode("start-generation", {"metadata": song | lie})
    assert sent.metadata.word_count == 8


@pytest.mark.parametrize(
    "payload",
    [
        {"metadata": {"mood": [1] * (MAX_VALUES + 1)}},
        {"metadata": {"mood": ["x" * 5000]}},
        {"narrative": "a", "instruments": ["x" * 400_000]},
        {"narrative": "a", "key": "H" * 400_000},
        {"narrative": "a", "language": "de" * 200_000},
        {"narrative": [[[]]] * MAX_VALUES},
    ],
)
def test_a_payload_of_junk_is_refused_in_one_short_line(payload):
    with pytest.raises(InvalidRequest) as refused:
        decode("start-generation", payload)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("item", ["1", '{"a":{}}', "[[]]", '"x"', '"\\\\"', '"\\""'])
def test_junk_is_refused_before_it_is_parsed_and_commas_in_a_story_are_none(item):
    with pytest.raises(InvalidRequest, match="more than"):
        check_text('["start-generation",{"mood":[' + ",".join([item] * 60_000) + "]}]")
    check_text(json.dumps({"narrative": 'He said: "no, [not, {this", ' * 5000, "mood": [1, 2]}))


def test_the_longest_song_that_is_allowed_fits_into_a_message():
    lyrics = "\N{MUSICAL SYMBOL G CLEF}" * words_of_metadata.MAX_NARRATIVE
    song = {"narrative": lyrics, "metadata": METADATA.to_wire() | {"lyrics": lyrics}}
    assert decode("start-generation", song).narrative == lyrics
    assert len(json.dumps(["start-generation", song])) < 512 * 1024  # every character escaped, as Python does it


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite3")
    yield journal
    journal.close()


def keep(journal, count, owner="ann", lyrics="la"):
    """Journal finished jobs, three of each moment."""
    metadata = METADATA.model_copy(update={"lyrics": lyrics})
    started = utc_now()
    for number in range(count):
        at = started + timedelta(seconds=number // 3)
        job = Job(id=f"job-{number}", user_id=owner, created_at=at, updated_at=at)
        journal.begin(job, SongRequest(narrative="n", generation_id=job.id))
        with journal._file.writing() as database:
            done = job.ended("completed", at, JobResult(output_path="x", metadata=metadata))
            del journal._live[job.id]
            journal._save(database, new_state(done, SongRequest(narrative="n", generation_id=job.id)))


ANN = Identity("ann", (), 0.0)


class NoUrls:
    def audio(self, base_url, generation_id, reader):
        assert reader == ANN
        return f"{base_url}/{generation_id}"


def test_a_long_list_comes_in_pages_each_job_once(journal):
    keep(journal, 25)
    keep_of_bob = Job(id="bobs", user_id="bob", created_at=utc_now(), updated_at=utc_now())
    journal.begin(keep_of_bob, SongRequest(narrative="n", generation_id="bobs"))
    found, cursor = [], None
    while True:
        jobs, cursor = job_lists.read_page(partial(journal.jobs, "ann"), NoUrls(), "http://x", ANN, 7, cursor)
        found += [job.id for job in jobs]
        if cursor is None:
            break
        assert len(jobs) == 7
    assert found == [job.id for job in journal.jobs("ann", 100)]
    assert sorted(found) == sorted(f"job-{number}" for number in range(25))
    assert {
        job.id for job in job_lists.read_page(partial(journal.jobs, None), NoUrls(), "", ANN, words=False).jobs
    } == {*found, "bobs"}


def test_a_list_of_long_songs_names_each_and_stays_short(journal, monkeypatch):
    monkeypatch.setattr(job_lists, "LIST_BYTES", 20_000)
    keep(journal, 6, lyrics="la " * 2000)
    jobs = job_lists.read_page(partial(journal.jobs, "ann"), NoUrls(), "http://x", ANN).jobs
    assert [job.result.metadata is not None for job in jobs] == [True, True, True, False, False, False]
    assert [job.result.output_path for job in jobs] == [f"http://x/job-{number}" for number in (5, 4, 3, 2, 1, 0)]


@pytest.mark.parametrize("cursor", ["", "x", "~", "'; DROP TABLE generations", "a~" * 200])
def test_a_cursor_that_is_none_is_refused_or_finds_nothing(journal, cursor):
    keep(journal, 1)
    if cursor == "~":
        assert journal.jobs("ann", 10, cursor) == []
        return
    with pytest.raises(InvalidRequest, match="cursor"):
        journal.jobs("ann", 10, cursor)


def test_pages_come_over_http_and_the_socket_says_where_they_go_on(tmp_path):
    async def main(server):
        async with Ear(server) as ear:
            ack = await ear.ask("jobs:subscribe:user")
            assert (len(ack["jobs"]), "nextCursor" in ack) == (100, True)
            return ack

    with serving(tmp_path) as server:
        keep(server.lab.journal, 103)
        ack = asyncio.run(main(server))
        rest = json.loads(call(server, "GET", "/api/generations?cursor=" + ack["nextCursor"])[2])
        assert ([job["id"] for job in rest["jobs"]], "nextCursor" in rest) == (["job-2", "job-1", "job-0"], False)
        first = json.loads(call(server, "GET", "/api/generations?limit=2")[2])
        assert [job["id"] for job in first["jobs"]] == [job["id"] for job in ack["jobs"][:2]]
        assert first["nextCursor"] == place_of(server.lab.journal.jobs("ann", 2)[1])
        for limit in ("0", "101", "x", "", "-1", "9" * 5000):
            assert call(server, "GET", f"/api/generations?limit={limit}")[0] == 400, limit[:9]


def test_an_ended_song_is_read_once_until_another_process_adds_to_it(tmp_path, lab):
    lab.submit(metadata=METADATA, seconds=1, generation_id="done").result(60)
    other = Journal(lab.journal.path)
    try:
        assert not other.is_at_hand("done")
        state = other.state("done")
        assert other.is_at_hand("done")
        assert other.state("done") is state
        assert state == lab.journal.state("done")
        event = EXAMPLES["generation-error"].model_copy(update={"generation_id": "done", "seq": 99})
        with other._file.writing() as database:
            database.execute("UPDATE generations SET seq = seq + 1 WHERE id = 'done'")
        assert encode(event)
        assert not lab.journal.is_at_hand("done")
        assert not other.is_at_hand("no such song")
    finally:
        other.close()


def test_what_a_client_is_told_of_a_broken_journal_names_no_folder(tmp_path, lab):
    lab.submit(metadata=METADATA, seconds=1, generation_id="done").result(60)
    with lab.journal._file.writing() as database:
        database.execute("UPDATE generations SET request = 'junk', seq = seq + 1")
    with pytest.raises(StorageError) as damage:
        lab.journal.state("done")
    assert str(tmp_path) in str(damage.value)
    told = ErrorInfo.of(damage.value)
    assert "journal.sqlite3" in told.message
    assert str(tmp_path) not in told.to_json()


def test_no_user_has_more_than_some_commands_or_one_reading_at_once():
    async def main():
        slots, running, most = UserSlots(), 0, 0
        reading, together = threading.Semaphore(1), []

        async def command():
            nonlocal running, most
            async with slots.command("ann"):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        def read():
            together.append(reading.acquire(blocking=False))
            reading.release()

        await asyncio.gather(*(command() for _ in range(20)))
        await asyncio.gather(*(slots.read("ann", read) for _ in range(20)))
        slots.close()
        assert most == COMMANDS_AT_ONCE
        assert together == [True] * 20

    asyncio.run(main())


def test_the_server_leaves_a_room_some_time_after_the_end(tmp_path):
    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "one"})
            await ear.until("audio-generation-complete")
            rooms = server._app.gateway._rooms
            await until_so(lambda: not rooms.members(["generation-one"]))
            assert (await ear.ask("join-generation", "one"))["ok"]
            assert rooms.members(["generation-one"])

    with serving(tmp_path, room_kept_s=0.1) as server:
        asyncio.run(main(server))


def test_a_room_is_kept_longer_after_a_failure_and_as_long_as_a_song_is_tried_again(tmp_path):
    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "one"})
            await ear.until("generation-error")
            due = server._app.gateway._expiry.due
            loop_now = server._app.gateway._expiry._clock()
            assert 3000 < due["one"] - loop_now <= 3600
            await ear.ask("retry-generation", {"generationId": "one"})
            await ear.until("audio-generation-complete")
            assert 500 < due["one"] - loop_now < 700

    with serving(tmp_path, audio=Player(errors=[AudioError("gone", code=ErrorCode.AUDIO_ERROR)])) as server:
        asyncio.run(main(server))


def test_a_room_that_nobody_started_ends_too_and_a_song_that_waits_keeps_its_own():
    async def main():
        now = [0.0]
        expiry = RoomExpiry(Rooms(), kept_s=10.0, failed_kept_s=20.0, clock=lambda: now[0])
        expiry.joined("a", None)
        expiry.joined("b", None)
        expiry.observe(EXAMPLES["job:status"].model_copy(update={"id": "b", "status": "pending"}))
        assert expiry.due == {"a": 10.0}
        now[0] = 11.0
        expiry.sweep()
        assert expiry.due == {}
        expiry.close()

    asyncio.run(main())


def test_a_call_over_http_beyond_a_limit_says_when_to_come_again(tmp_path):
    with serving(tmp_path, rates=RateLimits(messages=(0.5, 1))) as server:
        assert call(server, "GET", "/api/generations")[0] == 200
        status, headers, body = call(server, "GET", "/api/generations")
        assert (status, headers["Retry-After"]) == (429, "2")
        assert 1 < json.loads(body)["error"]["details"]["retryAfter"] <= 2
        assert call(server, "GET", "/healthz", user=None)[0] == 200
        assert call(server, "GET", "/healthz", user=None)[0] == 429


def test_a_method_that_a_route_does_not_have_is_refused_with_those_that_it_has(server):
    status, headers, body = call(server, "PATCH", "/api/generations")
    assert (status, json.loads(body)["error"]["code"]) == (405, "INVALID_PAYLOAD")
    assert set(headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
