"""Where a lab's songs are made, if not on this machine: the server's address, token and trust.

Owns the names of the environment's variables, what may stand in an address, and whether a lab follows the environment.
Imports nothing heavy: every lab asks it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    import ssl

__all__ = ["CA", "SERVER", "TOKEN", "RemoteAddress", "ServerToken", "remote_address"]

SERVER, TOKEN, CA = "HARMONIA_SERVER", "HARMONIA_TOKEN", "HARMONIA_CA"
"""Variables of the environment."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

ServerToken = str | Callable[[], str]
"""A token, or a function that returns one, which is called again for each connection and when a token expires."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteAddress:
    """url: scheme, host, port and a proxy's path, without credentials. ca: certificates (PEM) to trust instead of the
    system's."""

    url: str
    token: Callable[[], str] = field(repr=False)
    ca: Path | None = None

    @property
    def proxied(self) -> bool:
        """Whether the environment's proxies are used: none leads to loopback."""
        return urlsplit(self.url).hostname not in LOOPBACK

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What is trusted; None without TLS. Raises InvalidRequest for a `ca` that can't be used."""
        if not self.url.startswith("https:"):
            return None
        import ssl  # noqa: PLC0415 - 5 ms, and few labs are elsewhere

        try:
            return ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(
                f"The certificates in {self.ca} cannot be used: {error}.",
                hint="Name a PEM file of the authority that signed the server's certificate.",
                details={"fields": ["ca"]},
            ) from None


def remote_address(
    server: str | None, token: ServerToken | None, ca: Path | str | None, engines: Mapping[str, Any]
) -> RemoteAddress | None:
    """Return the address of the server that makes a lab's songs; None for this machine.

    server: as `Lab` takes it; None: the environment's, unless `engines`, the lab's parameters, name what no server
    takes: then the songs are made here, and a warning says so. Raises InvalidRequest.
    """
    given = server is not None
    server = server if server is not None else os.environ.get(SERVER, "")
    if not server:
        return None
    fault = own_engines(engines)
    if fault and not given:
        _log.warning("%s is set, but this lab has %s, which no server takes: its songs are made here.", SERVER, fault)
        return None
    if fault:
        raise InvalidRequest(
            f"A server's songs are made with its own engines: it can't take {fault}.",
            hint="Leave it out, or make the songs on this machine: Lab(server='').",
            details={"fields": ["server"]},
        )
    return RemoteAddress(_checked(server), _token(token), _ca(ca))


def own_engines(engines: Mapping[str, Any]) -> str:
    """Return what of a lab's parameters can't be a server's, in words; "" if all can."""
    for stage in ("metadata", "audio"):
        if not isinstance(engines[stage], str):
            return f"the {stage} engine, an object of this process"
    for name in ("metadata_settings", "audio_settings"):
        if engines[name]:
            return f"{name} ({', '.join(engines[name])})"
    model = engines["audio_model"]
    if model is not None and (not isinstance(model, str) or Path(model).expanduser().is_dir()):
        return f"audio_model={str(model)!r}, a folder of this machine"
    return ""


def _checked(server: str) -> str:
    """Return the address without a slash at its end. Errors don't repeat it: it may hold a password."""
    try:
        parts = urlsplit(server.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = SplitResult("", "", "", "", ""), False
    if usable and (parts.username is not None or parts.password is not None or parts.query or parts.fragment):
        raise InvalidRequest(
            f"The server's address at {parts.hostname} has more than scheme, host, port and path.",
            hint=f"Give the token as token=, or {TOKEN}.",
            details={"fields": ["server"]},
        )
    if not usable:
        raise InvalidRequest(
            "That is no server's address.", hint="Write it as https://gpu.example:3333.", details={"fields": ["server"]}
        )
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        _log.warning("Nothing is encrypted on the way to %s, the token included.", parts.hostname)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _token(given: ServerToken | None) -> Callable[[], str]:
    """Return the function that returns the token. The environment is read anew, where a newer one may stand."""

    def token() -> str:
        found = given() if callable(given) else given or os.environ.get(TOKEN, "")
        if not found:
            raise InvalidRequest(
                "The server wants a token.",
                hint=f"Give token=, or set {TOKEN}: on the server's machine, harmonia token NAME prints one.",
                details={"fields": ["token"]},
            )
        return found.strip()

    return token


def _ca(given: Path | str | None) -> Path | None:
    found = given or os.environ.get(CA)
    return None if not found else Path(found).expanduser()
