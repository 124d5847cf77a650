"""Addresses mean what they mean to the official client."""

import pytest

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.ollama.endpoint import read_endpoint, without_userinfo


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.0.0.5", "http://10.0.0.5:11434"),
        (":11500", "http://127.0.0.1:11500"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("gpu.example:1234/ollama/", "http://gpu.example:1234/ollama"),
        ("http://gpu.example", "http://gpu.example:80"),
        ("https://gpu.example", "https://gpu.example:443"),
        ("[::1]:11434", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("http://::1", "http://[::1]:80"),
        ("fe80::1/ollama", "http://[fe80::1]:11434/ollama"),
        ("::", "http://[::1]:11434"),
        ("localhost:11434/v1", "http://localhost:11434"),
        ("https://gpu.example/ollama/v1/", "https://gpu.example:443/ollama"),
        ("http://gpu.example/v1/chat/completions", "http://gpu.example:80"),
        ("http://gpu.example/api", "http://gpu.example:80"),
        ("ann:s3cret@gpu.example", "http://gpu.example:11434"),
        ("HTTPS://GPU.example", "https://gpu.example:443"),
        (" gpu.example ", "http://gpu.example:11434"),
    ],
)
def test_a_host_becomes_an_address(host, url):
    assert read_endpoint(host).url == url


def test_without_a_host_the_environment_decides(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "gpu.example")
    assert read_endpoint().url == "http://gpu.example:11434"
    monkeypatch.delenv("OLLAMA_HOST")
    assert read_endpoint().url == "http://127.0.0.1:11434"


@pytest.mark.parametrize(
    "host", ["localhost:abc", "localhost:99999", "ftp://gpu.example", "http://[::1", "gpu .example", "http://a b/c"]
)
def test_what_is_no_address_is_an_error_that_names_the_variable(host, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(MetadataError, match="OLLAMA_HOST=") as caught:
        read_endpoint()
    assert caught.value.code == ErrorCode.OLLAMA_SETTINGS
    assert caught.value.details == {"fields": ["OLLAMA_HOST"]}


@pytest.mark.parametrize(
    "host",
    ["ann:s3cret@gpu.example:port", "http://ann:s3cret@[gpu", "ann:s3/cret@gpu", "ftp://ann:s3cret@gpu", "s3cret:@a b"],
)
def test_a_password_is_in_no_message(host):
    with pytest.raises(MetadataError) as caught:
        read_endpoint(host)
    assert "s3" not in str(caught.value)
    assert "ann" not in str(caught.value)


def test_user_and_password_become_a_header():
    endpoint = read_endpoint("http://ann:s%40c@gpu.example")
    assert endpoint.authorization == "Basic YW5uOnNAYw=="
    assert "YW5u" not in repr(endpoint)
    assert without_userinfo("http://ann:s@gpu.example/x?key=1") == "http://gpu.example/x"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.7", True),
        ("::1", True),
        ("192.168.1.5", True),
        ("10.0.0.5", True),
        ("gpu", True),
        ("gpu.local", True),
        ("gpu.example", False),
        ("203.0.114.7", False),
        ("2606:4700::1", False),
    ],
)
def test_a_server_of_this_machine_or_its_network_is_local(host, local):
    assert read_endpoint(host).is_local == local
