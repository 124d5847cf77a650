"""Which web pages may use the server. One rule for Socket.IO and for HTTP; who is no web page is not concerned."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["allowed_origin"]


def allowed_origin(origin: str, allowed: tuple[str, ...]) -> bool:
    """origin: the header as sent. allowed: origins such as `https://songs.example`; where there are none, pages from
    this machine, on any port."""
    if allowed:
        return origin in allowed
    try:
        parts = urlsplit(origin)
        host = parts.hostname
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
