"""`harmonia doctor --url URL`: connect to a server as a client does, and time its acknowledgements.

Owns the steps, and what is said where one fails: what happened, and what to do. It changes nothing on the server.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import statistics
import time
from urllib.parse import urlsplit

import aiohttp

from harmonia_lab.client import Client
from harmonia_lab.client.reconnect import Backoff
from harmonia_lab.engines.spec import Check
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest

__all__ = ["checks_of"]

ANSWER_S = 5.0
ACKS = 5
"""Commands that are timed."""


def checks_of(url: str, token: str | None) -> list[Check]:
    """Return what was found, step by step, up to the first that fails. Raise InvalidRequest for what is no URL."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            f"{url!r} is no server's URL.", hint="Write it as http://127.0.0.1:3333.", details={"fields": ["url"]}
        )
    return asyncio.run(_checks(url.rstrip("/"), token))


async def _checks(url: str, token: str | None) -> list[Check]:
    checks = [await _answers(url)]
    if checks[0].verdict == "missing":
        return checks
    checks += await _ready(url)
    if token is None:
        hint = "give --token, or HARMONIA_TOKEN: harmonia token NAME prints one, on the server's machine"
        return [*checks, Check("sockets", "optional", "not tried: they need a token", hint)]
    return [*checks, *await _sockets(url, token)]


async def _answers(url: str) -> Check:
    """Ask for `/healthz`, which says by its form whether a Harmonia server answers."""
    began = time.perf_counter()
    try:
        status, server, body = await _get(f"{url}/healthz")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return _unreachable(url, error)
    if status == 429:
        return Check("server", "missing", f"{url} answers that it was asked too often", "try again in a minute")
    if status != 200 or not isinstance(body, dict) or body.get("status") != "ok":
        who = f" ({server[:40]!r})" if server else ""
        hint = "look at the port; behind a proxy, at whether it passes everything on"
        return Check("server", "missing", f"another program{who} answers at {url}, with {status}", hint)
    return Check("server", "ok", f"{url} answers in {1000 * (time.perf_counter() - began):.0f} ms")


def _unreachable(url: str, error: BaseException) -> Check:
    """Return what a failed connection means. The order is that of aiohttp's classes, the special ones first."""
    parts = urlsplit(url)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Check("server", "missing", f"the name {parts.hostname} is not known", "look at its spelling")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = error.certificate_error
        said = why.verify_message if isinstance(why, ssl.SSLCertVerificationError) else str(why)
        hint = "name the CA that signed it: SSL_CERT_FILE=ca.pem harmonia doctor …"
        return Check("server", "missing", f"the certificate of {url} is not trusted: {said}", hint)
    if isinstance(error, aiohttp.ClientSSLError):
        return Check("server", "missing", f"no TLS is spoken at {url}", f"try http://{parts.netloc}")
    if isinstance(error, aiohttp.ClientConnectorError):
        why_not = error.os_error.strerror or str(error.os_error)
        hint = "start it: harmonia serve; from another machine, with --host and a certificate"
        return Check("server", "missing", f"nothing can be reached at {url}: {why_not}", hint)
    if isinstance(error, TimeoutError):
        hint = "a firewall may drop the connection; or the server hangs: look at its log"
        return Check("server", "missing", f"{url} does not answer within {ANSWER_S:g} s", hint)
    secure = f"; if it speaks TLS: https://{parts.netloc}" if parts.scheme == "http" else ""
    return Check(
        "server", "missing", f"another program answers at {url}, and speaks no HTTP", f"look at the port{secure}"
    )


async def _ready(url: str) -> list[Check]:
    try:
        status, _, body = await _get(f"{url}/readyz")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return [Check("ready", "optional", f"/readyz has no answer ({type(error).__name__})", "look at its log")]
    found = body if isinstance(body, dict) else {}
    faults = ", ".join(f"{name}: {check}" for name, check in found.get("checks", {}).items() if check != "ok")
    ready = Check("ready", "ok", "journal, disk and descriptors")
    if status != 200:
        ready = Check("ready", "missing", faults or f"/readyz answers {status}", "free space, or look at its log")
    engines = [
        Check(f"stage {stage}", "ok" if one["state"] == "ready" else "optional", f"{one['engine']}: {one['state']}")
        for stage, one in found.get("engines", {}).items()
    ]
    return [ready, *engines]


async def _sockets(url: str, token: str) -> list[Check]:
    """Connect, and time commands that change nothing: leaving a generation that was not joined."""
    began = time.perf_counter()
    # No second attempt: what the first one meets is what should be told.
    async with Client(url, connect_timeout_s=ANSWER_S, ack_timeout_s=ANSWER_S, backoff=Backoff(attempts=0)) as client:
        try:
            await client.connect(token)
        except HarmoniaError as error:
            return [_no_socket(error)]
        hello, connected_s = client.hello, time.perf_counter() - began
        who = "without a hello" if hello is None else f"as {hello.user.id}, protocol {hello.protocol_version}"
        checks = [Check("sockets", "ok", f"connected {who}, in {1000 * connected_s:.0f} ms")]
        times = []
        try:
            for _ in range(ACKS):
                asked = time.perf_counter()
                await client.leave(f"doctor-{secrets.token_hex(6)}")
                times.append(1000 * (time.perf_counter() - asked))
        except HarmoniaError as error:
            return [*checks, Check("acknowledgement", "missing", error.message, error.hint)]
    found = f"{statistics.median(times):.1f} ms (median of {ACKS}; slowest {max(times):.1f} ms)"
    return [*checks, Check("acknowledgement", "ok", found)]


def _no_socket(error: HarmoniaError) -> Check:
    if error.code == ErrorCode.UNAUTHORIZED:
        hint = f"{error.hint} A new one, on the server's machine: harmonia token NAME".strip()
        return Check("sockets", "missing", f"the token is refused: {error.message}", hint)
    if error.code == ErrorCode.NETWORK_TEMPORARY:
        hint = "HTTP works, so a proxy may keep websockets back"
        return Check("sockets", "missing", f"no socket: {error.message}", hint)
    return Check("sockets", "missing", error.message, error.hint)


async def _get(url: str) -> tuple[int, str, object]:
    """Return status, Server header and JSON body, or None for another body. Raise what aiohttp raises."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as answer:
        try:
            body = await answer.json(content_type=None)
        except ValueError:  # a page
            body = None
        return answer.status, answer.headers.get("Server", ""), body
