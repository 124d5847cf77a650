"""The settings of a server. The defaults are the guide's production settings.

Owns names, units and ranges, and which defaults come from the environment. It starts nothing.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.server.origins import Network, is_loopback, is_within, parse_networks, parse_origins

__all__ = ["RateLimits", "ServerSettings", "server_url"]


@dataclass(frozen=True)
class RateLimits:
    """Each is (per second on average, at once). connections: from one address. messages: from one socket, or from one
    user over HTTP. starts: songs that one user starts or retries. costs: of one user, over all sockets and HTTP: a
    message costs 1, and 1 more for each 4 KiB of it or of its answer. uploads: sounds of one user."""

    connections: tuple[float, int] = (100.0, 2000)
    messages: tuple[float, int] = (50.0, 500)
    starts: tuple[float, int] = (1.0, 20)
    costs: tuple[float, int] = (200.0, 2000)
    uploads: tuple[float, int] = (0.2, 20)


def _frontend_origins() -> tuple[str, ...]:
    return tuple(o.strip() for o in os.environ.get("FRONTEND_URL", "").split(",") if o.strip())


def server_url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


LOG_FORMATS = ("text", "json")


def _is_web_address(url: str) -> bool:
    try:
        return url.startswith(("http://", "https://")) and bool(urlsplit(url).hostname)
    except ValueError:
        return False


_POSITIVE = (
    "ping_interval_s",
    "ping_timeout_s",
    "connect_timeout_s",
    "max_message_bytes",
    "max_connections",
    "link_ttl_s",
    "switch_interval_s",
    "audit_bytes",
    "max_connections_per_address",
    "max_sockets_per_user",
    "read_timeout_s",
    "idle_timeout_s",
    "room_kept_s",
    "failed_room_kept_s",
    "max_sound_bytes",
    "user_sound_bytes",
)


@dataclass(frozen=True)
class ServerSettings:
    """host, port: the address to listen on; port 0 lets the system choose. public_url: the URL by which clients reach
    the server, if it differs (through a proxy, say). path: Socket.IO's path.

    certificate, private_key: PEM files; with them, the server speaks TLS. origins: web pages that may use the server
    (default: FRONTEND_URL, comma-separated; if that is unset, pages from this machine, on any port). The files are read
    again when they change.

    key: a file with the HMAC key that signs tokens (default: HARMONIA_TOKEN_KEY, or `token.key` in the state folder).
    public_keys: a PEM or JWKS file; with it, tokens are RS256 and another service issues them. audience, issuer: the
    claims that a token must have.

    ping_interval_s, ping_timeout_s, connect_timeout_s: seconds. max_message_bytes: of one message from a client; a
    narrative and given lyrics of full length need that much where a client escapes every character.
    compression: compress websocket frames; at these sizes it costs more than it saves. http_compression: compress
    polling and HTTP. progress_interval_s: the least time between two progress events of one generation. fast_broadcast:
    write finished frames to idle websockets, if the installed Engine.IO is a version with which that was tested.
    max_connections: sockets at the same time. link_ttl_s: seconds that a download URL works.
    switch_interval_s: how soon the interpreter switches to the server's thread while a cell computes; it applies to the
    whole process while the server runs. None leaves Python's own.
    owner_key: at least 32 random bytes, in hex. A token signed with it is that of the process that started the server;
    its songs don't count towards the limits on clients. For a process that starts a server and is its client.
    insecure: listen beyond this machine without TLS, so that tokens and stories can be read on the way.
    trusted_proxies: addresses or networks of the proxies whose X-Forwarded-For is believed. In front of a server
    without a certificate they speak TLS, and it refuses whoever comes from another machine by himself.
    audit: whether connections, commands and calls are logged, in `audit.jsonl` of the state folder or in this file.
    None: as `harmonia serve` (yes) and `lab.serve` (no) have it. audit_bytes: size at which that file is rotated.
    audit_files: how many full ones are kept.

    max_connections_per_address: TCP connections of one address; those of this machine and of trusted proxies count only
    towards the cap in all. max_sockets_per_user: sockets of one user at the same time.
    read_timeout_s: seconds for a TLS handshake, for the head of the first request, and for a body. idle_timeout_s:
    seconds that a connection may be kept between two requests.
    room_kept_s: seconds after a generation's end at which the server takes the sockets out of its room.
    failed_room_kept_s: the same after a failure that a retry may mend.
    max_sound_bytes: of one uploaded sound. user_sound_bytes: of all that one user has here. They are deleted seven days
    after a song last named them.
    webhook: a URL to which defects, full disks and quarantined generations are posted, as codes and ids without words.
    log_format: of `harmonia serve` on standard error: "text", or "json" for an object a line.
    page: answer `/` with the page for a browser, which may then use the server from there whatever `origins` says.
    """

    host: str = "127.0.0.1"
    port: int = 3333
    public_url: str | None = None
    path: str = "socket.io"
    certificate: Path | str | None = None
    private_key: Path | str | None = None
    origins: tuple[str, ...] = field(default_factory=_frontend_origins)
    key: Path | str | None = field(default_factory=lambda: os.environ.get("HARMONIA_TOKEN_KEY"))
    public_keys: Path | str | None = None
    audience: str = "harmonia-lab"
    issuer: str = "harmonia-lab"
    ping_interval_s: float = 25.0
    ping_timeout_s: float = 60.0
    connect_timeout_s: float = 20.0
    max_message_bytes: int = 512 * 1024
    compression: bool = False
    http_compression: bool = True
    progress_interval_s: float = 0.1
    fast_broadcast: bool = True
    max_connections: int = 10_000
    link_ttl_s: float = 3600.0
    # With a cell busy in pure Python, a join is answered after 4 ms (p99 17) instead of 20 (70) at Python's own 5 ms;
    # the cell takes 1.01 times its processor time and 1.03 times as long: benchmarks/kernel-cpu-2026-11-23.json.
    switch_interval_s: float | None = 0.0005
    owner_key: str | None = field(default=None, repr=False, compare=False)
    queue: QueueLimits = field(default_factory=QueueLimits)
    rates: RateLimits = field(default_factory=RateLimits)
    insecure: bool = False
    trusted_proxies: tuple[str, ...] = ()
    audit: bool | Path | str | None = None
    audit_bytes: int = 10_000_000
    audit_files: int = 5
    max_connections_per_address: int = 500
    max_sockets_per_user: int = 100
    read_timeout_s: float = 20.0
    idle_timeout_s: float = 75.0
    room_kept_s: float = 600.0
    failed_room_kept_s: float = 3600.0
    max_sound_bytes: int = 32 * 2**20
    user_sound_bytes: int = 256 * 2**20
    webhook: str | None = field(default=None, repr=False)
    log_format: str = "text"
    page: bool = True

    def __post_init__(self) -> None:
        """Write origins as browsers do. Raise InvalidRequest for a value out of range."""
        object.__setattr__(self, "origins", parse_origins(self.origins))
        parse_networks(self.trusted_proxies)
        if self.audit_files < 0:
            raise InvalidRequest("audit_files must be 0 or more.", details={"fields": ["audit_files"]})
        if not 0 <= self.port <= 65535:
            raise InvalidRequest(f"port {self.port} is not in 0…65535.", details={"fields": ["port"]})
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidRequest("certificate and private_key belong together.", details={"fields": ["certificate"]})
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidRequest(f"{name} must be more than 0.", details={"fields": [name]})
        for name, (rate, burst) in vars(self.rates).items():
            if not (rate > 0 and burst >= 0):
                raise InvalidRequest(
                    f"rates.{name} must be more than 0 a second, and 0 or more at once.", details={"fields": ["rates"]}
                )
        self._check_words()
        if self.owner_key is not None and not re.fullmatch(r"([0-9A-Fa-f]{2}){32,}", self.owner_key):
            raise InvalidRequest("owner_key must be at least 32 bytes, in hex.", details={"fields": ["owner_key"]})

    def _check_words(self) -> None:
        for name in ("public_url", "webhook"):
            if (url := getattr(self, name)) is not None and not _is_web_address(url):
                raise InvalidRequest(f"{name} must be http:// or https://, with a host.", details={"fields": [name]})
        if self.log_format not in LOG_FORMATS:
            raise InvalidRequest(
                f"log_format must be one of {', '.join(LOG_FORMATS)}.", details={"fields": ["log_format"]}
            )

    @property
    def scheme(self) -> str:
        return "https" if self.certificate is not None else "http"

    def url(self, port: int | None = None) -> str:
        """Return the URL that clients are told. port: the one that the system chose, of `port` 0."""
        return self.public_url or server_url(self.scheme, self.host, self.port if port is None else port)

    @property
    def max_tcp_connections(self) -> int:
        """TCP connections at the same time: a client that polls has two, and downloads have their own."""
        return 2 * self.max_connections + 100

    @property
    def loopback(self) -> bool:
        """Whether the server can be reached from this machine alone."""
        return is_loopback(self.host)

    def page_at(self, url: str) -> str:
        """Return the page's address, without a token, of a server at `url`. Raise InvalidRequest if it has none."""
        if not self.page:
            raise InvalidRequest("This server has no page: it was started without one.", details={"fields": ["page"]})
        return f"{url.rstrip('/')}/"

    def check_encryption(self) -> None:
        """Raise InvalidRequest if the server would listen beyond this machine, unencrypted and without `insecure`."""
        if self.loopback or self.certificate is not None or self.insecure or self.trusted_proxies:
            return
        raise InvalidRequest(
            f"A server at {self.host} can be reached from other machines, and nothing would be encrypted: tokens and"
            " stories could be read on the way.",
            hint="Give it a certificate and a private key. Behind a proxy that speaks TLS, give the proxy's address"
            " (trusted_proxies, --trusted-proxy). On a network that you trust: insecure=True, --insecure.",
            details={"fields": ["certificate", "insecure", "trusted_proxies"]},
        )

    def is_encrypted_from(self, peer: str | None) -> bool:
        """Return whether requests of a connection's peer, an address, come encrypted, or need not."""
        if self.certificate is not None or self.insecure or self.loopback:
            return True
        return is_loopback(peer or "") or is_within(peer, self._proxies)

    @functools.cached_property
    def _proxies(self) -> tuple[Network, ...]:
        return parse_networks(self.trusted_proxies)
