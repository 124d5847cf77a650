"""Addresses mean what they mean to the official client."""

import pytest

from harmonia_lab.metadata_engines.ollama.endpoint import server_address


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
        (" gpu.example ", "http://gpu.example:11434"),
    ],
)
def test_a_host_becomes_an_address(host, url):
    assert server_address(host) == url


def test_without_a_host_the_environment_decides(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "gpu.example")
    assert server_address() == "http://gpu.example:11434"
    monkeypatch.delenv("OLLAMA_HOST")
    assert server_address() == "http://127.0.0.1:11434"
