"""Download URLs that work without a token for a limited time, each signed for one path and one user.

Owns the signature and the expiry. `http.py` finds the file for a path, and checks that the user may have it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

__all__ = ["SignedUrls"]


class SignedUrls:
    """key: secret bytes. ttl_s: seconds that a URL works."""

    def __init__(self, key: bytes, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        # A key derived for this purpose: a URL's signature must not be valid for a token.
        self._key = hmac.digest(key, b"harmonia-lab download links", "sha256")
        self._ttl_s, self._clock = ttl_s, clock

    def audio(self, base_url: str, generation_id: str, user: str) -> str:
        """Return the signed URL of a generation's song."""
        return base_url + self.sign(f"/api/generations/{generation_id}/audio", user)

    def sign(self, path: str, user: str) -> str:
        """Return `path` with the query that authorises a download by `user`."""
        expires = str(int(self._clock() + self._ttl_s))
        query = {"user": user, "expires": expires, "signature": self._signature(path, user, expires)}
        return f"{quote(path)}?{urlencode(query)}"

    def user_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Return the user whom the URL was signed for; None if it isn't signed for this path or has expired."""
        user, expires, signature = (query.get(name, "") for name in ("user", "expires", "signature"))
        if not hmac.compare_digest(self._signature(path, user, expires).encode(), signature.encode()):
            return None
        return user if int(expires) >= self._clock() else None

    def _signature(self, path: str, user: str, expires: str) -> str:
        # Quoted, no field can contain the line break that separates the fields.
        text = "\n".join(quote(part, safe="") for part in (path, user, expires))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
