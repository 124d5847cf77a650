"""The client against the real server, over real sockets."""

import asyncio
import gc
import threading
from datetime import datetime, timedelta

import aiohttp
import pytest

from harmonia_lab.client import Backoff, Client
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, InvalidRequest, MetadataError, Refused
from harmonia_lab.protocol.commands import RefreshAck, RefreshToken
from harmonia_lab.protocol.events import AudioGenerationComplete, Channel, JobStatusEvent, MetadataGenerationProgress
from harmonia_lab.protocol.models import SongRequest
from tests.client.proxy import Proxy
from tests.server.conftest import GENERATION, JOB, serving
from tests.server.engines import Writer, make_lab
from tests.waiting import PATIENCE_S, until_so

SOON = Backoff(0.01, 0.05)


def lifecycle(events):
    return [(event.name, event.seq) for event in events if event.delivery == "lifecycle"]


async def to_the_end(stream):
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in stream]


class Tomorrow(datetime):
    """The clock by which tokens are checked, a day on."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + timedelta(days=1)


def run(main):
    """Nothing is left over: no task, no open socket."""

    async def guarded():
        await main
        await until_so(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the end of all tasks")

    asyncio.run(guarded(), debug=False)
    gc.collect()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_song_is_followed_from_its_start_to_its_end(tmp_path, transport):
    async def main(server):
        async with Client(server.url, transports=[transport]) as client:
            await client.connect(server.token("ann"))
            assert client.hello.user.id == "ann"
            ack = await client.start("A small boat goes home.", seconds=1)
            assert ack.job_id == ack.generation_id
            first, progress = client.metadata_progress(ack.generation_id), client.audio_progress(ack.generation_id)
            events = await to_the_end(client.events(ack.generation_id))
            assert lifecycle(events) == GENERATION
            assert isinstance(events[-1], AudioGenerationComplete)
            assert all(isinstance(event, MetadataGenerationProgress) for event in await to_the_end(first))
            assert {event.generation_id for event in await to_the_end(progress)} == {ack.generation_id}
            assert client.store.state.completed_generations[ack.generation_id].audio_url.startswith(server.url)
            assert lifecycle(await to_the_end(client.events(ack.generation_id))) == GENERATION  # also afterwards
            assert await to_the_end(client.metadata_progress(ack.generation_id)) == []

    with serving(tmp_path) as server:
        run(main(server))


def test_answers_are_typed_and_failures_are_errors_with_their_code(tmp_path):
    async def main(server):
        async with Client(server.url) as client, Client(server.url) as other:
            with pytest.raises(Disconnected):
                await client.join("g")
            await client.connect(server.token("ann"))
            await client.connect("never looked at: it is connected")
            await other.connect(server.token("bob"))
            assert (await client.join("g")).snapshot is None
            await client.start("A small boat.", generation_id="g", seconds=1)
            await to_the_end(client.events("g"))
            assert (await client.join("g")).snapshot.seq == 4
            assert (await client.leave("g")).generation_id == "g"
            assert [job.id for job in (await client.subscribe_to_user_jobs()).jobs] == ["g"]
            assert [job.id for job in (await client.unsubscribe_from_user_jobs()).jobs] == ["g"]
            assert (await client.unsubscribe_from_job("g")).job.status == "completed"
            for work, kind, code in [
                (client.retry("g"), Refused, ErrorCode.NOT_RECOVERABLE),
                (client.start("Again.", generation_id="g"), InvalidRequest, ErrorCode.INVALID_PAYLOAD),
                (client.start("", seconds=1), InvalidRequest, ErrorCode.INVALID_PAYLOAD),
                (client.start("A boat.", secconds=1), InvalidRequest, ErrorCode.INVALID_PAYLOAD),
                (client.join("no such id!"), InvalidRequest, ErrorCode.INVALID_PAYLOAD),
                (client.subscribe_to_admin_jobs(), Refused, ErrorCode.UNAUTHORIZED),
                (other.join("g"), Refused, ErrorCode.NOT_FOUND),
                (other.cancel("g"), Refused, ErrorCode.CANCEL_FAILED),
                (other.retry("g"), Refused, ErrorCode.NOT_FOUND),
            ]:
                with pytest.raises(kind) as caught:
                    await work
                assert caught.value.code == code
            await client.disconnect()
            await client.disconnect()
            assert not client.connected
            with pytest.raises(Disconnected):
                await client.join("g")
            await client.connect(server.token("ann"))
            assert (await client.join("g")).replayed == 0  # what is known is not sent again

    with serving(tmp_path) as server:
        run(main(server))


def test_two_users_hear_of_their_own_songs_alone_and_an_admin_of_all(tmp_path):
    async def main(server):
        ann, bob, root = clients = [Client(server.url) for _ in range(3)]
        for client, user, roles in zip(clients, ("ann", "bob", "root"), ((), (), ("admin",)), strict=True):
            await client.connect(server.token(user, roles=roles))
        await ann.subscribe_to_user_jobs()
        await bob.subscribe_to_user_jobs()
        await root.subscribe_to_admin_jobs()
        for client, generation_id in ((ann, "a"), (bob, "b")):
            await client.start("A small boat.", generation_id=generation_id, seconds=1)
            channel = Channel("generation", generation_id)
            # The client waits no longer once it has an event.
            await until_so(lambda client=client, channel=channel: client.store.state.cursor(channel).seq)
        assert lifecycle(await to_the_end(ann.job_events("a"))) == JOB
        assert lifecycle(await to_the_end(bob.job_events("b"))) == JOB
        assert [lifecycle(await to_the_end(root.job_events(job))) for job in "ab"] == [JOB, JOB]
        await to_the_end(ann.events("a"))
        await to_the_end(bob.events("b"))
        assert {channel.generation_id for channel in ann._history} == {"a"}
        assert {channel.generation_id for channel in bob._history} == {"b"}
        assert root.store.state.active_generations == {}
        for client in clients:
            await client.disconnect()

    with serving(tmp_path) as server:
        run(main(server))


def test_cancel_and_retry_are_seen_by_the_streams(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Client(server.url) as client:
            await client.connect(server.token("ann"))
            await client.start("A small boat.", generation_id="g", seconds=1)
            events = await to_the_end(client.events("g"))
            assert (events[-1].name, events[-1].final) == ("generation-error", True)
            assert client.store.state.errors["g"].error.code == ErrorCode.METADATA_INVALID
            await client.retry("g")
            await until_so(lambda: "g" in client.store.state.active_generations)
            await client.cancel("g")
            await client.cancel("g")
            events = await to_the_end(client.events("g"))
            assert (events[-1].name, events[-1].reason) == ("generation-cancelled", "user_cancelled")
            assert [event.seq for event in events if event.delivery == "lifecycle"] == list(
                range(1, events[-1].seq + 1)
            )

    class Second(Writer):
        """Fails once, and then waits."""

        def write(self, *args):
            self.gate = gate if not self.errors else self.gate
            return super().write(*args)

    writer = Second(errors=[MetadataError("No.", code=ErrorCode.METADATA_INVALID)])
    with serving(tmp_path, metadata=writer) as server:
        run(main(server))


def test_a_bad_token_is_refused_and_a_server_that_is_not_there_is_said_so(tmp_path):
    async def main(server):
        for token in ("junk", "", server.token("ann")[:-3]):
            client = Client(server.url)
            with pytest.raises(Refused) as caught:
                await client.connect(token)
            assert caught.value.code == ErrorCode.UNAUTHORIZED
            with pytest.raises(Disconnected):
                await client.join("g")
        url = server.url
        server.stop()
        with pytest.raises(Disconnected) as caught:
            await Client(url).connect("any")
        assert caught.value.recoverable

    with serving(tmp_path) as server:
        run(main(server))


def test_tokens_are_asked_for_again_when_refused_and_refreshed_before_they_end(tmp_path):
    async def main(server):
        asked = []

        async def token():
            asked.append(1)
            return "junk" if len(asked) == 1 else server.token("ann", ttl=1000 * len(asked))

        async with Client(server.url, backoff=SOON) as client:
            await client.connect(token)
            assert len(asked) == 2
            states = []
            client.store.observe(states.append)
            gateway = server._app.gateway
            (there,) = gateway.clients.values()
            for _ in range(4):
                ends = there.identity.expires_at
                server._loop.call_soon_threadsafe(gateway._warn, there)
                await until_so(lambda ends=ends: there.identity.expires_at > ends, "a token that is good for longer")
            assert len(asked) == 6
            assert states == []  # and the connection has never ended

    with serving(tmp_path) as server:
        run(main(server))


def test_an_expired_token_that_nobody_renews_ends_the_client_with_the_reason(tmp_path, monkeypatch):
    async def main(server):
        async with Client(server.url, backoff=SOON) as client:
            await client.connect(server.token("ann", ttl=60))
            await client.join("g")
            (there,) = server._app.gateway.clients.values()
            with monkeypatch.context() as later:
                later.setattr("jwt.api_jwt.datetime", Tomorrow)
                server._loop.call_soon_threadsafe(server._app.gateway._close, there)
                with pytest.raises(Refused) as caught:
                    await to_the_end(client.events("g"))
            assert caught.value.code == ErrorCode.UNAUTHORIZED
            with pytest.raises(Refused):
                await client.join("g")
            assert "expired" in client.store.state.connection_error
            await client.connect(server.token("ann"))  # it is not too late
            assert client.connected

    with serving(tmp_path) as server:
        run(main(server))


def test_a_client_cut_off_in_mid_generation_knows_its_last_state_and_comes_back_to_everything(tmp_path):
    gate = threading.Event()

    async def main(server):
        async with Proxy(server) as proxy, Client(proxy.url, backoff=SOON) as client:
            await client.connect(server.token("ann"))
            await client.subscribe_to_user_jobs()
            await client.start("A small boat.", generation_id="g", seconds=1)
            events, jobs = client.events("g"), client.job_events()
            await until_so(lambda: client.store.state.cursor(Channel("generation", "g")).seq)
            proxy.open = False
            proxy.cut()
            await until_so(lambda: not client.connected)
            assert client.store.state.active_generations["g"].stage == "metadata"
            gate.set()
            handle = server.lab.submit_request(
                SongRequest(narrative="Another.", seconds=1, generation_id="h"), user="ann"
            )
            await asyncio.to_thread(handle.result, PATIENCE_S)
            assert "g" not in client.store.state.completed_generations
            joining = asyncio.create_task(client.join("h"))  # waits for the connection
            proxy.open = True
            assert lifecycle(await to_the_end(events)) == GENERATION
            assert (await joining).snapshot.status == "completed"
            assert lifecycle(await to_the_end(client.events("h"))) == GENERATION
            of_all = []
            async with asyncio.timeout(PATIENCE_S):
                while sum(isinstance(e, JobStatusEvent) and e.status == "completed" for e in of_all) < 2:
                    of_all.append(await anext(jobs))
            for job in "gh":  # also of the one that began and ended meanwhile
                assert lifecycle(e for e in of_all if e.generation_id == job) in (JOB, JOB[1:], JOB[2:])
                assert lifecycle(await to_the_end(client.job_events(job))) == JOB

    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        run(main(server))


def test_a_restarted_server_is_found_again_and_says_what_became_of_the_song(tmp_path):
    async def main():
        first = make_lab(tmp_path, metadata=Writer(gate=threading.Event()))
        server = first.serve(port=0)
        port = int(server.url.rpartition(":")[2])
        async with Client(server.url, backoff=SOON) as client:
            await client.connect(server.token("ann"))
            await client.start("A small boat.", generation_id="g", seconds=1)
            events = client.events("g")
            await until_so(lambda: client.store.state.cursor(Channel("generation", "g")).seq)
            await asyncio.to_thread(server.stop)
            await until_so(lambda: not client.connected)
            await asyncio.to_thread(first.close)
            with make_lab(tmp_path) as second:
                second.serve(port=port)
                heard = await to_the_end(events)
                assert [event.seq for event in heard if event.delivery == "lifecycle"] == [1, 2]
                assert heard[-1].name in {"generation-cancelled", "generation-error"}
                await client.disconnect()

    run(main())


def test_an_event_that_did_not_arrive_is_noticed_and_fetched(tmp_path):
    async def main(server):
        async with Client(server.url) as client:
            await client.connect(server.token("ann"))
            apply, lost = client._apply, []

            def careless(event):
                if event.name in {"metadata-generation-complete", "job:completed"} and event.name not in lost:
                    lost.append(event.name)
                else:
                    apply(event)

            client._apply = careless
            await client.subscribe_to_user_jobs()
            await client.start("A small boat.", generation_id="g", seconds=1)
            assert lifecycle(await to_the_end(client.events("g"))) == GENERATION
            assert lifecycle(await to_the_end(client.job_events("g"))) == JOB
            assert sorted(lost) == ["job:completed", "metadata-generation-complete"]

    with serving(tmp_path) as server:
        run(main(server))


def test_who_reads_slowly_gets_every_lifecycle_event_and_the_latest_progress(tmp_path):
    async def main(server):
        async with Client(server.url) as client:
            await client.connect(server.token("ann"))
            await client.start("A small boat.", generation_id="g", seconds=1)
            slow, fast = client.events("g"), client.metadata_progress("g")
            told.release()
            heard = []
            async with asyncio.timeout(PATIENCE_S):
                async for event in fast:
                    heard.append(event.tick)
                    told.release()
            assert len(heard) >= 3
            await until_so(lambda: "g" in client.store.state.completed_generations)
            events = await to_the_end(slow)
            assert lifecycle(events) == GENERATION
            assert len([event for event in events if event.delivery == "progress"]) == 1

    class Heard(Writer):
        """Goes on when a step of its was heard."""

        def write(self, request, seed, report, cancel):
            def say(progress):
                report(progress)
                while not told.acquire(timeout=0.05):
                    cancel.raise_if_cancelled()

            return super().write(request, seed, say, cancel)

    told = threading.Semaphore(0)
    with serving(tmp_path, metadata=Heard(steps=10), progress_interval_s=0.02) as server:
        run(main(server))


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path):
    async def main():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        client = Client(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", connect_timeout_s=0.1)
        with pytest.raises(Disconnected, match=r"no answer within 0\.1 s"):
            await client.connect("any")
        listening.close()

    run(main())


def test_a_command_has_an_end_also_while_there_is_no_connection(tmp_path):
    async def main(server):
        async with Proxy(server) as proxy, Client(proxy.url, backoff=SOON, ack_timeout_s=0.2) as client:
            await client.connect(server.token("ann"))
            proxy.open = False
            proxy.cut()
            with pytest.raises(Disconnected):
                await client.cancel("g")

    with serving(tmp_path) as server:
        run(main(server))


def test_attempts_can_be_counted_and_then_every_stream_says_why_it_ended(tmp_path):
    async def main(server):
        async with Proxy(server) as proxy, Client(proxy.url, backoff=Backoff(0.001, 0.01, attempts=3)) as client:
            asked = []

            def token():
                asked.append(1)
                return server.token("ann")

            await client.connect(token)
            await client.join("g")
            proxy.open = False
            proxy.cut()
            with pytest.raises(HarmoniaError) as caught:
                await to_the_end(client.events("g"))
            assert caught.value.code == ErrorCode.NETWORK_TEMPORARY
            assert len(asked) == 1 + 3
            with pytest.raises(Disconnected):
                await to_the_end(client.job_events())

    with serving(tmp_path) as server:
        run(main(server))


def test_disconnecting_closes_the_socket_also_while_the_peer_does_not_read(tmp_path):
    async def main(server):
        async with Proxy(server) as proxy:
            client = Client(proxy.url, ack_timeout_s=0.1)
            await client.connect(server.token("ann"))
            for writer in proxy._writers:
                writer.transport.pause_reading()
            connection = client._connection._connection.result()
            unread = [client._connection.call(RefreshToken, RefreshAck, token="x" * 8000) for _ in range(2000)]
            await asyncio.gather(*unread, return_exceptions=True)
            assert connection._socket.fileno() >= 0
            await client.disconnect()
            assert connection._socket.fileno() < 0

    with serving(tmp_path) as server:
        run(main(server))


def test_disconnecting_while_a_connection_is_being_restored_leaves_no_session_open(tmp_path):
    sessions = []

    def session():
        sessions.append(aiohttp.ClientSession())
        return sessions[-1]

    async def one(server, transports, turns, is_open):
        async with Proxy(server) as proxy:
            client = Client(proxy.url, backoff=Backoff(0.0001, 0.001), transports=transports, session=session)
            await client.connect(server.token("ann"))
            proxy.open = is_open
            proxy.cut()
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.disconnect()
            assert all(session.closed for session in sessions)

    async def main(server):
        for transports in (["websocket"], ["polling", "websocket"]):
            for turns in range(0, 60, 4):
                await one(server, transports, turns, is_open=turns % 8 == 0)

    with serving(tmp_path) as server:
        run(main(server))


def test_an_observer_that_fails_harms_nobody(tmp_path, caplog):
    async def main(server):
        async with Proxy(server) as proxy, Client(proxy.url, backoff=SOON) as client:
            client.store.observe(lambda state: 1 / 0)
            await client.connect(server.token("ann"))
            await client.start("A small boat.", generation_id="g", seconds=1)
            proxy.cut()
            assert lifecycle(await to_the_end(client.events("g"))) == GENERATION
        assert "ZeroDivisionError" in caplog.text

    with serving(tmp_path) as server:
        run(main(server))


def test_waits_are_the_guides():
    waits = [list(Backoff(attempts=6).waits()) for _ in range(200)]
    for attempt, (least, most) in enumerate([(0.5, 1.5), (1, 3), (2, 5), (4, 5), (5, 5), (5, 5)]):
        drawn = [wait[attempt] for wait in waits]
        assert least <= min(drawn) <= max(drawn) <= most
        assert len(set(drawn)) > 1 or least == most
