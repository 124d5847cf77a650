"""The connection to the Redis that several servers share: its address, its errors as ours, and what it promises.

Owns credentials: they are in the URL that is given, and in no message, log line or `repr`. It also owns which addresses
are refused. `scripts.lua` has what changes data there; the modules beside this one call it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from harmonia_lab.errors import ErrorCode, InvalidRequest, StorageError

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["PREFIX", "RedisConnection", "check_redis_url", "describe_redis_url"]

PREFIX = "harmonia:"
"""Of every key."""

ANSWER_S = 1.0
"""Seconds that Redis has to answer: events wait no longer, and are written later."""

CONNECT_S = 1.0

_log = logging.getLogger(__name__)


def describe_redis_url(url: str) -> str:
    """Return the URL without user, password and query, for messages."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "the Redis"
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path.rstrip('/')}"


def check_redis_url(url: str) -> str:
    """Return the URL as the client takes it.

    Raise InvalidRequest, which doesn't repeat it, if it is none, or would send everything in the clear to another
    machine, unless it ends with `?insecure=yes`.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    unix = parts.scheme == "unix" and bool(parts.path)
    if not unix and not (parts.scheme in ("redis", "rediss") and host):
        raise _unusable(
            "The address of Redis is not redis://…, rediss://… or unix://….",
            "Write rediss://:PASSWORD@redis.example:6379/0.",
        )
    if not unix and not parts.path.strip("/").isdigit() and parts.path.strip("/"):
        raise _unusable(
            f"{describe_redis_url(url)} names no database.", "End it with a number, such as /0, or with none."
        )
    query = parse_qsl(parts.query, keep_blank_values=True)
    allowed = ("insecure", "yes") in query
    if parts.scheme == "redis" and not (_is_here(host or "") or allowed):
        raise _unusable(
            f"{describe_redis_url(url)} is another machine, and nothing would be encrypted: stories and the password"
            " could be read on the way.",
            "Use rediss:// (TLS). On a network that you trust, end the address with ?insecure=yes.",
        )
    if unix and not query:
        return url
    kept = [(name, value) for name, value in query if name != "insecure"]
    return urlunsplit(parts._replace(query=urlencode(kept, quote_via=quote)))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _unusable(message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, hint=hint, details={"fields": ["redis"]})


def _check_trust(file: str | None) -> None:
    """Raise InvalidRequest for certificates that can't be used: the client library says that Redis is away."""
    try:
        if file:
            ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(
            f"The certificates in {file} cannot be used: {error.strerror or type(error).__name__}.",
            "Name a PEM file of the authority that signed Redis's certificate.",
        ) from None


