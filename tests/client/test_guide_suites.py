"""The guide's own test suites, ported: its service's by our `Client`, its gateways' by a plain Socket.IO client.

Their mocks are real sockets here; where they only say "verify", it is verified.
"""

import asyncio

import pytest

from harmonia_lab.client import Client
from tests.server.conftest import Ear, serving
from tests.server.engines import Writer, make_lab
from tests.waiting import until_so


@pytest.fixture
def server(tmp_path):
    with make_lab(tmp_path) as lab:
        yield lab.serve(port=0)


STORY = {"narrative": "A small boat goes home.", "seconds": 1}


class TestWebSocketService:
    def test_should_join_generation_room(self, server):
        async def main():
            async with Client(server.url) as service:
                await service.connect(server.token("ann"))
                await service.join("gen-123")
                (there,) = server._app.gateway.clients.values()
                assert any("gen-123" in room for room in there.rooms)
                await service.leave("gen-123")
                assert not any("gen-123" in room for room in there.rooms)

        asyncio.run(main())

    def test_should_handle_metadata_generation_progress(self, tmp_path):
        async def main(server):
            async with Client(server.url) as service:
                await service.connect(server.token("ann"))
                progress = service.metadata_progress("gen-123")
                await service.start("A small boat goes home.", seconds=1, generation_id="gen-123")
                events = [event async for event in progress]
                assert {event.generation_id for event in events} == {"gen-123"}
                steps = {event.current_step: event.status for event in events}
                assert steps["lyrics"] == "Working on the lyrics..."
                assert all(0 <= event.progress <= 100 for event in events)

        with serving(tmp_path, metadata=Writer(step_s=0.05), progress_interval_s=0.01) as server:
            asyncio.run(main(server))

    def test_should_connect_with_token(self, server):
        async def main():
            async with Client(server.url) as service:
                await service.connect(server.token("ann"))
                assert service.connected

        asyncio.run(main())

    def test_should_disconnect_socket(self, server):
        async def main():
            async with Client(server.url) as service:
                await service.connect(server.token("ann"))
                await service.disconnect()
                assert not service.connected
                await until_so(lambda: server.metrics().connections == 0)

        asyncio.run(main())


class TestSongGenerationIntegration:
    def test_should_complete_full_song_generation_workflow(self, server):
        async def main():
            async with Ear(server) as client:
                await client.tell("join-generation", "test-gen-123")
                await client.ask("start-generation", STORY | {"generationId": "test-gen-123"})
                complete = await client.until("audio-generation-complete")
                assert complete["audioUrl"]
                (started,) = client.of("metadata-generation-started")
                assert started["generationId"] == "test-gen-123"
                assert all(0 <= event["progress"] <= 100 for event in client.of("metadata-generation-progress"))
                (metadata,) = client.of("metadata-generation-complete")
                assert metadata["metadata"]
                assert client.of("audio-generation-started")
                assert client.of("audio-generation-progress")

        asyncio.run(main())


class TestJobsGateway:
    def test_should_connect_client(self, server):
        async def main():
            async with Ear(server) as client:
                assert client.io.connected

        asyncio.run(main())

    def test_should_subscribe_to_job(self, server):
        async def main():
            async with Ear(server) as client:
                await client.ask("job:subscribe", {"jobId": "job-123"})
                await client.ask("start-generation", STORY | {"generationId": "job-123"})
                completed = await client.until("job:completed")
                assert completed["job"]["id"] == "job-123"
                assert all(event["id"] == "job-123" for event in client.of("job:status", "job:progress"))

        asyncio.run(main())
