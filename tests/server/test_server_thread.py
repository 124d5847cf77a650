"""The server in a running process: it starts from a cell, and stops without leaving threads or settings behind."""

import asyncio
import socket
import sys
import threading

import pytest

from harmonia_lab.client.connection import close_socket
from harmonia_lab.errors import InvalidRequest
from tests.server.conftest import Ear, serving
from tests.server.elsewhere import Elsewhere
from tests.server.engines import Writer, make_lab
from tests.waiting import PATIENCE_S, until, until_so


def new_threads(before):
    """Names; the lab's own, which looks for dead processes of its home, stays as long as the lab."""
    return {thread.name for thread in set(threading.enumerate()) - before}


def test_stopping_leaves_no_thread_no_port_and_the_switch_interval_as_it_was(tmp_path):
    before, threads = sys.getswitchinterval(), set(threading.enumerate())
    with make_lab(tmp_path) as lab:
        server = lab.serve(port=0)
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        assert server.running
        server.stop()
        server.stop()
        assert not server.running
        assert sys.getswitchinterval() == before
        assert new_threads(threads) <= {"harmonia-caretaker"}
        with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
            pass


def test_a_switch_interval_that_somebody_set_meanwhile_is_left_alone(tmp_path):
    before = sys.getswitchinterval()
    try:
        with serving(tmp_path) as server:
            sys.setswitchinterval(0.02)
            server.stop()
            assert sys.getswitchinterval() == pytest.approx(0.02)
    finally:
        sys.setswitchinterval(before)


def test_a_taken_port_is_said_with_what_to_do_and_nothing_stays_behind(lab):
    threads = set(threading.enumerate())
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InvalidRequest, match="is taken") as caught,
    ):
        lab.serve(port=taken.getsockname()[1])
    assert "port=0" in caught.value.hint
    assert new_threads(threads) <= {"harmonia-caretaker"}
    assert lab.serve(port=0).running


def test_a_cell_that_runs_again_gets_the_same_server_and_another_wish_is_refused(lab):
    server = lab.serve(port=0)
    assert lab.serve(port=0) is server
    with pytest.raises(InvalidRequest, match="already"):
        lab.serve(port=0, progress_interval_s=1.0)
    server.stop()
    assert lab.serve(port=0) is not server


def test_a_closed_lab_serves_no_more(tmp_path):
    with make_lab(tmp_path) as lab:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        lab.serve(port=0)


