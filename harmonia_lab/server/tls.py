"""TLS: the server's certificate, which is read again when it is renewed.

Owns the SSL context. `app.py` listens with it, and `watch.py` notices the renewal.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Hashable
from pathlib import Path

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.keys import file_stamp

__all__ = ["Certificate"]

_log = logging.getLogger(__name__)


class Certificate:
    """context: what the server listens with."""

    def __init__(self, certificate: Path | str, private_key: Path | str) -> None:
        """Raise InvalidRequest if the two files can't be used together."""
        self._certificate, self._private_key = Path(certificate), Path(private_key)
        self.context = self._loaded()

    def look(self) -> Hashable:
        """Return a value that differs after either file has changed; None while one of them is missing."""
        stamps = file_stamp(self._certificate), file_stamp(self._private_key)
        return None if None in stamps else stamps

    def reload(self) -> None:
        """Use the files' present content for the connections that follow. If it can't be used, go on as before."""
        try:
            # A context of its own first: one that has loaded half of a pair can't be used any more.
            self._loaded()
            self.context.load_cert_chain(self._certificate, self._private_key)
        except (InvalidRequest, OSError, ssl.SSLError) as error:
            _log.warning("The certificate was not read again. %s", error)
        else:
            _log.info("The certificate %s was read again.", self._certificate)

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self._certificate, self._private_key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(
                f"The certificate {self._certificate} or its key {self._private_key} cannot be used: {error}.",
                details={"fields": ["certificate", "private_key"]},
            ) from None
        return context
