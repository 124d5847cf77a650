"""Authentication: the server issues and checks tokens here, and keeps the key that signs them.

Owns keys, claims and the reasons for a refusal. What an authenticated user may do is decided in `rooms.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from harmonia_lab.errors import InvalidRequest, Refused, StorageError
from harmonia_lab.storage import storage_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["KEY_BYTES", "MAX_TOKEN", "Identity", "Tokens", "public_keys", "read_key"]

KEY_BYTES = 32
"""Least length of an HMAC-SHA-256 key: that of its output (RFC 7518, 3.2)."""

MAX_TOKEN = 8192
"""Characters of a token."""
MAX_USER = 128
"""Characters of a user's name."""
MAX_TTL_S = 10 * 365 * 86400.0
"""Seconds for which a token issued here may be valid: ten years."""
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""Seconds since 1970: the latest date that Python knows. A token issued elsewhere may expire later than that."""
ADMIN = "admin"
PROCESS_OWNER = "owner"
"""The key id of tokens that are signed with `owner_key`."""


@dataclass(frozen=True)
class Identity:
    """What a token says. user: its subject. expires_at: seconds since 1970, UTC. is_process_owner: whether the token is
    that of the process that started the server."""

    user: str
    roles: tuple[str, ...]
    expires_at: float
    is_process_owner: bool = False

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles


def read_key(path: Path) -> bytes:
    """Return the key in the file, which is made if it doesn't exist: 32 random bytes, readable by the user alone.

    Raise StorageError if other users can read the file, the key is too short, or it can't be made.
    """
    with storage_errors(path):
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StorageError(
                f"The key {path} can be read by other users.", hint=f"chmod 600 {path}, or make a new one."
            )
        key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise StorageError(
            f"The key {path} has {len(key)} bytes; it must have at least {KEY_BYTES}.",
            hint="Remove the file: a new key is made.",
        )
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, whole = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        # The complete file is linked into place: of two processes that start at once, both read the first one's key.
        os.link(whole, path)
    except FileExistsError:
        pass
    finally:
        Path(whole).unlink()


def public_keys(path: Path) -> dict[str | None, RSAPublicKey]:
    """Return the RSA keys of a PEM file (under None) or of a JWKS file (by key id).

    Raise InvalidRequest if the file has none or can't be read.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 - for RS256 alone
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    details = {"fields": ["public_keys"]}
    try:
        data = path.read_bytes()
        if data.lstrip().startswith(b"{"):
            jwks = jwt.PyJWKSet.from_dict(json.loads(data))
            keys: dict[str | None, Any] = {key.key_id: key.key for key in jwks.keys}
        else:
            keys = {None: load_pem_public_key(data)}
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", details=details) from None
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise InvalidRequest(f"{path} has no public keys: {error}.", details=details) from None
    found = {name: key for name, key in keys.items() if isinstance(key, RSAPublicKey)}
    if not found:
        raise InvalidRequest(f"{path} has no RSA public key.", details=details)
    return found


class Tokens:
    """Issues and checks JSON Web Tokens, all of one algorithm: HS256 with `key`, or else RS256 with `public`."""

    def __init__(
        self,
        *,
        key: bytes | None = None,
        public: dict[str | None, RSAPublicKey] | None = None,
        audience: str,
        issuer: str,
        owner_key: bytes | None = None,
    ) -> None:
        """owner_key: accept tokens of the process owner too, signed with this key (HS256) and with its key id."""
        self._key, self._public, self._owner_key = key, public or {}, owner_key
        self._audience, self._issuer = audience, issuer

    def issue(self, user: str, roles: tuple[str, ...] = (), ttl_s: float = 3600.0) -> str:
        """Return a token for `user` that is valid for `ttl_s` seconds, at most MAX_TTL_S.

        Raise InvalidRequest for another time, a user without a printable name, or if this server only checks tokens.
        """
        if self._key is None:
            raise InvalidRequest("This server checks tokens that another service issues (RS256); it can't issue them.")
        if not _is_user_name(user):
            raise InvalidRequest(
                f"A user's name is 1 to {MAX_USER} printable characters.", details={"fields": ["user"]}
            )
        if not 0 < ttl_s <= MAX_TTL_S:
            raise InvalidRequest(
                f"A token is valid for more than 0 and at most {MAX_TTL_S:.0f} seconds.", details={"fields": ["ttl"]}
            )
        return self._signed(self._key, user, roles, ttl_s)

    def owner_token(self, user: str, ttl_s: float = 3600.0) -> str:
        """Return a token with which the process owner connects as `user`, with the role of an admin."""
        assert self._owner_key is not None
        return self._signed(self._owner_key, user, (ADMIN,), ttl_s, kid=PROCESS_OWNER)

    def check(self, token: object) -> Identity:
        """Return the identity in a token. Raise Refused (UNAUTHORIZED) with the reason if the token isn't valid."""
        if not isinstance(token, str) or not token:
            raise Refused("No token.", hint="Connect with auth: {token}; over HTTP, send Authorization: Bearer TOKEN.")
        if len(token) > MAX_TOKEN:
            raise Refused("The token is too long.")
        try:
            key, algorithm, is_process_owner = self._verifying(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise Refused("The token has expired.", hint="Get a new one.") from None
        except jwt.PyJWTError as error:
            raise Refused(f"The token is not valid: {_reason(error)}.", hint="Get a new one.") from None
        user, roles = claims["sub"], claims.get("roles", [])
        if not _is_user_name(user):
            raise Refused("The token names no user.")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Refused("The token's roles are not a list of names.")
        return Identity(user, tuple(roles), min(float(claims["exp"]), END_OF_TIME), is_process_owner)

    def _signed(self, key: bytes, user: str, roles: tuple[str, ...], ttl_s: float, **headers: str) -> str:
        now = time.time()
        claims = {"sub": user, "roles": list(roles), "iat": now, "exp": now + ttl_s}
        return jwt.encode(claims | {"aud": self._audience, "iss": self._issuer}, key, "HS256", headers)

    def _verifying(self, token: str) -> tuple[bytes | RSAPublicKey, str, bool]:
        """Return the key for `token`, the one algorithm of that key, and whether it is the process owner's."""
        key_id = jwt.get_unverified_header(token).get("kid")
        if self._owner_key is not None and key_id == PROCESS_OWNER:
            return self._owner_key, "HS256", True
        if self._key is not None:
            return self._key, "HS256", False
        only = next(iter(self._public.values())) if len(self._public) == 1 else None
        key = self._public.get(key_id) or only
        if key is None:
            raise jwt.InvalidTokenError("no public key has its key id")
        return key, "RS256", False


def _is_user_name(name: str) -> bool:
    return 0 < len(name) <= MAX_USER and name.isprintable()


def _reason(error: jwt.PyJWTError) -> str:
    """Return why a token is not valid. The library's own text may quote the token, so only one kind of it is kept."""
    known = {
        jwt.InvalidSignatureError: "signed with another key",
        jwt.InvalidAudienceError: "issued for another audience",
        jwt.InvalidIssuerError: "issued by another issuer",
        jwt.ImmatureSignatureError: "not valid yet",
        jwt.InvalidAlgorithmError: "signed with another algorithm",
        jwt.MissingRequiredClaimError: str(error),
    }
    return next((text for kind, text in known.items() if isinstance(error, kind)), "malformed")
