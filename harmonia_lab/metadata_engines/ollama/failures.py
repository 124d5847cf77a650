"""What goes wrong between this program and a server, as MetadataErrors that name the server and the remedy.

Owns the translation of the client's errors and of HTTP statuses (not which are retried: `busy.py`,
`generation/recovery_plans.py`).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx

from harmonia_lab.engines.network import network_reason, says_network_fault
from harmonia_lab.errors import ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.metadata_engines.ollama.client_library import ollama
from harmonia_lab.metadata_engines.ollama.endpoint import is_elsewhere, without_userinfo

__all__ = ["HttpFailure", "raise_for_status", "raise_for_status_later", "status_error", "translated_errors"]

BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
LONGEST = 300
"""Characters of a server's words in a message."""


class HttpFailure(Exception):
    """An answer with a status other than 2xx. text: the server's words, on one line; empty for a web page."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")
        self.location = response.headers.get("Location", "")
        content = response.text.strip()
        self.is_page = content.startswith("<")
        try:
            self.body: Any = json.loads(content)
        except ValueError:
            self.body = None
        said = self.body.get("error", content) if isinstance(self.body, dict) else content
        said = said.get("message", said) if isinstance(said, dict) else said
        self.text = "" if self.is_page else " ".join(str(said).split())[:LONGEST].rstrip(".")
        super().__init__(f"HTTP {self.status}")

    @property
    def is_busy(self) -> bool:
        return self.status in BUSY


def raise_for_status(response: httpx.Response) -> None:
    """Raise HttpFailure unless the request succeeded. A response hook of the blocking client."""
    if not response.is_success:
        response.read()
        raise HttpFailure(response)


async def raise_for_status_later(response: httpx.Response) -> None:
    """As `raise_for_status`, for the asyncio client."""
    if not response.is_success:
        await response.aread()
        raise HttpFailure(response)


@contextmanager
def translated_errors(where: str, during: str) -> Iterator[None]:
    """Raise every error of the client or the server as a MetadataError that names the server.

    where: the server for messages. during: the operation, such as "in the middle of its answer".
    """
    try:
        yield
    except HarmoniaError:
        raise
    except HttpFailure as failure:
        raise status_error(failure, where, during) from failure
    except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
        raise _certificate_error(error, where) or _unreached(error, where, during) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise MetadataError(
            f"The Ollama server at {where} stopped answering {during}.",
            code=ErrorCode.OLLAMA_TIMEOUT,
            hint="Try again. If it happens again, the model may be too large for that machine, or a limit too short "
            "(--ollama-timeout).",
        ) from error
    except httpx.ProxyError as error:
        raise MetadataError(
            f"The proxy on the way to {where} refuses to connect: {error}.",
            code=ErrorCode.OLLAMA_SETTINGS,
            hint="Mend the proxy's variable, or add the server to NO_PROXY.",
        ) from error
    except httpx.HTTPError as error:
        raise _broken_off(error, where, during) from error
    except ollama.ResponseError as error:  # a line of a stream
        raise _said_in_a_stream(error, where, during) from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, httpx.InvalidURL) as error:
        # The answer is not JSON, JSON of another shape (pydantic's error is a ValueError), or no text.
        raise _not_ollama(where, "its answer is not Ollama's JSON") from error


def _unreached(error: Exception, where: str, during: str) -> MetadataError:
    if is_elsewhere(where):
        return _network_error(where, during, error, reached=False)
    return MetadataError(
        f"No Ollama server answers at {where}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Start it with `ollama serve`, or set OLLAMA_HOST to its address.",
        details={"reached": False},
    )


def _broken_off(error: httpx.HTTPError, where: str, during: str) -> MetadataError:
    if isinstance(error, httpx.NetworkError) and is_elsewhere(where):
        return _network_error(where, during, error)
    return MetadataError(
        f"The Ollama server at {where} closed the connection {during}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Look at the server's log; it may have run out of memory.",
    )


def _said_in_a_stream(error: ollama.ResponseError, where: str, during: str) -> MetadataError:
    text = " ".join(str(error.error).split())[:LONGEST].rstrip(".")
    if text.startswith("pull ") and says_network_fault(text):
        return MetadataError(
            f"The Ollama server at {where} can't reach the hub of its models: {text}.",
            code=ErrorCode.NETWORK_TEMPORARY,
            hint="Look at that machine's connection; what it has of the model is kept.",
        )
    return MetadataError(
        f"The Ollama server at {where} failed {during}: {text}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Look at the server's log.",
    )


def _network_error(where: str, during: str, error: BaseException, *, reached: bool = True) -> MetadataError:
    """Return the error of a network that fails: that the server isn't running can't be told from elsewhere."""
    what = f"broke off {during}" if reached else "could not be made"
    return MetadataError(
        f"The connection to the Ollama server at {where} {what}: {network_reason(error)}.",
        code=ErrorCode.NETWORK_TEMPORARY,
        hint="Look at the network and the name, and whether Ollama runs there (`ollama serve`, with OLLAMA_HOST set to"
        " an address that this machine reaches).",
        details={} if reached else {"reached": False},
    )


def status_error(failure: HttpFailure, where: str, during: str) -> MetadataError:  # noqa: PLR0911 - one a kind
    """Return the error for a server's answer with a status other than 2xx. where, during: as `translated_errors`."""
    status, said = failure.status, f": {failure.text}" if failure.text else ""
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        target = without_userinfo(failure.location).removesuffix("/api/version").removesuffix("/api/tags")
        return MetadataError(
            f"The server at {where} sends requests on to {target or 'another address'} (HTTP {status}).",
            code=ErrorCode.OLLAMA_SETTINGS,
            hint="Set OLLAMA_HOST to that address, if it is Ollama's.",
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return MetadataError(
            f"The server at {where} refuses the request (HTTP {status}){said}.",
            code=ErrorCode.OLLAMA_UNAUTHORIZED,
            hint=_remedy(failure),
        )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return MetadataError(
            f"The proxy on the way to {where} wants a sign-in (HTTP {status}).",
            code=ErrorCode.OLLAMA_SETTINGS,
            hint="Put user and password into the proxy's variable, or add the server to NO_PROXY.",
        )
    if failure.is_busy:
        return MetadataError(
            f"The Ollama server at {where} has too much to do (HTTP {status}){said}.",
            code=ErrorCode.OLLAMA_BUSY,
            hint="Try again later, or wait longer (--ollama-timeout busy=600).",
        )
    if failure.is_page:
        return _not_ollama(where, f"it answers with a web page (HTTP {status})")
    if status == HTTPStatus.NOT_FOUND:
        if "model" not in failure.text.lower():
            return _not_ollama(where, f"it has no such address (HTTP {status})")
        message = f"The Ollama server at {where} answers: {failure.text}."
        return MetadataError(message, code=ErrorCode.OLLAMA_MODEL_MISSING)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"The Ollama server at {where} refuses the request (HTTP {status}){said}."
        return MetadataError(message, code=ErrorCode.METADATA_INVALID)
    return MetadataError(
        f"The Ollama server at {where} failed {during} (HTTP {status}){said}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Look at the server's log.",
    )


def _remedy(failure: HttpFailure) -> str:
    """Return what to do about a 401 or 403: Ollama's own sign-in, a subscription, its list of origins, or a key."""
    words = failure.text.lower()
    if (isinstance(failure.body, dict) and "signin_url" in failure.body) or "signin" in words or "sign in" in words:
        return "The model runs at ollama.com: run `ollama signin` on the server's machine, or use a local model."
    if "subscription" in words or "upgrade" in words:
        return "Upgrade the account at ollama.com, or use another model."
    if failure.status == HTTPStatus.FORBIDDEN and not failure.text and not failure.is_page:
        return "Ollama answers so to a host or origin that it doesn't know: see OLLAMA_ORIGINS in its documentation."
    return "Set OLLAMA_API_KEY to its key, put user:password@ into OLLAMA_HOST, or send a header (--ollama-header)."


def _certificate_error(error: BaseException, where: str) -> MetadataError | None:
    """Return the error for a failed TLS handshake; None if `error` is another one."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    if found is None:
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return MetadataError(
            f"The certificate of the server at {where} is not trusted: {found.verify_message}.",
            code=ErrorCode.OLLAMA_SETTINGS,
            hint="Name the file of the CA that signed it: --ollama-ca FILE, or Lab(metadata_settings={'ca': …}).",
        )
    return MetadataError(
        f"The server at {where} does not speak TLS as this program does: {found.reason}.",
        code=ErrorCode.OLLAMA_SETTINGS,
        hint="Set OLLAMA_HOST to http://… if the server has no certificate.",
    )


def _not_ollama(where: str, why: str) -> MetadataError:
    return MetadataError(
        f"The server at {where} is not Ollama: {why}.",
        code=ErrorCode.OLLAMA_UNAVAILABLE,
        hint="Check OLLAMA_HOST, and whether a proxy or a sign-in page answers instead.",
    )
