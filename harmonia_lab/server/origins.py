"""Which web pages may use the server: one rule for Socket.IO and for HTTP. Clients that are no pages send no Origin."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["allowed_origin", "is_loopback"]


def allowed_origin(origin: str, allowed: tuple[str, ...]) -> bool:
    """Return whether a page from `origin`, the header as sent, may use the server. allowed: origins such as
    `https://songs.example`; if empty, pages from this machine may, on any port."""
    if allowed:
        return origin in allowed
    try:
        parts = urlsplit(origin)
        host = parts.hostname
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and is_loopback(host or "")


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address can be reached from this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
