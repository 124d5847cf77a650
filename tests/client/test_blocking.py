"""The same client for programs without an event loop."""

import asyncio
import inspect
import threading

import pytest

from harmonia_lab.client import BlockingClient, Client
from harmonia_lab.errors import Disconnected, ErrorCode, Refused
from tests.server.conftest import GENERATION, JOB, serving
from tests.server.engines import Writer
from tests.waiting import until


def lifecycle(events):
    return [(event.name, event.seq) for event in events if event.delivery == "lifecycle"]


def client_threads():
    return [thread for thread in threading.enumerate() if thread.name == "harmonia-client"]


def test_a_plain_thread_makes_a_song_and_follows_it(tmp_path):
    heard, turn = {}, threading.Lock()

    def work(server, user):
        with BlockingClient(server.url) as client:
            client.connect(server.token(user))
            client.subscribe_to_user_jobs()
            with turn:  # who starts while another waits would hear that its place changes
                ack = client.start("A small boat goes home.", seconds=1)
                assert next(client.events(ack.generation_id)).seq == 1
            heard[user] = lifecycle(client.events(ack.generation_id)), lifecycle(client.job_events(ack.generation_id))
            assert client.connected
            assert ack.generation_id in client.store.state.completed_generations
            assert {channel.generation_id for channel in client._client._history} == {ack.generation_id}

    with serving(tmp_path) as server:
        threads = [threading.Thread(target=work, args=(server, user)) for user in ("ann", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert heard == {"ann": (GENERATION, JOB), "bob": (GENERATION, JOB)}
    assert client_threads() == []


def test_whoever_waits_is_let_go_when_the_client_disconnects(tmp_path):
    with serving(tmp_path, metadata=Writer(gate=threading.Event())) as server:
        client = BlockingClient(server.url)
        client.connect(server.token("ann"))
        client.start("A small boat.", generation_id="g", seconds=1)
        heard, begun = [], threading.Event()

        def read():
            for event in client.events("g"):
                heard.append(event)
                begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(60)
        client.disconnect()
        client.disconnect()
        reader.join(60)
        assert not reader.is_alive()
        assert client_threads() == []
        with pytest.raises(Disconnected):
            client.join("g")
        client.connect(server.token("ann"))
        client.cancel("g")
        client.join("g")
        assert next(iter(client.events("g"))).name == "metadata-generation-started"
        client.disconnect()


def test_a_refused_token_leaves_no_thread(tmp_path):
    with serving(tmp_path) as server:
        client = BlockingClient(server.url)
        with pytest.raises(Refused) as caught:
            client.connect("junk")
        assert caught.value.code == ErrorCode.UNAUTHORIZED
        assert client_threads() == []


def test_what_is_asked_while_another_thread_disconnects_is_answered_and_never_a_hang():
    client, loop = BlockingClient("http://127.0.0.1:1"), asyncio.new_event_loop()
    refused = []

    def ask():
        try:
            client.join("g")
        except Disconnected as error:
            refused.append(error)

    client._loop = loop  # it takes the question, and ends before it comes to it
    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: loop._ready, "the question")
    loop.close()
    asking.join(60)
    assert len(refused) == 1
    client._loop = loop  # as whoever has looked at it a moment ago
    with pytest.raises(Disconnected):
        client.join("g")


def test_it_has_the_public_names_and_signatures_of_the_other_client():
    """Without `async`, and with iterators in the place of streams."""

    def public(cls):
        return {name: value for name, value in vars(cls).items() if not name.startswith("_")}

    def signature(function):
        kinds = inspect.signature(function)
        returned = str(kinds.return_annotation).replace("Stream[", "Iterator[")
        return [(p.name, p.kind, p.default, p.annotation) for p in kinds.parameters.values()], returned

    ours, theirs = public(BlockingClient), public(Client)
    fields = {name for name in vars(Client("http://127.0.0.1:1")) if not name.startswith("_")}
    assert ours.keys() == theirs.keys() | fields
    for name, method in theirs.items():
        if inspect.isfunction(method):
            assert signature(ours[name]) == signature(method), name
            assert ours[name].__doc__.startswith(f"As `Client.{name}`"), name
        else:
            assert signature(ours[name].fget) == signature(method.fget), name


def test_everything_brings_both_families_in_the_order_in_which_they_came(tmp_path):
    with serving(tmp_path) as server, BlockingClient(server.url) as client:
        client.connect(server.token("ann"))
        client.subscribe_to_user_jobs()
        heard = client.everything()
        client.start("A small boat goes home.", generation_id="g", seconds=1)
        events = []
        while not events or (events[-1].name, events[-1].seq) != JOB[-1]:
            events.append(next(heard))
    found = lifecycle(events)
    assert [event for event in found if not event[0].startswith("job:")] == GENERATION
    assert [event for event in found if event[0].startswith("job:")] == JOB
    assert found[:2] == [JOB[0], GENERATION[0]]
    assert found[-3:] == [GENERATION[-1], *JOB[-2:]]


def test_a_client_that_connects_again_in_another_event_loop_may_be_asked_twice_at_once():
    client = Client("http://127.0.0.1:9")  # the discard port: nothing listens

    async def connect_twice():
        return await asyncio.gather(client.connect("token"), client.connect("token"), return_exceptions=True)

    for _ in range(2):
        assert [type(error) for error in asyncio.run(connect_twice())] == [Disconnected, Disconnected]
