"""Settings are checked before the server listens."""

import sys

import pytest

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.settings import RateLimits, ServerSettings
from tests.server.engines import make_lab


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 65536),
        ("certificate", "a.pem"),
        ("switch_interval_s", 0),
        ("max_connections", 0),
        ("link_ttl_s", -1),
        ("rates", RateLimits(messages=(0, 10))),
        ("rates", RateLimits(starts=(1.0, -1))),
        ("public_url", "javascript:alert(1)"),
        ("owner_key", "short"),
        ("owner_key", "zz" * 32),
        ("origins", ("*",)),
        ("origins", ("https://songs.example", "localhost:4200")),
        ("origins", ("https://songs.example/page",)),
        ("origins", ("https://*.songs.example",)),
        ("trusted_proxies", ("the proxy",)),
        ("audit_bytes", 0),
        ("audit_files", -1),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(field, value):
    with pytest.raises(InvalidRequest) as caught:
        ServerSettings(**{field: value})
    assert caught.value.details == {"fields": [field]}


def test_a_setting_that_cannot_be_used_leaves_no_server_behind(tmp_path):
    before = sys.getswitchinterval()
    with make_lab(tmp_path) as lab:
        with pytest.raises(InvalidRequest):
            lab.serve(port=0, switch_interval_s=-1)
        assert lab.server is None
    assert sys.getswitchinterval() == before


def test_the_defaults_can_be_used():
    assert ServerSettings(switch_interval_s=None, owner_key="00" * 32, public_url="https://songs.example").loopback


def test_the_production_figures_are_the_guides():
    settings = ServerSettings()
    assert (settings.port, settings.ping_interval_s, settings.ping_timeout_s) == (3333, 25, 60)
    assert (settings.connect_timeout_s, settings.progress_interval_s) == (20, 0.1)


def test_a_page_that_no_browser_names_so_is_refused_with_an_error_and_not_in_silence(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTEND_URL", "*")
    with make_lab(tmp_path) as lab, pytest.raises(InvalidRequest, match="no web page's origin") as caught:
        lab.serve(port=0)
    assert "FRONTEND_URL" in caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "songs.example"])
def test_beyond_this_machine_it_starts_only_encrypted_or_where_somebody_says_so(host, tmp_path):
    with make_lab(tmp_path) as lab:
        with pytest.raises(InvalidRequest, match="nothing would be encrypted") as caught:
            lab.serve(port=0, host=host)
        assert lab.server is None
    assert "insecure" in caught.value.details["fields"]
    ServerSettings(host=host, insecure=True).check_encryption()
    ServerSettings(host=host, trusted_proxies=("10.0.0.5",)).check_encryption()
    ServerSettings(host=host, certificate="a.pem", private_key="b.pem").check_encryption()


def test_behind_a_trusted_proxy_only_that_and_this_machine_may_come_unencrypted():
    behind = ServerSettings(host="0.0.0.0", trusted_proxies=("10.0.0.5", "172.16.0.0/12", "fd00::/8"))
    for peer in ("10.0.0.5", "::ffff:10.0.0.5", "172.17.0.2", "fd00::1", "127.0.0.1", "::1"):
        assert behind.is_encrypted_from(peer), peer
    for peer in ("10.0.0.6", "172.32.0.1", "fe80::1", "", None, "not an address"):
        assert not behind.is_encrypted_from(peer), peer
    assert ServerSettings(host="0.0.0.0", insecure=True).is_encrypted_from("203.0.113.9")
