"""Commands over real sockets: which users may send them, the acknowledgements, and which clients get the events."""

import asyncio
import errno
import io
import json
import logging
import threading
import time
from types import SimpleNamespace

import pytest
import socketio
import soundfile

from harmonia_lab.errors import AudioError, ErrorCode, MetadataError
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server import sessions
from harmonia_lab.server.settings import RateLimits
from harmonia_lab.storage import storage_error
from tests.server.conftest import GENERATION, JOB, Ear, serving
from tests.server.engines import METADATA, Player, Writer
from tests.waiting import PATIENCE_S, until

STORY = {"narrative": "A small boat goes home.", "seconds": 1}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_client_of_the_guide_joins_starts_and_sees_everything_once(server, transport):
    async def main():
        async with Ear(server, transport=transport) as ear:
            await ear.tell(
                "join-generation", "test-gen-123"
            )  # as the guide's client: a bare string, before the generation exists
            await ear.tell("job:subscribe", {"jobId": "test-gen-123"})
            ack = await ear.ask("start-generation", STORY | {"generationId": "test-gen-123"})
            assert ack == {"ok": True, "generationId": "test-gen-123", "jobId": "test-gen-123"}
            await ear.until("audio-generation-complete")
            await ear.until("job:status", count=3)
            assert ear.lifecycle() == GENERATION
            assert ear.lifecycle("job") == JOB
            overall = [
                p["overallProgress"] for p in ear.of("metadata-generation-progress", "audio-generation-progress")
            ]
            assert overall == sorted(overall)
            (done,) = ear.of("audio-generation-complete")
            assert done["audioUrl"].startswith(f"{server.url}/api/generations/test-gen-123/audio?")
            (job,) = ear.of("job:completed")
            assert job["job"]["result"]["outputPath"].startswith(server.url)

    asyncio.run(main())


def test_a_song_that_a_client_starts_is_made_from_a_plain_request(lab, server, monkeypatch):
    requests, submit = [], lab._local.submit

    def record(request, options):
        requests.append(request)
        return submit(request, options)

    monkeypatch.setattr(lab._local, "submit", record)

    async def main():
        async with Ear(server) as ear:
            assert (await ear.ask("start-generation", STORY | {"generationId": "plain", "seed": 7}))["ok"]

    asyncio.run(main())
    assert [(type(request), request.generation_id, request.seed) for request in requests] == [(SongRequest, "plain", 7)]


def test_who_starts_is_in_the_room_before_the_first_event(server):
    async def main():
        async with Ear(server) as ear:
            ack = await ear.ask("start-generation", STORY)
            await ear.until("audio-generation-complete")
            assert ear.lifecycle() == GENERATION
            assert {p["generationId"] for p in ear.of("metadata-generation-started")} == {ack["generationId"]}

    asyncio.run(main())


def test_hello_says_who_is_connected(server):
    async def main():
        async with Ear(server, "root", roles=("admin",)) as ear:
            hello = await ear.until("server-hello")
            assert ear.heard[0][0] == "server-hello"
            assert hello["user"] == {"id": "root", "roles": ["admin"]}
            assert hello["protocolVersion"]
            assert "replay" in hello["features"]

    asyncio.run(main())


def test_who_connects_and_what_is_asked_is_logged_without_words_or_tokens(server, caplog):
    async def main():
        with pytest.raises(socketio.exceptions.ConnectionError):
            async with Ear(server, token="forged"):
                pass
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "logged"})
            await ear.ask("start-generation", STORY | {"seconds": 0})
            await ear.ask("not\na command")
            await ear.until("audio-generation-complete")

    with (
        caplog.at_level(logging.INFO, "harmonia_lab.server.gateway"),
        caplog.at_level(logging.INFO, "harmonia_lab.server.sessions"),
    ):
        asyncio.run(main())
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said == [
        "The token is not valid: malformed.",
        "ann has connected.",
        "start-generation.",
        "'start-generation' was refused: INVALID_PAYLOAD.",
        "'not\\na command' was refused: INVALID_PAYLOAD.",
    ]


