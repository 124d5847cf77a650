"""Who is speaking: tokens are issued and checked here, and the key that signs them is kept.

Owns keys, claims and the reasons for a refusal. What a user may do is `rooms.py`'s.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
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

__all__ = ["KEY_BYTES", "MAX_TOKEN", "Identity", "SharedKey", "Tokens", "public_keys"]

KEY_BYTES = 32
"""Of a key for HMAC-SHA-256: as long as its output (RFC 7518, 3.2)."""

MAX_TOKEN = 8192
MAX_USER = 128
MAX_TTL_S = 10 * 365 * 86400.0
"""Of a token that is issued here: ten years."""
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""Seconds since 1970; a token from elsewhere may say that it ends later, and no date can."""
ADMIN = "admin"
OWNER = "owner"
"""The key id of tokens that the owner of the process signs."""


@dataclass(frozen=True)
class Identity:
    """Who a token speaks for. user: its subject. expires_at: seconds since 1970, UTC. owner: of the very process."""

    user: str
    roles: tuple[str, ...]
    expires_at: float
    owner: bool = False

    @property
    def admin(self) -> bool:
        return ADMIN in self.roles


class SharedKey:
    """A key file: 32 random bytes or more, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes:
        """Makes the file where there is none. Raises StorageError where it can't be used safely."""
        with storage_errors(self.path):
            if not self.path.exists():
                self._make()
            if self.path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StorageError(
                    f"The key {self.path} can be read by other users.",
                    hint=f"chmod 600 {self.path}, or make a new one.",
                )
            key = self.path.read_bytes()
        if len(key) < KEY_BYTES:
            raise StorageError(
                f"The key {self.path} has {len(key)} bytes; {KEY_BYTES} are the least.",
                hint="Remove it: a new one is made.",
            )
        return key

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        whole = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(whole, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            # Linked into place whole: of two processes that start at once, both read the key of the first.
            os.link(whole, self.path)
        except FileExistsError:
            pass
        finally:
            whole.unlink()


def public_keys(path: Path) -> dict[str | None, RSAPublicKey]:
    """The RSA keys of a PEM file (under None) or of a JWKS file (by key id).

    Raises InvalidRequest where it holds none.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 - for RS256 alone
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        data = path.read_bytes()
        if data.lstrip().startswith(b"{"):
            jwks = jwt.PyJWKSet.from_dict(json.loads(data))
            keys: dict[str | None, Any] = {key.key_id: key.key for key in jwks.keys}
        else:
            keys = {None: load_pem_public_key(data)}
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", details={"fields": ["public_keys"]}) from None
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise InvalidRequest(f"{path} holds no public keys: {error}.", details={"fields": ["public_keys"]}) from None
    found = {name: key for name, key in keys.items() if isinstance(key, RSAPublicKey)}
    if not found:
        raise InvalidRequest(f"{path} holds no RSA public key.", details={"fields": ["public_keys"]})
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
        """owner_key: beside these, tokens of its owner are good, which are signed with it (HS256) and say so."""
        self._key, self._public, self._owner_key = key, public or {}, owner_key
        self._audience, self._issuer = audience, issuer

    def issue(self, user: str, roles: tuple[str, ...] = (), ttl_s: float = 3600.0) -> str:
        """A token for `user`, good for `ttl_s` seconds, MAX_TTL_S at most.

        Raises InvalidRequest for another time or a user without a name, or where tokens come from elsewhere.
        """
        if self._key is None:
            raise InvalidRequest("This server checks tokens that somebody else issues (RS256); it can't make them.")
        if not user or len(user) > MAX_USER or not user.isprintable():
            raise InvalidRequest(
                f"A user's name is 1 to {MAX_USER} printable characters.", details={"fields": ["user"]}
            )
        if not 0 < ttl_s <= MAX_TTL_S:
            raise InvalidRequest(
                f"A token is good for more than 0 and at most {MAX_TTL_S:.0f} seconds.", details={"fields": ["ttl"]}
            )
        return self._signed(self._key, user, roles, ttl_s)

    def owner_token(self, user: str, ttl_s: float = 3600.0) -> str:
        """With which the owner of the process connects as `user`; an admin's, too."""
        assert self._owner_key is not None
        return self._signed(self._owner_key, user, (ADMIN,), ttl_s, kid=OWNER)

    def check(self, token: object) -> Identity:
        """Who it speaks for. Raises Refused (UNAUTHORIZED) with the reason."""
        if not isinstance(token, str) or not token:
            raise Refused("No token.", hint="Connect with auth: {token}; over HTTP, send Authorization: Bearer TOKEN.")
        if len(token) > MAX_TOKEN:
            raise Refused("The token is too long.")
        try:
            key, algorithm, owner = self._verifying(token)
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
            raise Refused(f"The token is not valid: {_plain(error)}.", hint="Get a new one.") from None
        user, roles = claims["sub"], claims.get("roles", [])
        if not user or len(user) > MAX_USER or not user.isprintable():
            raise Refused("The token names no user.")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Refused("The token's roles are no list of names.")
        return Identity(user, tuple(roles), min(float(claims["exp"]), END_OF_TIME), owner)

    def _signed(self, key: bytes, user: str, roles: tuple[str, ...], ttl_s: float, **headers: str) -> str:
        now = time.time()
        claims = {"sub": user, "roles": list(roles), "iat": now, "exp": now + ttl_s}
        return jwt.encode(claims | {"aud": self._audience, "iss": self._issuer}, key, "HS256", headers)

    def _verifying(self, token: str) -> tuple[bytes | RSAPublicKey, str, bool]:
        """The key for `token`, the one algorithm that goes with that key, and whether it is the owner's."""
        name = jwt.get_unverified_header(token).get("kid")
        if self._owner_key is not None and name == OWNER:
            return self._owner_key, "HS256", True
        if self._key is not None:
            return self._key, "HS256", False
        return self._public_key_for(name), "RS256", False

    def _public_key_for(self, name: str | None) -> RSAPublicKey:
        key = self._public.get(name) or (next(iter(self._public.values())) if len(self._public) == 1 else None)
        if key is None:
            raise jwt.InvalidTokenError("signed with a key that is not known here")
        return key


def _plain(error: jwt.PyJWTError) -> str:
    """The library's reason, without what the token's author may have written into it."""
    known = {
        jwt.InvalidSignatureError: "signed with another key",
        jwt.InvalidAudienceError: "meant for somebody else",
        jwt.InvalidIssuerError: "issued by somebody else",
        jwt.ImmatureSignatureError: "not valid yet",
        jwt.InvalidAlgorithmError: "signed in another way",
        jwt.MissingRequiredClaimError: str(error),
    }
    return next((text for kind, text in known.items() if isinstance(error, kind)), "malformed")
