"""The files of docs/deploy/ for several servers: nginx in front of two with TLS, and what else can be checked here."""

import asyncio
import importlib.resources
import json
import re
from collections import Counter

import aiohttp
import jsonschema
import pytest
import socketio
import yaml

from tests.nginx import CONFIGURATION, Nginx, needs_nginx
from tests.redis_server import needs_redis, running_redis
from tests.server.engines import make_lab
from tests.waiting import PATIENCE_S, until_so

FOLDER = CONFIGURATION.parent


@pytest.fixture
def two(tmp_path):
    """Two servers behind nginx, and how many sockets each has."""
    (tmp_path / "redis").mkdir()
    with (
        running_redis(tmp_path / "redis", fsync="no") as redis,
        make_lab(tmp_path / "a", redis=redis.url) as one,
        make_lab(tmp_path / "b", redis=redis.url) as other,
    ):
        servers = [
            lab.serve(
                port=0, key=tmp_path / "token.key", trusted_proxies=("127.0.0.1",), public_url="https://songs.example"
            )
            for lab in (one, other)
        ]
        with Nginx(tmp_path / "nginx", [server.local_url.rpartition(":")[2] for server in servers]) as nginx:
            nginx.servers = servers
            yield nginx


class Far:
    """A client behind nginx, from an address of its own."""

    def __init__(self, nginx, token, address, *transports):
        self.nginx, self.token, self.transports = nginx, token, list(transports)
        connector = aiohttp.TCPConnector(ssl=nginx.trust, local_addr=(address, 0))
        self.http = aiohttp.ClientSession(connector=connector)
        self.io = socketio.AsyncClient(http_session=self.http, reconnection=False)

    async def __aenter__(self):
        auth = {"token": self.token}
        try:
            await self.io.connect(self.nginx.url, auth=auth, transports=self.transports, wait_timeout=PATIENCE_S)
        except BaseException:
            await self.http.close()
            raise
        return self

    async def __aexit__(self, *_):
        await self.io.disconnect()
        await self.http.close()
        await asyncio.sleep(0)


@needs_redis
@needs_nginx
def test_websockets_spread_and_polling_sticks_behind_nginx_with_tls(two):
    async def main():
        token = two.servers[0].token("ann")
        for transports in (["websocket"], ["polling", "websocket"], ["polling"]):
            clients = [Far(two, token, f"127.0.{i}.{2 + 7 * i}", *transports) for i in range(12)]
            await asyncio.gather(*(client.__aenter__() for client in clients))
            shares = Counter(dict(enumerate(server.metrics().connections for server in two.servers)))
            assert sum(shares.values()) == 12, transports
            assert min(shares.values()) >= 2, (transports, shares)
            for client in clients:  # a poll that reached the other server would be refused
                assert (await client.io.call("jobs:subscribe:user", timeout=PATIENCE_S))["ok"]
            assert {client.io.transport() for client in clients} == {transports[-1]}
            await asyncio.gather(*(client.__aexit__() for client in clients))
            await until_so(lambda: sum(server.metrics().connections for server in two.servers) == 0)

    asyncio.run(main())


@needs_redis
@needs_nginx
def test_a_song_and_its_file_come_through_nginx_whichever_server_has_them(two):
    async def main():
        token = two.servers[0].token("ann")
        headers = {"Authorization": f"Bearer {token}"}
        connector = aiohttp.TCPConnector(ssl=two.trust)
        async with (
            Far(two, token, "127.0.0.9", "websocket") as client,
            aiohttp.ClientSession(connector=connector) as http,
        ):
            done = asyncio.Event()
            client.io.on("audio-generation-complete", lambda _: done.set())
            ack = await client.io.call("start-generation", {"narrative": "A small boat.", "seconds": 1})
            await asyncio.wait_for(done.wait(), PATIENCE_S)
            for _ in range(6):  # both servers answer
                url = f"{two.url}/api/generations/{ack['generationId']}/audio"
                async with http.get(url, headers=headers) as answer:
                    assert (answer.status, (await answer.read())[:4]) == (200, b"fLaC")
            async with http.get(f"{two.url}/metrics") as answer:
                assert answer.status == 401  # a proxy is in front

    asyncio.run(main())


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_the_compose_file_is_one():
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    (compose,) = documents("compose.yml")
    jsonschema.validate(compose, json.loads(schema.read_text()))
    assert "ports" not in compose["services"]["redis"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_the_kubernetes_example_scales_by_metrics_that_a_server_has(tmp_path):
    kinds = {document["kind"]: document for document in documents("kubernetes.yml")}
    assert {"Deployment", "Service", "Ingress", "HorizontalPodAutoscaler", "PersistentVolumeClaim"} == set(kinds)
    named = {each["pods"]["metric"]["name"] for each in kinds["HorizontalPodAutoscaler"]["spec"]["metrics"]}
    assert named == {"harmonia_connections", "harmonia_queue_oldest_seconds"}
    with make_lab(tmp_path) as lab:
        assert all(f"\n{name} " in lab.metrics.text() for name in named)
    (server,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", ["harmonia@.service", "compose.yml", "kubernetes.yml"])
def test_the_examples_start_the_server_with_options_that_there_are(name):
    from harmonia_lab.cli.arguments import make_full_parser

    (commands,) = [action for action in make_full_parser()._actions if getattr(action, "choices", None)]
    known = set(re.findall(r"--[a-z][a-z-]+", commands.choices["serve"].format_help()))
    line = next(line for line in (FOLDER / name).read_text().splitlines() if "--songs" in line)
    assert set(re.findall(r"--[a-z][a-z-]+", line)) <= known


@needs_redis
def test_redis_takes_the_settings_and_what_it_then_promises_is_enough(tmp_path):
    from harmonia_lab.store.shared.connection import RedisConnection

    with running_redis(tmp_path, "--include", str(FOLDER / "redis.conf")) as redis:
        connection = RedisConnection(redis.url)
        assert connection.doubts() == []
        assert connection.read(lambda client: client.config_get("appendfsync")) == {"appendfsync": "always"}
        connection.close()