def test_nobody_sees_or_touches_what_is_somebody_elses(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "bob") as bob:
            await bob.ask("jobs:subscribe:user")
            generation_id = (await ann.ask("start-generation", STORY))["generationId"]
            missing = await bob.ask("join-generation", "nothing-here")
            assert missing["snapshot"] if "snapshot" in missing else missing["ok"]
            for name, payload, code in (
                ("join-generation", generation_id, "NOT_FOUND"),
                ("job:subscribe", {"jobId": generation_id}, "NOT_FOUND"),
                ("cancel-generation", {"generationId": generation_id}, "CANCEL_FAILED"),
                ("retry-generation", {"generationId": generation_id}, "NOT_FOUND"),
                ("start-generation", STORY | {"generationId": generation_id}, "INVALID_PAYLOAD"),
            ):
                ack = await bob.ask(name, payload)
                assert (ack["ok"], ack["error"]["code"]) == (False, code), name
            gate.set()
            await ann.until("audio-generation-complete")
            assert (await bob.ask("jobs:subscribe:user"))["jobs"] == []
            assert [name for name, _ in bob.heard] == ["server-hello"]

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_an_id_that_is_joined_is_reserved_for_who_joined_it(server):
    async def main():
        async with Ear(server, "ann") as ann, Ear(server, "bob") as bob:
            assert (await ann.ask("join-generation", "mine"))["replayed"] == 0
            assert (await bob.ask("join-generation", "mine"))["error"]["code"] == "NOT_FOUND"
            assert (await bob.ask("start-generation", STORY | {"generationId": "mine"}))["ok"] is False
            assert (await ann.ask("start-generation", STORY | {"generationId": "mine"}))["ok"] is True
            await ann.until("audio-generation-complete")

    asyncio.run(main())


def test_who_waits_in_a_room_that_became_somebody_elses_hears_nothing(server):
    async def main():
        async with Ear(server, "ann") as ann, Ear(server, "bob") as bob:
            await ann.ask("join-generation", "shared")
            server._app.gateway.access._reserved.clear()  # as after a minute
            assert (await bob.ask("start-generation", STORY | {"generationId": "shared"}))["ok"]
            await bob.until("audio-generation-complete")
            assert [name for name, _ in ann.heard] == ["server-hello"]

    asyncio.run(main())


def test_an_admin_sees_everybodys_jobs_without_their_words(server):
    async def main():
        async with Ear(server, "root", roles=("admin",)) as root, Ear(server, "ann") as ann:
            assert (await ann.ask("jobs:subscribe:admin"))["error"]["code"] == "UNAUTHORIZED"
            assert (await root.ask("jobs:subscribe:admin"))["jobs"] == []
            await ann.ask("start-generation", STORY)
            done = await root.until("job:completed")
            await root.until("job:status", count=3)
            assert root.lifecycle("job") == JOB
            assert "metadata" not in done["job"]["result"]
            assert METADATA.title not in str(root.heard)
            assert STORY["narrative"] not in str(root.heard)
            (job,) = (await root.ask("jobs:subscribe:admin"))["jobs"]
            assert "metadata" not in job["result"]
            assert (await root.ask("join-generation", job["id"]))["replayed"] == 4

    asyncio.run(main())


def test_a_socket_in_several_rooms_gets_each_event_once(server):
    async def main():
        async with Ear(server, "root", roles=("admin",)) as ear:
            for name, *payload in (
                ("jobs:subscribe:user",),
                ("jobs:subscribe:admin",),
                ("join-generation", "one"),
                ("job:subscribe", {"jobId": "one"}),
            ):
                assert (await ear.ask(name, *payload))["ok"]
            await ear.ask("start-generation", STORY | {"generationId": "one"})
            await ear.until("job:status", count=3)
            await ear.until("audio-generation-complete")
            assert ear.lifecycle() == GENERATION
            assert ear.lifecycle("job") == JOB
            ticks = [p["tick"] for p in ear.of("job:progress")]
            assert ticks == sorted(set(ticks))

    asyncio.run(main())