class RedisConnection:
    """Every method may be called from any thread, but none that asks Redis from an event loop."""

    in_a_loop: Callable[[], None] = staticmethod(lambda: None)
    """Called when an event loop would be held up by a question to Redis: a test sets it, to find such a call."""

    def __init__(self, url: str) -> None:
        """Raise InvalidRequest for an address that can't be used, or without the client library. Nothing is asked
        yet."""
        checked = check_redis_url(url)
        self.label = describe_redis_url(url)
        """The address, without credentials."""
        try:
            import redis  # noqa: PLC0415 - loads where several servers share a Redis
        except ImportError:
            raise InvalidRequest(
                "Redis needs the package redis.",
                hint="pip install 'harmonia-lab[redis]'",
                details={"fields": ["redis"]},
            ) from None
        self._errors, self._closed = redis.exceptions, False
        self._answered = False
        """Whether Redis has ever answered: until then, a wrong scheme is thought of."""
        self._url = checked
        try:
            self.client = self.new_client(ANSWER_S)
        except (ValueError, TypeError):
            raise _unusable(f"The address {self.label} has an option that can't be used.", "Leave it out.") from None
        database = self.client.connection_pool.connection_kwargs.get("db", 0)
        _check_trust(self.client.connection_pool.connection_kwargs.get("ssl_ca_certs"))
        self.hints = f"{PREFIX}{database}:hints"
        """The channel on which each change is announced: a hint to read, no more."""
        self.volatile = f"{PREFIX}{database}:volatile"
        """Head of the servers' channels of what may be lost: progress, previews, spent tokens of rate limits."""
        text = importlib.resources.files(__package__).joinpath("scripts.lua").read_text(encoding="utf-8")
        self._script = self.client.register_script(text)

    def new_client(self, answer_s: float) -> Redis:
        """Return a client with connections of its own. answer_s: seconds that Redis has to answer."""
        import redis  # noqa: PLC0415 - as above
        from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
        from redis.retry import Retry  # noqa: PLC0415 - as above

        return redis.Redis.from_url(
            self._url,
            decode_responses=True,
            socket_timeout=answer_s,
            socket_connect_timeout=CONNECT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # an answer that was lost is no reason to write twice
            protocol=2,
        )

    def __repr__(self) -> str:
        return f"RedisConnection({self.label})"

    def call(self, name: str, *arguments: Any) -> list[Any]:
        """Run a function of `scripts.lua`. Raise StorageError."""
        with self.errors():
            return list(self._script(keys=[self.hints], args=[name, *arguments]))

    def read(self, ask: Callable[[Redis], Any]) -> Any:
        """Return what `ask(client)` returns. Raise StorageError."""
        with self.errors():
            return ask(self.client)

    def read_together(self, ask: Callable[[Any], object]) -> list[Any]:
        """Return the answers to what `ask(pipeline)` asks, all of one moment. Raise StorageError."""
        with self.errors():
            pipeline = self.client.pipeline(transaction=True)
            ask(pipeline)
            return list(pipeline.execute())

    def info(self) -> dict[str, Any]:
        """Return what Redis says about itself."""
        return dict(self.read(lambda client: client.info()))

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the client's errors into a StorageError. Their texts are left out: they may repeat a command."""
        if _runs_a_loop():
            self.in_a_loop()
        if self._closed:
            raise StorageError(f"The journal at {self.label} is closed.")
        try:
            yield
            self._answered = True
        except self._errors.RedisError as error:
            raise self._storage_error(error) from None
        except OSError as error:
            raise self._away(type(error).__name__) from None

    def _storage_error(self, error: Exception) -> StorageError:
        errors, text = self._errors, str(error)
        if isinstance(error, errors.AuthenticationError | errors.NoPermissionError) or text.startswith("NOAUTH"):
            return StorageError(
                f"{self.label} refuses the user or the password that it was given, or what they may do.",
                hint="Put them into the address, rediss://USER:PASSWORD@HOST; HARMONIA_REDIS keeps it off the command"
                " line.",
            )
        if isinstance(error, errors.OutOfMemoryError):
            return StorageError(
                f"{self.label} has no memory left.",
                code=ErrorCode.STORAGE_FULL,
                hint="Raise its maxmemory, or keep fewer generations (retention).",
            )
        if isinstance(error, errors.ReadOnlyError):
            return StorageError(f"{self.label} is a replica, which can't be written.", hint="Name the primary.")
        fault = _tls_fault(error)
        if fault is not None or isinstance(error, errors.ConnectionError | errors.TimeoutError):  # also busy loading
            mistaken = None if self._answered else self._wrong_scheme()
            return mistaken or (self._not_trusted(fault) if fault is not None else self._away(type(error).__name__))
        return StorageError(
            f"{self.label} can't do what it is asked ({type(error).__name__}).",
            hint="Redis 6.2 or newer is needed, or what speaks its language whole; no Redis Cluster.",
        )

    def _not_trusted(self, fault: ssl.SSLError) -> StorageError:
        if isinstance(fault, ssl.SSLCertVerificationError):
            return StorageError(
                f"The certificate of {self.label} is not trusted: {fault.verify_message}.",
                hint="Name the file of the authority that signed it: rediss://…?ssl_ca_certs=FILE.",
            )
        return StorageError(
            f"TLS with {self.label} fails ({fault.reason or type(fault).__name__}).",
            hint="If it wants a certificate of its clients: rediss://…?ssl_certfile=FILE&ssl_keyfile=FILE.",
        )

    def _wrong_scheme(self) -> StorageError | None:
        """Return the error of an address whose scheme isn't what its port speaks; None if that can't be seen."""
        where = self.client.connection_pool.connection_kwargs
        if "host" not in where:
            return None
        address = (where["host"], int(where.get("port", 6379)))
        if self._url.startswith("rediss:"):
            if _speaks_plainly(address):
                return StorageError(
                    f"{self.label} speaks no TLS.",
                    hint="Name its TLS port (tls-port), or write redis:// for one of this machine.",
                )
        elif _speaks_tls(address):
            return StorageError(
                f"{self.label} speaks TLS.", hint="Write rediss://…, with ?ssl_ca_certs=FILE for an authority of yours."
            )
        return None

    def _away(self, kind: str) -> StorageError:
        return StorageError(
            f"{self.label} does not answer ({kind}).",
            code=ErrorCode.NETWORK_TEMPORARY,
            hint="Try again in a moment. Songs that have begun go on meanwhile.",
        )

    def servers(self) -> list[dict[str, Any]]:
        """Return what each living server says of itself, in no order. Raise StorageError."""
        keys = self.read(lambda client: list(client.scan_iter(f"{PREFIX}lease:*", count=1000)))
        found = self.read(lambda client: client.mget(keys)) if keys else []
        return [json.loads(text) for text in found if text is not None]

    def doubts(self) -> list[str]:
        """Return what of Redis's settings may lose events. Raise StorageError."""
        found, info = [], self.info()
        if not int(info.get("aof_enabled", 0)):
            found.append(
                f"{self.label} writes no append-only file: what it has is lost when it restarts."
                " Set appendonly yes and appendfsync always."
            )
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction" and int(info.get("maxmemory", 0)):
            found.append(
                f"{self.label} deletes what it likes when its memory is full ({policy}). Set maxmemory-policy"
                " noeviction."
            )
        if _version(str(info.get("redis_version", "0"))) < (6, 2):
            found.append(f"{self.label} is older than Redis 6.2, with which nothing was tested.")
        return found

    def close(self) -> None:
        self._closed = True
        self.client.close()


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error of TLS behind the client's own, which has only its words."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _speaks_plainly(address: tuple[str, int]) -> bool:
    """Return whether a Redis answers there without TLS, if only that a password is missing."""
    with contextlib.suppress(OSError), socket.create_connection(address, CONNECT_S) as there:
        there.settimeout(CONNECT_S)
        there.sendall(b"PING\r\n")
        return there.recv(5)[:1] in (b"+", b"-")
    return False


def _speaks_tls(address: tuple[str, int]) -> bool:
    """Return whether TLS is spoken there. Nothing is sent in it, so nobody need be trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, CONNECT_S) as there,
        context.wrap_socket(there),
    ):
        return True
    return False


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
