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