def test_after_leaving_nothing_more_is_heard(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as ear, Ear(server) as other:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await other.ask("join-generation", "g")
            assert (await ear.ask("leave-generation", "g"))["ok"]
            assert (await ear.ask("leave-generation", {"generationId": "never-joined"}))["ok"]
            gate.set()
            await other.until("audio-generation-complete")
            assert "audio-generation-started" not in dict(ear.heard)

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_after_unsubscribing_no_job_event_is_heard(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as ear, Ear(server) as other:
            for client in (ear, other):
                await client.ask("job:subscribe", {"jobId": "g"})
                await client.ask("jobs:subscribe:user")
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await other.until("job:status")
            assert (await other.ask("job:unsubscribe", {"jobId": "g"}))["ok"]
            assert (await other.ask("jobs:unsubscribe:user"))["ok"]
            gate.set()
            await ear.until("job:completed")
            await other.ask("leave-generation", "g")  # what was sent to it before has come, too
            assert "job:completed" not in dict(other.heard)

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_a_cancel_in_mid_step_ends_it_once_and_may_be_repeated(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("job:subscribe", {"jobId": "g"})
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("metadata-generation-started")
            assert await ear.ask("cancel-generation", {"generationId": "g"}) == {"ok": True, "generationId": "g"}
            assert (await ear.until("generation-cancelled"))["reason"] == "user_cancelled"
            assert (await ear.ask("cancel-generation", {"generationId": "g"}))["ok"]
            await ear.until("job:status", count=3)
            assert ear.lifecycle()[-1] == ("generation-cancelled", 2)
            assert [p["status"] for p in ear.of("job:status")] == ["pending", "processing", "cancelled"]
            assert ear.of("job:failed") == []

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_a_cancel_hits_no_other_job_not_even_one_that_waits(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as ear:
            for generation_id in "abc":
                await ear.ask("job:subscribe", {"jobId": generation_id})
                await ear.ask("start-generation", STORY | {"generationId": generation_id})
                await ear.until("metadata-generation-started")  # the first is at work before the others come
            await ear.ask("cancel-generation", {"generationId": "b"})
            cancelled = await ear.until("generation-cancelled")
            assert cancelled["generationId"] == "b"
            await ear.until("job:status", count=6)  # each waits, "a" works, "b" is cancelled, and "c" moves up
            gate.set()
            await ear.until("audio-generation-complete", count=2)
            assert [p["generationId"] for p in ear.of("audio-generation-complete")] == ["a", "c"]
            places = [p["position"] for p in ear.of("job:status") if p["id"] == "c" and "position" in p]
            assert places == [1, 0]
            assert (await ear.ask("cancel-generation", {"generationId": "a"}))["error"]["code"] == "CANCEL_FAILED"

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        asyncio.run(main(server))


def test_a_retry_keeps_what_stage_1_wrote_and_numbers_on(tmp_path):
    writer = Writer()

    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("job:subscribe", {"jobId": "g"})
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            failed = await ear.until("job:failed")
            assert (failed["code"], failed["recoverable"]) == ("AUDIO_ERROR", True)
            assert (await ear.until("generation-error"))["final"] is True
            assert (await ear.ask("retry-generation", {"generationId": "g"}))["ok"]
            await ear.until("audio-generation-complete")
            await ear.until("job:completed")
            await ear.until("job:status", count=6)
            assert [seq for _, seq in ear.lifecycle()] == [1, 2, 3, 4, 5, 6]
            assert [seq for _, seq in ear.lifecycle("job")] == list(range(1, 9))
            assert (await ear.ask("retry-generation", {"generationId": "g"}))["error"]["code"] == "NOT_RECOVERABLE"
            ticks = [p["tick"] for p in ear.of("job:progress")]
            assert ticks == sorted(set(ticks))

    with serving(tmp_path, metadata=writer, audio=Player(errors=[AudioError("The renderer died.")])) as server:
        asyncio.run(main(server))
        assert writer.calls == 1
        assert [p.name for p in server.lab.songs.iterdir()] == ["a-small-boat-g"]


def test_a_retry_renders_only_the_instruments_that_are_missing(tmp_path):
    player = Player(errors=[AudioError("The renderer died.")])

    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("generation-error")
            assert (await ear.ask("retry-generation", {"generationId": "g"}))["ok"]
            await ear.until("audio-generation-complete")

    with serving(tmp_path, audio=player) as server:
        asyncio.run(main(server))
    assert player.rendered == ["piano", "double bass"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_audio_is_heard_while_it_is_made_by_its_owner_alone(tmp_path, transport):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, transport=transport) as ear, Ear(server, "bob") as bob:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("audio-generation-progress")
            await ear.ask(
                "leave-generation", "another"
            )  # a client that has this acknowledgement has received all events before it
            gate.set()
            await ear.until("audio-generation-complete")
            await bob.ask("start-generation", STORY | {"generationId": "h"})
            await bob.until("audio-generation-complete")
            previews = ear.of("audio-preview")
            assert previews  # what came while the socket was busy was dropped
            for preview in previews:
                assert (preview["generationId"], preview["index"], preview["startSeconds"]) == ("g", 0, 0)
                assert preview["instrument"] in {"piano", "double bass"}
                assert preview["mimeType"] == "audio/wav"
                audio, rate = soundfile.read(io.BytesIO(preview["audio"]))
                assert (len(audio), rate) == (8000, 8000)
                assert 0.05 < abs(audio).max() < 0.2
            assert {preview["generationId"] for preview in bob.of("audio-preview")} <= {"h"}

    with serving(tmp_path, audio=Player(gate=gate)) as server:
        asyncio.run(main(server))


def test_nobody_is_told_where_this_machine_keeps_its_files(tmp_path):
    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("generation-error")  # it is tried again once
            error = (await ear.until("generation-error", count=2))["error"]
            assert (error["code"], error["recoverable"]) == ("STORAGE_FULL", True)
            assert "song.flac could not be written" in error["message"]
            assert "What was finished is kept in" in error["message"]
            assert str(tmp_path) not in json.dumps([payload for name, payload in ear.heard if name != "audio-preview"])

    full = storage_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "songs" / "song.flac")
    with serving(tmp_path, audio=Player(errors=[full, full])) as server:
        asyncio.run(main(server))


def test_what_would_fail_again_is_not_tried_again(tmp_path):
    error = MetadataError("There is no such model.", code=ErrorCode.OLLAMA_MODEL_MISSING)

    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("generation-error")
            assert (await ear.ask("retry-generation", {"generationId": "g"}))["error"]["code"] == "NOT_RECOVERABLE"

    with serving(tmp_path, metadata=Writer(errors=[error])) as server:
        asyncio.run(main(server))


def test_users_take_turns_and_a_full_queue_says_so(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "ann") as ann, Ear(server, "bob") as bob, Ear(server, "root", roles=("admin",)) as root:
            await root.ask("jobs:subscribe:admin")
            for number in range(4):
                await ann.ask("start-generation", STORY | {"generationId": f"ann-{number}"})
                await ann.until("metadata-generation-started")  # the first waits no longer
            refused = await ann.ask("start-generation", STORY | {"generationId": "ann-4"})
            assert (refused["error"]["code"], refused["error"]["recoverable"]) == ("QUEUE_FULL", True)
            await bob.ask("start-generation", STORY | {"generationId": "bob-0"})
            gate.set()
            await root.until("job:completed", count=5)
            order = [p["job"]["id"] for p in root.of("job:completed")]
            assert order == ["ann-0", "bob-0", "ann-1", "ann-2", "ann-3"]

    from harmonia_lab.generation.handle import QueueLimits

    with serving(tmp_path, metadata=Writer(gate=gate), queue=QueueLimits(per_user=3)) as server:
        asyncio.run(main(server))


def test_a_failed_command_without_a_callback_is_told_to_its_sender_alone(server):
    async def main():
        async with Ear(server) as ear, Ear(server) as other:
            await ear.tell("cancel-generation", {"generationId": "none"})
            error = await ear.until("generation-error")
            assert (error["generationId"], error["error"]["code"]) == ("none", "CANCEL_FAILED")
            assert (error["stage"], error["final"]) == ("unknown", False)
            await ear.tell("job:subscribe", {"jobId": "not an id"})
            failed = await ear.until("job:failed")
            assert failed["code"] == "INVALID_PAYLOAD"
            await ear.tell("start-generation", {"narrative": ""})
            await ear.until("generation-error", count=2)
            assert [name for name, _ in other.heard] == ["server-hello"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("join-generation", None),
        ("join-generation", 7),
        ("join-generation", {"generationId": "../../etc"}),
        ("join-generation", {"generationId": "a", "afterSeq": -1}),
        ("start-generation", {"narrative": "x", "seconds": 1e9}),
        ("start-generation", {"narrative": "x", "model": "/etc/passwd"}),
        ("start-generation", {"narrative": "x", "audioModel": "facebook/musicgen-large"}),
        ("start-generation", {"metadata": METADATA.to_wire(), "bpm": 80}),
        ("job:subscribe", ["a"]),
        ("refresh-token", {"token": "junk"}),
        ("no-such-message", {}),
        ("join-generation", {"generationId": b"\xff"}),
    ],
)
def test_bad_commands_are_answered_and_change_nothing(server, name, payload):
    async def main():
        async with Ear(server) as ear:
            ack = await ear.ask(name, payload)
            assert ack["ok"] is False
            assert ack["error"]["code"] in ("INVALID_PAYLOAD", "UNAUTHORIZED")
            assert (await ear.ask("jobs:subscribe:user")) == {"ok": True, "jobs": []}

    asyncio.run(main())


def test_a_flood_is_slowed_down_and_each_message_answered(tmp_path):
    async def main(server):
        async with Ear(server) as ear, Ear(server) as other:
            acks = await asyncio.gather(*(ear.ask("leave-generation", "g") for _ in range(30)))
            assert sum(ack["ok"] for ack in acks) == 10
            assert {a["error"]["code"] for a in acks if not a["ok"]} == {"RATE_LIMITED"}
            assert (await other.ask("leave-generation", "g"))["ok"]

    with serving(tmp_path, rates=RateLimits(messages=(0.001, 10))) as server:
        asyncio.run(main(server))


def test_who_asks_without_listening_is_let_go(tmp_path):
    """The client never polls: its acknowledgements stay in its queue, and in no buffer of the operating system."""

    async def main(server):
        import aiohttp

        url = f"{server.url}/socket.io/?EIO=4&transport=polling"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as opened:
                url += "&sid=" + json.loads((await opened.text())[1:])["sid"]
            async with session.post(url, data="40" + json.dumps({"token": server.token("ann")})) as connected:
                assert connected.status == 200
            questions = "\x1e".join(f'42{n}["jobs:unsubscribe:user"]' for n in range(900))
            assert server.metrics().connections == 1
            for _ in range(2):
                async with session.post(url, data=questions):
                    pass
            for _ in range(400):
                if not server.metrics().connections:
                    break
                await asyncio.sleep(0.05)
            assert server.metrics().connections == 0

    with serving(tmp_path, rates=RateLimits(messages=(1e6, 10**6), costs=(1e6, 10**6))) as server:
        asyncio.run(main(server))


def test_forty_emits_in_one_tick_all_arrive_over_polling(server):
    async def main():
        async with Ear(server, transport="polling") as ear:
            acks = await asyncio.gather(*(ear.ask("join-generation", f"g-{n}") for n in range(40)))
            assert [ack["generationId"] for ack in acks] == [f"g-{n}" for n in range(40)]

    asyncio.run(main())


def test_a_token_that_ends_is_warned_of_and_then_closes_its_socket(server, monkeypatch):
    """The token is valid for an hour; the gateway's clock is fixed at one second before its expiry."""
    now = time.time() + 3599
    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: now))

    async def main():
        async with Ear(server, token=server.token("ann", ttl=3600)) as ear:
            await ear.until("token-expiring")
            await asyncio.wait_for(ear.gone.wait(), PATIENCE_S)
            assert [name for name, _ in ear.heard] == ["server-hello", "token-expiring"]

    asyncio.run(main())


