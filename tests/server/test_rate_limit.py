"""Token buckets and signed download URLs."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from harmonia_lab.server import rate_limit
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.signed_urls import SignedUrls, _signature


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_burst_is_let_through_then_so_many_a_second_each_for_himself():
    clock = Clock()
    bucket = TokenBucket(2.0, 3, clock)
    assert [bucket.take("ann") for _ in range(4)] == [True, True, True, False]
    assert bucket.take("bob")
    clock.now = 1.0
    assert [bucket.take("ann") for _ in range(3)] == [True, True, False]
    clock.now = 100.0
    assert [bucket.take("ann") for _ in range(4)] == [True, True, True, False]


def test_who_is_back_at_a_full_allowance_is_forgotten(monkeypatch):
    monkeypatch.setattr(rate_limit, "PRUNE_AT", 10)
    clock = Clock()
    bucket = TokenBucket(1.0, 1, clock)
    for number in range(10):
        bucket.take(number)
    clock.now = 5.0
    bucket.take("new")
    assert list(bucket._levels) == ["new"]


def opened(urls, url, path=None):
    parts = urlsplit(url)
    return urls.reader_of(path or parts.path, dict(parse_qsl(parts.query)))


ANN = Identity("ann & bob\n=", (), 0.0, token_id="t", issued_at=0.1 + 0.2)


def test_a_link_opens_its_path_for_its_reader_until_it_expires():
    clock = Clock()
    urls = SignedUrls(lambda: (bytes(32),), 60, clock)
    url = urls.sign("/a/b", ANN)
    reader = opened(urls, url)
    assert (reader.user, reader.roles, reader.token_id, reader.issued_at) == (ANN.user, (), "t", ANN.issued_at)
    assert opened(urls, url, "/a/c") is None
    assert opened(SignedUrls(lambda: (bytes(31) + b"x",), 60, clock), url) is None
    assert opened(urls, url.replace("jti=t", "jti=u")) is None
    assert opened(urls, url + "&role=admin") is None
    assert opened(urls, urls.sign("/a/b", Identity("root", ("admin", "x"), 0.0))).roles == ("admin",)
    clock.now = 61.0
    assert opened(urls, url) is None


@pytest.mark.parametrize("query", ["", "signature=%FF", "signature=x&user=\udcff", "expires=x&issued=y&signature=0"])
def test_a_link_that_is_none_opens_nothing(query):
    assert opened(SignedUrls(lambda: (bytes(32),), 60, Clock()), f"/a?{query}") is None


def test_fields_of_a_link_cannot_be_shifted_into_each_other():
    fields = dict.fromkeys(("role", "jti", "issued", "expires"), "")
    one = _signature(bytes(32), "/a", fields | {"user": "b\n1", "role": "2"})
    assert one != _signature(bytes(32), "/a", fields | {"user": "b", "role": "1\n2"})