def test_a_second_lab_in_the_same_kernel_has_a_server_of_its_own(tmp_path):
    with make_lab(tmp_path / "a") as first, make_lab(tmp_path / "b") as second:
        one, other = first.serve(port=0), second.serve(port=0)
        assert one.url != other.url


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000},
        {"certificate": "x.pem"},
        {"certificate": "x.pem", "private_key": "y.pem"},
        {"host": "203.0.113.1"},
        {"public_keys": "none"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(lab, options):
    threads = set(threading.enumerate())
    with pytest.raises(InvalidRequest):
        lab.serve(**{"port": 0} | options)
    assert new_threads(threads) <= {"harmonia-caretaker"}


def test_the_notebooks_own_songs_are_heard_by_the_user_local(lab, server):
    async def main():
        async with Ear(server, "local") as ear, Ear(server, "ann") as ann:
            await ear.ask("jobs:subscribe:user")
            await ann.ask("jobs:subscribe:user")
            lab.submit("A small boat goes home.", seconds=1)
            assert (await ear.until("job:completed"))["job"]["userId"] == "local"
            assert [name for name, _ in ann.heard] == ["server-hello"]

    asyncio.run(main())


def test_clients_are_let_go_when_it_stops_and_songs_go_on(tmp_path):
    gate = threading.Event()
    with serving(tmp_path, metadata=Writer(gate=gate)) as server:
        job = server.lab.submit("A small boat goes home.", seconds=1)

        async def main():
            async with Ear(server) as ear:
                await asyncio.to_thread(server.stop)
                await asyncio.wait_for(ear.gone.wait(), PATIENCE_S)

        asyncio.run(main())
        gate.set()
        assert job.result(PATIENCE_S).metadata.title == "A Small Boat"


def test_the_guides_metrics_can_be_read_in_the_notebook(lab, server):
    async def main():
        async with Ear(server) as ear:
            await ear.ask("start-generation", {"narrative": "A story.", "seconds": 1})
            await ear.until("audio-generation-complete")
            now = server.metrics()
            assert (now.connections, now.active_generations <= 1, now.errors) == (1, True, 0)
            assert now.average_latency_s < PATIENCE_S
            await until_so(lambda: server.metrics().messages_sent >= 4)  # counted once they are on their way

    asyncio.run(main())
    until(lambda: server.metrics().connections == 0)


def test_it_speaks_tls_where_a_certificate_is_given(tmp_path):
    import ssl

    import aiohttp
    import socketio

    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    with serving(tmp_path, certificate=str(certificate), private_key=str(key)) as server:
        assert server.url.startswith("https://127.0.0.1:")

        async def main():
            trust = ssl.create_default_context(cafile=str(certificate))
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
                io = socketio.AsyncClient(http_session=session)
                complete = asyncio.get_running_loop().create_future()
                io.on("audio-generation-complete", complete.set_result)
                await io.connect(server.url, auth={"token": server.token("ann")}, transports=["websocket"])
                await io.call("start-generation", {"narrative": "A story.", "seconds": 1})
                url = (await asyncio.wait_for(complete, PATIENCE_S))["audioUrl"]
                async with session.get(url) as answer:
                    assert (answer.status, url[:8]) == (200, "https://")
                sock = io.eio.ws.get_extra_info("socket")
                await io.disconnect()
                await close_socket(sock)  # aiohttp doesn't wait for the end of TLS, which the loop would cut off

        asyncio.run(main())


def test_a_renewed_certificate_is_used_for_the_connections_that_follow(tmp_path):
    """The certificate is written before its key, as renewals do it; between the two, the old pair goes on."""
    import socket
    import ssl

    certificate, key, later = (tmp_path / name for name in ("cert.pem", "key.pem", "later.pem"))
    make_certificate(certificate, key)
    first = certificate.read_text()

    def shown(server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, port = server.local_url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as wrapped:
            return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True))

    with serving(tmp_path, certificate=str(certificate), private_key=str(key)) as server:
        assert shown(server).split() == first.split()
        make_certificate(certificate, later)
        server._app._certificate.reload()
        assert shown(server).split() == first.split()
        later.replace(key)
        until(lambda: shown(server).split() == certificate.read_text().split(), "the renewed certificate")


def make_certificate(certificate, key):
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_a_killed_servers_job_is_failed_by_the_next_server_which_replays_and_retries_it(tmp_path):
    from harmonia_lab.server.server_thread import new_tokens
    from harmonia_lab.server.settings import ServerSettings

    (tmp_path / "home").mkdir()
    token = new_tokens(ServerSettings(), tmp_path / "home").issue("ann").token

    async def before(server):
        ear = Ear(server, token=token)
        await ear.io.connect(server.url, auth={"token": token}, transports=["websocket"])
        await ear.ask("start-generation", {"narrative": "A story.", "seconds": 1, "generationId": "g"})
        await ear.until("metadata-generation-progress")
        await asyncio.to_thread(server.kill)
        await asyncio.wait_for(ear.gone.wait(), PATIENCE_S)
        await ear.close()
        assert ear.lifecycle() == [("metadata-generation-started", 1)]
        return ear.of("metadata-generation-progress")[-1]["tick"]

    async def after(server, last_tick):
        async with Ear(server, token=token) as ear:
            ack = await ear.ask("join-generation", {"generationId": "g", "afterSeq": 1})
            assert ack["snapshot"]["status"] == "failed"
            (error,) = ear.of("generation-error")
            assert (error["seq"], error["error"]["code"], error["error"]["recoverable"]) == (2, "INTERRUPTED", True)
            assert (await ear.ask("retry-generation", {"generationId": "g"}))["ok"]
            await ear.until("audio-generation-complete")
            assert [seq for _, seq in ear.lifecycle()] == [2, 3, 4, 5, 6]
            assert min(p["tick"] for p in ear.of("metadata-generation-progress")) > last_tick

    first = Elsewhere(tmp_path, step_s=60)
    try:
        last_tick = asyncio.run(before(first))
    finally:
        first.kill()
    second = Elsewhere(tmp_path)
    try:
        asyncio.run(after(second, last_tick))
    finally:
        second.kill()