def test_a_refreshed_token_keeps_its_socket_open(server):
    async def main():
        async with Ear(server, token=server.token("ann", ttl=60)) as ear:
            (client,) = server._app.gateway.clients.values()
            ends = list(client.timers)
            other = await ear.ask("refresh-token", {"token": server.token("bob")})
            assert other["error"]["code"] == "UNAUTHORIZED"
            assert not any(timer.cancelled() for timer in ends)
            ack = await ear.ask("refresh-token", {"token": server.token("ann", ttl=3600)})
            assert ack["ok"]
            assert ack["expiresAt"].endswith("Z")
            assert all(timer.cancelled() for timer in ends)
            assert min(timer.when() for timer in client.timers) > max(timer.when() for timer in ends) + 3000
            assert (await ear.ask("jobs:subscribe:user"))["ok"]
            assert not ear.gone.is_set()

    asyncio.run(main())


def test_a_connection_that_says_nothing_is_closed(tmp_path):
    import aiohttp

    async def main(server):
        url = f"{server.url}/socket.io/?EIO=4&transport=websocket"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            assert (await socket.receive()).data.startswith("0{")
            while (await asyncio.wait_for(socket.receive(), PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
                pass

    with serving(tmp_path, connect_timeout_s=1.0) as server:
        asyncio.run(main(server))


def test_a_stranger_who_talks_on_is_closed_before_its_time_to_connect_is_over(server):
    import aiohttp

    async def main():
        url = f"{server.url}/socket.io/?EIO=4&transport=websocket"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            for _ in range(20):
                await socket.send_str('42["join-generation","g"]')
            while (await asyncio.wait_for(socket.receive(), 10)).type is aiohttp.WSMsgType.TEXT:
                pass

    assert server.settings.connect_timeout_s > 10
    asyncio.run(main())


def test_fifty_cancels_at_random_moments_each_end_one_generation_once(tmp_path):
    import random

    random.seed(11)
    ends = {"generation-cancelled", "audio-generation-complete", "generation-error"}

    async def main(server):
        async with Ear(server) as ear:
            for number in range(50):
                generation_id = f"g{number}"
                await ear.ask("job:subscribe", {"jobId": generation_id})
                assert (await ear.ask("start-generation", STORY | {"generationId": generation_id}))["ok"]
                await asyncio.sleep(random.random() * 0.15)
                ack = await ear.ask("cancel-generation", {"generationId": generation_id})
                assert ack["ok"] or ack["error"]["code"] == "CANCEL_FAILED"
                await ear.until(*ends, count=number + 1)
            await ear.until("job:status", count=len(ear.of("job:status")))
            heard = [(name, p["generationId"]) for name, p in ear.heard if name in ends]
            assert [generation_id for _, generation_id in heard] == [f"g{n}" for n in range(50)]
            assert {name for name, _ in heard} <= {"generation-cancelled", "audio-generation-complete"}
        return {generation_id: name for name, generation_id in heard}

    rates = RateLimits(starts=(100.0, 100))

    def left_behind():
        """Return the names of the threads that the songs started, without those of the thread pools for commands."""
        here = (thread.name for thread in set(threading.enumerate()) - threads)
        return sorted(name for name in here if not name.startswith(("asyncio_", "uvloop_", "harmonia-reader_")))

    with serving(tmp_path, metadata=Writer(step_s=0.01), audio=Player(step_s=0.01), rates=rates) as server:
        threads = set(threading.enumerate())
        ended = asyncio.run(main(server))
        for generation_id, name in ended.items():
            status = server.lab.journal.state(generation_id).job.status
            assert status == ("cancelled" if name == "generation-cancelled" else "completed")
        finished = sum(name == "audio-generation-complete" for name in ended.values())
        # A client gets the last event shortly before the worker has cleaned up.
        until(lambda: not server.lab._local._jobs, "the end of the last song")
        until(lambda: left_behind() == ["harmonia-queue", "harmonia-worker"], "no thread but the queue's own")
        until(lambda: len(list(server.lab.songs.iterdir())) == finished, "no folder but those of finished songs")
