"""Addresses, proxies, certificates and headers, over real HTTP: what a song needs works, and what fails has a name."""

import json
import logging
import socket
import subprocess
import sys

import pytest

from harmonia_lab.errors import ErrorCode, InvalidRequest, MetadataError
from harmonia_lab.metadata_engines.ollama.connection import ServerConnection
from harmonia_lab.metadata_engines.ollama.endpoint import read_endpoint
from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings
from harmonia_lab.metadata_engines.ollama.spec import ENGINE
from harmonia_lab.testing import FakeOllama, Refusal
from tests.cli.conftest import STORY, CommandLine
from tests.metadata_engines.prompting.test_structured import SONG
from tests.metadata_engines.test_ollama import ANSWER, Run, free_address

SECRET = "s3cret"
REMOTE = "http://gpu.example:11434"


class Named(Run):
    """A song by a server that OLLAMA_HOST names, and not an argument."""

    def __init__(self, **settings):
        from harmonia_lab.engines.base import CancelToken
        from tests.metadata_engines.test_ollama import REQUEST

        self.reports = []
        self.engine = OllamaEngine(**settings)
        self.result = self.engine.write(REQUEST, 7, self.reports.append, CancelToken())


def refused(**settings):
    with pytest.raises(MetadataError) as caught:
        Named(**settings)
    assert caught.value.code == ErrorCode.OLLAMA_SETTINGS
    assert not caught.value.recoverable
    return caught.value


# --- nothing kills what needs no server

