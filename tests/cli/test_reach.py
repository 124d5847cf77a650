"""`harmonia doctor --url`: it times an acknowledgement, or says what is wrong."""

import json
import socket
import threading

import pytest

from harmonia_lab.cli.reach import checks_of
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.settings import RateLimits
from tests.server.conftest import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("reach"), rates=RateLimits()) as server:
        yield server


def found(checks):
    return {check.name: check for check in checks}


def test_a_server_that_works_is_timed(server):
    checks = found(checks_of(server.url, server.token("ann")))
    assert {check.verdict for name, check in checks.items() if name != "stage metadata"} == {"ok"}
    assert "as ann, protocol" in checks["sockets"].found
    assert "ms (median of 5" in checks["acknowledgement"].found


def test_without_a_token_it_says_how_to_get_one_and_a_bad_one_is_said(server):
    assert "harmonia token NAME" in found(checks_of(server.url, None))["sockets"].mend
    refused = found(checks_of(server.url, "a.b.c"))["sockets"]
    assert (refused.verdict, refused.found.startswith("the token is refused")) == ("missing", True)


def test_nothing_that_listens_and_a_wrong_scheme_are_said(server):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (check,) = checks_of(f"http://127.0.0.1:{port}", None)
    assert "nothing can be reached" in check.found
    assert "harmonia serve" in check.mend
    (check,) = checks_of(server.url.replace("http:", "https:"), None)
    assert "no TLS is spoken" in check.found


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nhi", "another program ('nginx') answers"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "speaks no HTTP"),
    ],
    ids=["web server", "ssh"],
)
def test_another_program_is_recognised(answer, says):
    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        (check,) = checks_of(f"http://127.0.0.1:{listener.getsockname()[1]}", "t")
        thread.join()
    assert says in check.found
    assert check.verdict == "missing"


@pytest.mark.parametrize("url", ["", "127.0.0.1:3333", "ftp://x", "http://", "http://[::1", "http://x:99999"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(InvalidRequest, match="no server's URL"):
        checks_of(url, None)


def test_the_command_prints_the_checks_and_its_status_says_whether_all_is_well(server, harmonia):
    harmonia.environment["HARMONIA_TOKEN"] = server.token("ann")
    done = harmonia("doctor", "--url", server.url, "--json")
    assert done.returncode == 0, done.stdout
    assert {"server", "sockets", "acknowledgement"} <= {check["name"] for check in json.loads(done.stdout)["checks"]}
    done = harmonia("doctor", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "nothing can be reached" in done.stdout.decode()
