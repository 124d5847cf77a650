"""The address of an Ollama server. Owns the reading of OLLAMA_HOST (not proxies and certificates: `connection.py`)."""

from __future__ import annotations

import base64
import ipaddress
import os
import urllib.parse
from dataclasses import dataclass, field

from harmonia_lab.errors import ErrorCode, MetadataError

__all__ = ["HOST_VARIABLE", "Endpoint", "is_elsewhere", "is_host_given", "read_endpoint", "without_userinfo"]

HOST_VARIABLE = "OLLAMA_HOST"
DEFAULT_HOST = "http://127.0.0.1:11434"

OTHER_APIS = ("/v1/chat/completions", "/api/chat", "/api/generate", "/v1", "/api")
"""Ends of a path that other tools want in an address, and Ollama's own client does not."""


@dataclass(frozen=True)
class Endpoint:
    """An address. url: without user and password. authorization: the header made of those, or None."""

    url: str
    authorization: str | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        return urllib.parse.urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urllib.parse.urlsplit(self.url).port or 0

    @property
    def is_local(self) -> bool:
        """Whether it is this machine or its network: a loopback or private address, or a name without a domain."""
        try:
            address = ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return "." not in self.host.rstrip(".") or self.host.endswith((".local", ".localhost"))
        return address.is_loopback or address.is_private or address.is_link_local


def is_elsewhere(where: str) -> bool:
    """Return whether an address of a server, as messages have it, is another machine's: not of loopback."""
    host = urllib.parse.urlsplit(where.partition(" ")[0]).hostname or ""
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


def is_host_given(host: str | None = None) -> bool:
    """Return whether a person named a server: as `host`, or by OLLAMA_HOST."""
    return bool((host or os.environ.get(HOST_VARIABLE) or "").strip())


def read_endpoint(host: str | None = None) -> Endpoint:
    """Return the server that `host` or OLLAMA_HOST means, as the official client reads it: ":11500", "http://…".

    Beyond that client, an IPv6 address needs no brackets, and the path of another API (`/v1`) is left out.
    Raises MetadataError (OLLAMA_SETTINGS) for a text that is no address.
    """
    given = (host or os.environ.get(HOST_VARIABLE) or "").strip()
    text = (given or DEFAULT_HOST).rstrip("/")
    scheme, separator, rest = text.rpartition("://")
    scheme = scheme.lower() if separator else "http"
    try:
        parts = urllib.parse.urlsplit(f"{scheme}://{_bracketed(rest)}")
        name, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError as error:
        raise _no_address(given, str(error), from_environment=host is None) from None
    if scheme not in ("http", "https"):
        raise _no_address(given, f"its scheme is {scheme!r}, not http or https", from_environment=host is None)
    if any(c.isspace() or not c.isprintable() for c in name + parts.path):
        raise _no_address(given, "it has spaces inside", from_environment=host is None)
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - a server listens there, no client connects
    port = port or (11434 if not separator else {"https": 443}.get(scheme, 80))
    path = parts.path.rstrip("/")
    path = next((path.removesuffix(end) for end in OTHER_APIS if path.endswith(end)), path)
    url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}{path}"
    return Endpoint(url, _basic(parts.username, parts.password))


def without_userinfo(url: str) -> str:
    """Return a URL for messages: without user and password, query and fragment. It need not be a correct one."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0].partition("#")[0]


def _bracketed(rest: str) -> str:
    """Return `rest` (what follows the scheme) with brackets around an IPv6 address that has none."""
    authority, slash, path = rest.partition("/")
    user, at, address = authority.rpartition("@")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return rest
    return f"{user}{at}[{address}]{slash}{path}"


def _basic(user: str | None, password: str | None) -> str | None:
    if not user and not password:
        return None
    plain = f"{urllib.parse.unquote(user or '')}:{urllib.parse.unquote(password or '')}"
    return f"Basic {base64.b64encode(plain.encode()).decode()}"


def _no_address(given: str, why: str, *, from_environment: bool) -> MetadataError:
    # A reason from the standard library may quote the text; with a user in it, the text is a secret.
    shown = without_userinfo(given)
    reason = why if "@" not in given else "it can't be read"
    source = f"{HOST_VARIABLE}={shown}" if from_environment else repr(shown)
    return MetadataError(
        f"{source} is no address of an Ollama server: {reason}.",
        code=ErrorCode.OLLAMA_SETTINGS,
        hint=f"Write {'it' if from_environment else 'the host'} as 192.168.1.5:11434, [::1]:11434 or https://gpu.example.",
        details={"fields": [HOST_VARIABLE if from_environment else "host"]},
    )
