"""Which web pages and which proxies the server trusts. Clients that are no pages send no Origin.

Owns what an origin is (RFC 6454, 6.2): a scheme, a host and a port, in small letters and without the scheme's own port,
which is how browsers write it. One rule for Socket.IO and for HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from harmonia_lab.errors import InvalidRequest

__all__ = [
    "Network",
    "Origins",
    "allowed_origin",
    "is_loopback",
    "is_within",
    "normal_origin",
    "parse_networks",
    "parse_origins",
]

Network = IPv4Network | IPv6Network

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(?::(\d{1,5}))?/?")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_OWN_PORTS = {"http": 80, "https": 443}


def normal_origin(text: str) -> str | None:
    """Return an origin as a browser sends it: `https://songs.example` for `HTTPS://Songs.Example:443/`; None if `text`
    is none, because it lacks a scheme or a host, or has a user, a path or a pattern."""
    match = _ORIGIN.fullmatch(text.strip().lower())
    if match is None:
        return None
    scheme, host, port = match[1], match[2], int(match[3] or 0)
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return None
    if not _HOST.fullmatch(host) or port > 65535:
        return None
    return f"{scheme}://{host}" + (f":{port}" if port and port != _OWN_PORTS.get(scheme) else "")


def parse_origins(given: Iterable[str]) -> tuple[str, ...]:
    """Return the origins as browsers send them. Raise InvalidRequest for one that no browser sends."""
    found = []
    for text in given:
        origin = normal_origin(text)
        if origin is None:
            raise InvalidRequest(
                f"{text[:80]!r} is no web page's origin.",
                hint="Set FRONTEND_URL (or origins) to such as https://songs.example or http://localhost:4200: scheme,"
                " host and port, separated by commas. A pattern such as * can't be used, because pages send a token.",
                details={"fields": ["origins"]},
            )
        found.append(origin)
    return tuple(dict.fromkeys(found))


def allowed_origin(origin: str | None, allowed: tuple[str, ...]) -> bool:
    """Return whether a page from `origin`, the header as sent, may use the server; None: there is no such header.
    allowed: as `parse_origins` returns them; if empty, pages from this machine may, on any port."""
    found = normal_origin(origin or "")
    if found is None or allowed:
        return found in allowed
    match = _ORIGIN.fullmatch(found)
    assert match is not None
    return match[1] in _OWN_PORTS and is_loopback(match[2])


class Origins:
    """The web pages that may use a server: those of its settings, and its own page."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        """allowed: as `parse_origins` returns them."""
        self._allowed, self._own = allowed, set[str]()

    def allow_own(self, urls: Iterable[str]) -> None:
        """Allow the page that the server itself has at these URLs. They are known once it listens, and none of them is
        what a request's Host header says: to a page that has its own name lead here, the server isn't its own."""
        for url in urls:
            parts = urlsplit(url)
            self._own |= {origin for origin in [normal_origin(f"{parts.scheme}://{parts.netloc}")] if origin}
            if is_loopback(parts.hostname or ""):
                self._own.add(f"{parts.scheme}://localhost" + (f":{parts.port}" if parts.port else ""))

    def allow(self, origin: str | None) -> bool:
        """origin: the header as sent; None: there is none."""
        return allowed_origin(origin, self._allowed) or normal_origin(origin or "") in self._own


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address (IPv6 in brackets or not) can be reached from this machine alone."""
    try:
        return host.lower() == "localhost" or _address(host).is_loopback
    except ValueError:
        return False


def parse_networks(given: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks or single addresses, such as "10.0.0.0/8" or "::1". Raise InvalidRequest for another text."""
    try:
        return tuple(ip_network(text.strip(), strict=False) for text in given)
    except ValueError as error:
        raise InvalidRequest(
            f"trusted_proxies: {error}.",
            hint='Such as "10.0.0.5" or "172.16.0.0/12".',
            details={"fields": ["trusted_proxies"]},
        ) from None


def is_within(address: str | None, networks: Iterable[Network]) -> bool:
    """Return whether an address, such as a connection's peer, is in any of the networks."""
    try:
        found = _address(address or "")
    except ValueError:
        return False
    return any(found in network for network in networks if network.version == found.version)


def _address(text: str) -> IPv4Address | IPv6Address:
    """Return the address; of an IPv4 address in IPv6's form, the IPv4 address."""
    found = ip_address(text.removeprefix("[").removesuffix("]"))
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
