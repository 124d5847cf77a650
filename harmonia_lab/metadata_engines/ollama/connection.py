"""How requests reach a server: proxy, certificates, headers, and the official client with these.

Owns the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR and OLLAMA_API_KEY, which
no client of ours reads by itself: so a broken one harms only the songs that need it. (Not the address: `endpoint.py`.)
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.ollama.client_library import ollama
from harmonia_lab.metadata_engines.ollama.endpoint import Endpoint, without_userinfo
from harmonia_lab.metadata_engines.ollama.failures import raise_for_status, raise_for_status_later
from harmonia_lab.metadata_engines.ollama.settings import OllamaSettings

__all__ = ["ServerConnection"]

KEY_VARIABLE = "OLLAMA_API_KEY"


class ServerConnection:
    """The way to one server. where: its address for messages, without secrets, and the proxy's variable if it has one.

    Raises MetadataError (OLLAMA_SETTINGS) for a proxy, a certificate file or a key that can't be used.
    """

    def __init__(self, endpoint: Endpoint, settings: OllamaSettings, headers: Mapping[str, str] | None = None) -> None:
        """headers: those of a server that this program started, instead of those of the settings and a person's key."""
        self.url = self.where = endpoint.url
        self._connect_s = settings.timeouts.connect
        given = _headers(endpoint, settings) if headers is None else dict(headers)
        self._arguments: dict[str, Any] = {
            "headers": given,
            "verify": _certificates(endpoint, settings.ca),
            "trust_env": False,
            "follow_redirects": False,  # a POST would arrive as a GET, and our headers at another server
        }
        found = _proxy(endpoint)
        if found:
            self._arguments["proxy"], variable = found
            self.where = f"{self.url} (through the proxy of {variable})"

    def client(self) -> ollama.AsyncClient:
        """Return a client without limits of its own but for connecting."""
        timeout = httpx.Timeout(None, connect=self._connect_s)
        return ollama.AsyncClient(
            self.url, timeout=timeout, event_hooks={"response": [raise_for_status_later]}, **self._arguments
        )

    def blocking_client(self, timeout_s: float, connect_s: float | None = None) -> ollama.Client:
        """Return a client that waits at most `timeout_s` for each answer, and `connect_s` for the server."""
        timeout = httpx.Timeout(timeout_s, connect=connect_s or timeout_s)
        return ollama.Client(self.url, timeout=timeout, event_hooks={"response": [raise_for_status]}, **self._arguments)


def _headers(endpoint: Endpoint, settings: OllamaSettings) -> dict[str, str]:
    """Return the headers of the settings, and an Authorization from the address or OLLAMA_API_KEY if they have none."""
    headers = dict(settings.headers)
    if any(name.lower() == "authorization" for name in headers):
        return headers
    key = os.environ.get(KEY_VARIABLE, "")
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization
    elif key:
        if not key.strip() or not (key.strip().isascii() and key.strip().isprintable()):
            message = f"{KEY_VARIABLE} is no key: it is blank, or has characters that a header can't have."
            raise _unusable(message, f"Mend or unset {KEY_VARIABLE}.")
        headers["Authorization"] = f"Bearer {key.strip()}"
    return headers


def _certificates(endpoint: Endpoint, ca: str | None) -> ssl.SSLContext:
    """Return whose certificates are trusted: `ca`, or SSL_CERT_FILE and SSL_CERT_DIR, or certifi's and the system's."""
    if endpoint.scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts none, and is made in no time
    if ca:
        return _context("the CA", ca, "Name a PEM file: --ollama-ca FILE, Lab(metadata_settings={'ca': …}).")
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if value := os.environ.get(variable):
            return _context(variable, value, f"Mend or unset {variable}, or name the server's CA (--ollama-ca FILE).")
    import certifi  # noqa: PLC0415 - httpx's own; only for a server with TLS

    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()  # a private CA is often installed in the system
    return context


def _context(source: str, value: str, hint: str) -> ssl.SSLContext:
    path = Path(value)
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=value)
        return ssl.create_default_context(cafile=value)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else "can't be read"
        raise _unusable(f"{source} names {value}, which {why}.", hint) from error


def _proxy(endpoint: Endpoint) -> tuple[httpx.Proxy, str] | None:
    """Return the proxy and the variable that names it; None for a local server, or without a proxy."""
    if endpoint.is_local:
        return None
    names = [form for name in (f"{endpoint.scheme}_proxy", "all_proxy") for form in (name, name.upper())]
    variable = next((name for name in names if os.environ.get(name, "").strip()), None)
    if variable is None or _bypassed(endpoint):
        return None
    value = os.environ[variable].strip()
    hint = f"Mend or unset {variable}, or add {endpoint.host} to NO_PROXY."
    try:
        proxy: httpx.Proxy | None = httpx.Proxy(value if "://" in value else f"http://{value}")
    except (ValueError, TypeError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise _unusable(f"{variable} names no proxy that can be used: {without_userinfo(value)}.", hint)
    if proxy.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:  # httpx's optional package
        message = (
            f"{variable} names a SOCKS proxy, {without_userinfo(value)}, for which the package socksio is missing."
        )
        raise _unusable(message, f"run: pip install socksio. Or: {hint}")
    return proxy, variable


def _bypassed(endpoint: Endpoint) -> bool:
    """Return whether NO_PROXY names the server: by name, domain, address or network, with a port, or by `*`."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return any(_names(entry.strip().lower(), endpoint) for entry in listed.split(",") if entry.strip())


def _names(entry: str, endpoint: Endpoint) -> bool:
    if entry == "*":
        return True
    host = endpoint.host.lower().rstrip(".")
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name.strip("[]") and port.isdigit():
        if int(port) != endpoint.port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # one of the two is a name
        domain = entry.removeprefix("*").lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _unusable(message: str, hint: str = "") -> MetadataError:
    return MetadataError(message, code=ErrorCode.OLLAMA_SETTINGS, hint=hint)
