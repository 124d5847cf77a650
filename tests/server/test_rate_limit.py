"""Token buckets and signed download URLs."""

from urllib.parse import parse_qsl, urlsplit

from harmonia_lab.server import rate_limit
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.signed_urls import SignedUrls


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
    return urls.user_of(path or parts.path, dict(parse_qsl(parts.query)))


def test_a_link_opens_its_path_for_its_user_until_it_expires():
    clock = Clock()
    urls = SignedUrls(bytes(32), 60, clock)
    url = urls.sign("/a/b", "ann & bob\n=")
    assert opened(urls, url) == "ann & bob\n="
    assert opened(urls, url, "/a/c") is None
    assert opened(SignedUrls(bytes(31) + b"x", 60, clock), url) is None
    clock.now = 61.0
    assert opened(urls, url) is None


def test_fields_of_a_link_cannot_be_shifted_into_each_other():
    urls = SignedUrls(bytes(32), 60, Clock())
    assert urls._signature("/a", "b\n1", "2") != urls._signature("/a", "b", "1\n2")
