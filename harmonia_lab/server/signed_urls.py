"""Download URLs that work without a token for a limited time, each signed for one path and one reader.

Owns the signature and the expiry. `http.py` finds the file for a path, and checks at each download that the reader may
have it: the link says who the reader is, not what the reader may do.
"""

from __future__ import annotations

import functools
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, urlencode

from harmonia_lab.server.auth import ADMIN, Identity

__all__ = ["SignedUrls"]

_FIELDS = ("user", "role", "jti", "issued", "expires")
"""What is signed beside the path. jti, issued: the id of the reader's token and when that was issued, by which a
revoked token's links stop. It isn't called "token": Jupyter takes a parameter of that name for its own, and a link must
work through its proxy. role: "admin" or absent."""


class SignedUrls:
    """ttl_s: seconds that a URL works."""

    def __init__(
        self, keys: Callable[[], Sequence[bytes]], ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        """keys: returns the secret that signs, then the former ones, which only check."""
        self._keys, self._ttl_s, self._clock = keys, ttl_s, clock

    def audio(self, base_url: str, generation_id: str, reader: Identity) -> str:
        """Return the signed URL of a generation's song."""
        return base_url + self.sign(f"/api/generations/{generation_id}/audio", reader)

    def sign(self, path: str, reader: Identity) -> str:
        """Return `path` with the query that authorises a download by `reader`."""
        query = {
            "user": reader.user,
            "role": ADMIN if reader.is_admin else "",
            "jti": reader.token_id,
            "issued": repr(reader.issued_at),
            "expires": str(int(self._clock() + self._ttl_s)),
        }
        signature = _signature(_derived(self._keys()[0]), path, query)
        return f"{quote(path)}?{urlencode({k: v for k, v in query.items() if v} | {'signature': signature})}"

    def reader_of(self, path: str, query: Mapping[str, str]) -> Identity | None:
        """Return the reader whom the URL was signed for; None if it isn't signed for this path or has expired."""
        given = query.get("signature", "").encode("utf-8", "replace")
        fields = {name: query.get(name, "") for name in _FIELDS}
        if not any(_is_signature(given, _derived(key), path, fields) for key in self._keys()):
            return None
        expires = int(fields["expires"])
        if expires < self._clock():
            return None
        roles = (ADMIN,) if fields["role"] == ADMIN else ()
        return Identity(
            fields["user"], roles, float(expires), token_id=fields["jti"], issued_at=float(fields["issued"])
        )


@functools.lru_cache(maxsize=4)
def _derived(secret: bytes) -> bytes:
    """Return the key derived for this purpose: a URL's signature must not be valid for a token."""
    return hmac.digest(secret, b"harmonia-lab download links", "sha256")


def _signature(key: bytes, path: str, fields: Mapping[str, str]) -> str:
    text = json.dumps([path, *(fields[name] for name in _FIELDS)])  # in which no field can run into the next
    return hmac.digest(key, text.encode(), "sha256").hex()


def _is_signature(given: bytes, key: bytes, path: str, fields: Mapping[str, str]) -> bool:
    return hmac.compare_digest(_signature(key, path, fields).encode(), given)
