"""The address of a client: of the connection, or the one that a trusted proxy names.

Owns who is believed: `X-Forwarded-For` counts only where the connection comes from one of `trusted_proxies`, and only
from its right end, up to the first address that is no trusted proxy itself. What stands further left is the client's
own word.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

from harmonia_lab.errors import InvalidRequest

__all__ = ["ClientAddresses"]

MAX_HOPS = 20
"""Addresses of `X-Forwarded-For` that are looked at."""


class ClientAddresses:
    """`of(request)` is a client's address as text."""

    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        """trusted_proxies: addresses and networks, such as "10.0.0.0/8". Raise InvalidRequest for anything else."""
        try:
            self._trusted = [ip_network(proxy, strict=False) for proxy in trusted_proxies]
        except ValueError as error:
            raise InvalidRequest(
                f"trusted_proxies: {error}.",
                hint='Give addresses or networks, such as "127.0.0.1" or "10.0.0.0/8".',
                details={"fields": ["trusted_proxies"]},
            ) from None

    def of(self, request: web.Request) -> str:
        address = _address(request.remote or "")
        if address is None or not self._is_trusted(address):
            return request.remote or ""
        named = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        for text in reversed(named[-MAX_HOPS:]):
            hop = _address(text)
            if hop is None:
                break
            address = hop
            if not self._is_trusted(hop):
                break
        return str(address)

    def is_limited(self, address: str) -> bool:
        """Return whether the connections of an address are limited by themselves.

        Those of this machine and of trusted proxies are not: they are many clients', or nobody else's.
        """
        parsed = _address(address)
        return parsed is not None and not parsed.is_loopback and not self._is_trusted(parsed)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == network.version and address in network for network in self._trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in `1.2.3.4`, `1.2.3.4:5678`, `::1` or `[::1]:5678`; None for anything else."""
    text = text.strip().strip('"')[:64]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