BROKEN = [
    {"OLLAMA_HOST": "::1"},
    {"OLLAMA_HOST": "localhost:abc"},
    {"OLLAMA_HOST": "http://[::1"},
    {"OLLAMA_HOST": "127.0.0.1:9/v1"},
    {"OLLAMA_HOST": f"http://ann:{SECRET}@127.0.0.1:9"},
    {"OLLAMA_HOST": f"ann:{SECRET}@127.0.0.1:port"},
    {"OLLAMA_HOST": "  127.0.0.1:9  "},
    {"OLLAMA_HOST": "127.0.0.1:9", "ALL_PROXY": "socks5h://127.0.0.1:1080"},
    {"OLLAMA_HOST": "127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "::1/128"},
    {"OLLAMA_HOST": "127.0.0.1:9", "HTTPS_PROXY": "127.0.0.1:proxy", "no_proxy": "[::1/128"},
    {"OLLAMA_HOST": "https://127.0.0.1:9", "SSL_CERT_FILE": "/nowhere/ca.pem", "SSL_CERT_DIR": "/nowhere"},
    {"OLLAMA_HOST": REMOTE, "ALL_PROXY": "socks5://127.0.0.1:1080"},
    {"OLLAMA_HOST": "127.0.0.1:9", "OLLAMA_API_KEY": "schlüssel\n"},
]


@pytest.mark.parametrize("environment", BROKEN, ids=lambda variables: " ".join(variables.values()).replace("/", "|"))
def test_the_check_of_any_surroundings_says_what_to_mend_and_shows_no_password(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check = ENGINE.check()
    assert check.verdict == "optional"
    assert check.mend
    assert SECRET not in repr(check)


EVERY = {name: value for variables in BROKEN for name, value in variables.items()} | {"OLLAMA_HOST": "localhost:abc"}


def test_doctor_and_help_work_where_every_variable_is_broken(tmp_path):
    harmonia = CommandLine(tmp_path)
    harmonia.environment |= EVERY
    checked = harmonia("doctor", "--json")
    assert checked.returncode == 0, checked.stderr.decode()
    assert "OLLAMA_HOST=localhost:abc is no address" in checked.stdout.decode()
    assert harmonia("song", "--help").returncode == 0


def test_the_embedded_engine_can_be_made_in_any_surroundings():
    """In a process of its own, since the official client reads the environment when it is imported."""
    script = f"""
import os, sys
from harmonia_lab.engine_registry import choose_metadata
for environment in {BROKEN!r}:
    for name in [n for n in sys.modules if n.startswith(("ollama", "harmonia_lab.metadata_engines.ollama"))]:
        del sys.modules[name]
    os.environ.update(environment)
    assert choose_metadata("embedded", None)[0].name == "embedded"
    assert environment.items() <= os.environ.items()
    for name in environment:
        del os.environ[name]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.stress
def test_an_embedded_song_is_made_where_every_variable_is_broken(tmp_path):
    harmonia = CommandLine(tmp_path)
    done = harmonia.process("song", STORY, "--metadata", "embedded", "--seconds", "2", "--json", **EVERY)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["engines"]["metadata"] == "embedded"


def test_a_song_that_needs_the_server_says_what_is_wrong_with_its_address(tmp_path):
    harmonia = CommandLine(tmp_path)
    harmonia.environment["OLLAMA_HOST"] = f"ann:{SECRET}@localhost:abc"
    done = harmonia("song", STORY, "--metadata", "ollama", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "OLLAMA_SETTINGS")
    assert "OLLAMA_HOST" in error["message"]
    assert SECRET not in done.stdout.decode()


# --- addresses


@pytest.mark.parametrize("form", ["  {}  ", "{}/", "{}/v1", "{}/v1/", "{}/api", "{}/v1/chat/completions"])
def test_a_song_is_made_at_an_address_in_any_usual_form(form, monkeypatch):
    with FakeOllama([ANSWER]) as server:
        monkeypatch.setenv("OLLAMA_HOST", form.format(server.url))
        run = Named()
    assert run.result.metadata.title == SONG["title"]
    assert run.result.record["host"] == server.url


def test_a_song_is_made_over_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with FakeOllama([ANSWER], host="::1") as server:
        assert Run(server).result.metadata.title == SONG["title"]


def test_user_and_password_of_an_address_go_into_a_header_and_nowhere_else(monkeypatch, caplog):
    with FakeOllama([ANSWER]) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url.replace("//", f"//ann:{SECRET}@"))
        with caplog.at_level(logging.DEBUG):
            run = Named()
            server.stop()
            with pytest.raises(MetadataError) as caught:
                Named()
    assert {headers["authorization"] for headers in server.headers} == {"Basic YW5uOnMzY3JldA=="}
    assert run.result.record["host"] == server.url
    shown = [
        run.result.record,
        run.result.transcript,
        run.reports,
        str(caught.value),
        caught.value.details,
        caplog.text,
    ]
    assert SECRET not in repr(shown)
    assert "YW5u" not in repr(shown)


def test_a_redirect_is_an_error_that_names_the_other_address():
    moved = Refusal(301, headers={"Location": f"https://ann:{SECRET}@gpu.example/api/version"})
    with FakeOllama(refusals={"/api/version": [moved]}) as server:
        error = refused(host=server.url)
    assert "https://gpu.example (HTTP 301)" in error.message
    assert SECRET not in str(error)


# --- headers


def test_headers_of_the_settings_are_sent_and_recorded_by_name_alone(tmp_path):
    (tmp_path / "key").write_text(f"X-Key: {SECRET}\n\nX-Other: 2\n")
    with FakeOllama([ANSWER]) as server:
        run = Run(server, headers=[f"@{tmp_path / 'key'}", "X-Third:3"])
    assert all((h["x-key"], h["x-other"], h["x-third"]) == (SECRET, "2", "3") for h in server.headers)
    assert run.result.record["settings"]["headers"] == ["X-Key", "X-Other", "X-Third"]
    assert SECRET not in repr(run.result)
    assert SECRET not in repr(OllamaSettings.of({"headers": {"X-Key": SECRET}}))


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, "Bearer from-the-environment"),
        ({"headers": {"authorization": "Bearer mine"}}, "Bearer mine"),
    ],
)
def test_a_key_is_taken_from_the_environment_unless_a_header_is_given(settings, sent, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "from-the-environment\n")
    with FakeOllama([ANSWER]) as server:
        Run(server, **settings)
    assert {headers["authorization"] for headers in server.headers} == {sent}


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "  "])
def test_a_key_that_no_header_can_have_is_an_error_that_names_the_variable(key, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    with FakeOllama([ANSWER]) as server:
        error = refused(host=server.url)
    assert "OLLAMA_API_KEY" in error.message
    assert key.strip() == "" or key not in str(error)


# --- certificates


def test_a_private_ca_is_a_setting(certificate):
    ca, context = certificate
    with FakeOllama([ANSWER], tls=context) as server:
        run = Run(server, ca=ca)
        run.engine.release()
    assert run.result.metadata.title == SONG["title"]
    assert server.loaded == set()


def test_a_private_ca_can_be_in_ssl_cert_file(certificate, monkeypatch):
    ca, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with FakeOllama([ANSWER], tls=context) as server:
        assert Run(server).result.metadata.title == SONG["title"]


def test_a_certificate_that_is_not_trusted_is_an_error_with_the_option_that_trusts_it(certificate):
    with FakeOllama([ANSWER], tls=certificate[1]) as server:
        error = refused(host=server.url)
        assert "not trusted" in error.message
        assert "--ollama-ca" in error.hint
        assert not server.requests


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_stale_variable_for_certificates_is_named_where_tls_needs_it_and_harmless_elsewhere(
    variable, certificate, monkeypatch, tmp_path
):
    monkeypatch.setenv(variable, str(tmp_path / "gone.pem"))
    with FakeOllama([ANSWER], tls=certificate[1]) as server:
        error = refused(host=server.url)
        assert variable in error.message
        assert "gone.pem" in error.message
        assert Run(server, ca=certificate[0]).result.metadata.title == SONG["title"]
    with FakeOllama([ANSWER]) as server:
        assert Run(server).result.metadata.title == SONG["title"]


def test_a_ca_file_that_is_none_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN NOTHING-----")
    with FakeOllama() as server:
        https = server.url.replace("http:", "https:")
        assert "can't be read" in refused(host=https, ca=tmp_path / "none.pem").message
        assert "holds no certificate" in refused(host=https, ca=tmp_path / "ca.pem").message


def test_tls_with_a_server_that_speaks_none_is_an_error_that_says_so():
    with FakeOllama() as server:
        error = refused(host=server.url.replace("http:", "https:"))
    assert "does not speak TLS" in error.message
    assert "http://" in error.hint


# --- proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_local_servers_are_reached_past_proxies(variable, monkeypatch):
    monkeypatch.setenv(variable, free_address())
    with FakeOllama([ANSWER]) as server:
        assert Run(server).result.metadata.title == SONG["title"]


@pytest.mark.parametrize(
    "environment",
    [{"HTTP_PROXY": "{}"}, {"all_proxy": "{}"}, {"HTTP_PROXY": "{}", "NO_PROXY": "::1/128,10.0.0.0/8,.other.example"}],
)
def test_a_remote_server_is_reached_through_the_proxy(environment, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", REMOTE)
    with FakeOllama([ANSWER]) as proxy:
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(proxy.url))
        run = Named()
    assert run.result.metadata.title == SONG["title"]
    assert {headers["host"] for headers in proxy.headers} == {"gpu.example:11434"}
    assert run.result.record["host"] == REMOTE


@pytest.mark.parametrize(
    ("host", "listed", "bypassed"),
    [
        ("gpu.example", "gpu.example", True),
        ("gpu.example", " other, .example ", True),
        ("gpu.example", "*.example", True),
        ("gpu.example", "*", True),
        ("gpu.example", "gpu.example:11434", True),
        ("gpu.example", "gpu.example:80", False),
        ("gpu.example", "pu.example", False),
        ("gpu.example", "::1/128,[::1/1,//,", False),
        ("203.0.114.7", "203.0.0.0/16", True),
        ("203.0.114.7", "203.1.0.0/16", False),
        ("2606:4700::1", "2606:4700::/32", True),
        ("2606:4700::1", "[2606:4700::1]", True),
        ("2606:4700::1", "203.0.0.0/16,gpu.example", False),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(host, listed, bypassed, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", listed)
    where = ServerConnection(read_endpoint(host), OllamaSettings()).where
    assert ("proxy of HTTP_PROXY" in where) is not bypassed


@pytest.mark.parametrize(
    "proxy",
    [
        f"ftp://ann:{SECRET}@proxy.example",
        f"socks4://ann:{SECRET}@proxy.example:1080",
        f"http://ann:{SECRET}@proxy:port",
        "http://",
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error_that_names_its_variable(proxy, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", REMOTE)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    error = refused()
    assert "HTTP_PROXY" in error.message
    assert SECRET not in str(error)


def test_a_socks_proxy_without_its_package_is_an_error_that_names_both(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("OLLAMA_HOST", REMOTE)
    monkeypatch.setenv("ALL_PROXY", f"socks5://ann:{SECRET}@proxy.example:1080")
    error = refused()
    assert "ALL_PROXY" in error.message
    assert "pip install socksio" in error.hint
    assert SECRET not in str(error)


def test_a_proxy_that_wants_a_sign_in_says_so(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", REMOTE)
    with FakeOllama(refusals={"/api/version": [Refusal(407)]}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        error = refused()
    assert "HTTP_PROXY" in error.message
    assert "sign-in" in error.message


def test_a_proxy_that_is_down_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", REMOTE)
    monkeypatch.setenv("HTTP_PROXY", free_address())
    with pytest.raises(MetadataError, match="through the proxy of HTTP_PROXY") as caught:
        Named()
    assert caught.value.code == ErrorCode.NETWORK_TEMPORARY


# --- settings that can't be read


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": 1}, "no setting of the ollama engine"),
        ({"timeouts": {"stall": 3}}, "have no stall"),
        ({"timeouts": "first=soon"}, "first must be seconds"),
        ({"timeouts": {"first": -1}}, "more than 0"),
        ({"timeouts": {"first": float("inf")}}, "more than 0"),
        ({"timeouts": 3}, "seconds by name"),
        ({"headers": ["X-Key"]}, "NAME:VALUE"),
        ({"headers": {"X Key": SECRET}}, "no name of a header"),
        ({"headers": {"X-Key": f"{SECRET}\nX-Other: 1"}}, "the value of X-Key"),
        ({"headers": ["@/nowhere/key"]}, "can't be read"),
        ({"think": "hard"}, "one of True, False, low"),
        ({"strategy": "best"}, "one of auto"),
        ({"options": "temperature=1"}, "options by name"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_and_a_secret_is_not_quoted(settings, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        OllamaEngine(**settings)
    assert SECRET not in str(caught.value)
    assert caught.value.details["fields"][0] == "metadata_settings"


def test_the_command_line_has_the_settings(tmp_path, certificate):
    harmonia = CommandLine(tmp_path)
    ca, context = certificate
    with FakeOllama([ANSWER], tls=context) as server:
        harmonia.environment["OLLAMA_HOST"] = server.url
        options = ("--ollama-ca", str(ca), "--ollama-header", f"X-Key: {SECRET}", "--ollama-header", "X-Other:2")
        done = harmonia("song", STORY, "--seconds", "2", "--json", *options, "--ollama-timeout", "first=33, load=44")
    assert done.returncode == 0, done.stderr.decode()
    song = json.loads(done.stdout)
    assert song["engines"]["metadata"] == "ollama"
    assert all((h["x-key"], h["x-other"]) == (SECRET, "2") for h in server.headers)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in files)
    wrong = harmonia("song", STORY, "--metadata", "ollama", "--ollama-timeout", "stall=3")
    assert wrong.returncode == 2
    assert "have no stall" in wrong.stderr.decode()
    wrong = harmonia("song", STORY, "--metadata", "embedded", "--ollama-ca", str(ca))
    assert wrong.returncode == 2
    assert "embedded engine has no settings" in wrong.stderr.decode()
