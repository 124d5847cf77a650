"""Download links that work by themselves, for a while: signed for one path and one user.

Owns the signature and the time. Which file a path means, and whether that user may have it, is `http.py`'s.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

__all__ = ["Links"]


class Links:
    """key: secret bytes. ttl_s: seconds that a link works."""

    def __init__(self, key: bytes, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        # A key of its own: a signature made here must be good for nothing else.
        self._key = hmac.digest(key, b"harmonia-lab download links", "sha256")
        self._ttl_s, self._clock = ttl_s, clock

    def sign(self, path: str, user: str) -> str:
        """`path` with the query that opens it for `user`."""
        expires = str(int(self._clock() + self._ttl_s))
        query = {"user": user, "expires": expires, "signature": self._signature(path, user, expires)}
        return f"{quote(path)}?{urlencode(query)}"

    def user_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Whom the link is for; None where it is none, is not for this path, or has expired."""
        user, expires, signature = (query.get(name, "") for name in ("user", "expires", "signature"))
        if not hmac.compare_digest(self._signature(path, user, expires).encode(), signature.encode()):
            return None
        return user if int(expires) >= self._clock() else None

    def _signature(self, path: str, user: str, expires: str) -> str:
        # JSON-free and unambiguous: no field can hold the line break that parts them once it is quoted.
        text = "\n".join(quote(part, safe="") for part in (path, user, expires))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
