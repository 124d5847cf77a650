"""Authentication: the server issues and checks tokens here.

Owns claims and the reasons for a refusal. `keys.py` has the keys, `revocations.py` the revoked tokens. What an
authenticated user may do is decided in `rooms.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt

from harmonia_lab.errors import InvalidRequest, Refused
from harmonia_lab.protocol.text import is_name
from harmonia_lab.server.keys import FileStamp
from harmonia_lab.server.revocations import Revocations, RevokedTokens, token_id_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["ADMIN", "MAX_TOKEN", "PROCESS_USER", "Identity", "IssuedToken", "Tokens", "check_user_name", "token_id_in"]

MAX_TOKEN = 8192
"""Characters of a token."""
MAX_USER = 128
"""Characters of a user's name."""
MAX_TTL_S = 10 * 365 * 86400.0
"""Seconds for which a token issued here may be valid: ten years."""
LEEWAY_S = 60.0
"""Seconds by which the clock of a service that issues RS256 tokens may differ from ours."""
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""Seconds since 1970: the latest date that Python knows. A token issued elsewhere may expire later than that."""
ADMIN = "admin"
LISTENER = "listener"
"""The role of a listening test's listeners, followed by a colon and the test's id."""
PROCESS_OWNER = "owner"
"""The key id of tokens that are signed with `owner_key`."""
PROCESS_USER = "local"
"""The user of the songs that the server's own process makes: `backends.base.LOCAL_USER`."""


@dataclass(frozen=True)
class Identity:
    """What a token, or a signed link, says. user: the token's subject. expires_at, issued_at: seconds since 1970, UTC;
    0 if a token doesn't say when it was issued. token_id: its `jti`, or "". is_process_owner: whether the token is that
    of the process that started the server."""

    user: str
    roles: tuple[str, ...]
    expires_at: float
    is_process_owner: bool = False
    token_id: str = ""
    issued_at: float = 0.0

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles

    @property
    def is_listener(self) -> bool:
        """Whether the token opens a listening test, and nothing else, whatever other roles it has."""
        return any(role.partition(":")[0] == LISTENER for role in self.roles)

    @property
    def listening_tests(self) -> set[str]:
        """The ids of the listening tests that the token opens."""
        return {role.partition(":")[2] for role in self.roles if role.startswith(f"{LISTENER}:")}


@dataclass(frozen=True)
class IssuedToken:
    """token: the text that a client sends. token_id: by which it can be revoked. expires_at: seconds since 1970."""

    token: str
    token_id: str
    expires_at: float


class Tokens:
    """Issues and checks JSON Web Tokens, all of one algorithm: HS256 with `keys`, or else RS256 with `public`."""

    def __init__(
        self,
        *,
        keys: Callable[[], Sequence[bytes]] | None = None,
        public: Callable[[str | None], RSAPublicKey | None] | None = None,
        audience: str,
        issuer: str,
        owner_key: bytes | None = None,
        revocations: Revocations | None = None,
    ) -> None:
        """keys: returns the key that signs, then the former one, which only checks. public: returns the key with an id.
        owner_key: accept tokens of the process owner too, signed with this key (HS256) and with its key id.
        """
        self._keys, self._public, self._owner_key = keys, public, owner_key
        self._audience, self._issuer = audience, issuer
        self._revocations = revocations

    def issue(self, user: str, roles: tuple[str, ...] = (), ttl_s: float = 3600.0) -> IssuedToken:
        """Return a token for `user` that is valid for `ttl_s` seconds, at most MAX_TTL_S.

        Raise InvalidRequest for another time, a user without a printable name, or if this server only checks tokens.
        """
        if self._keys is None:
            raise InvalidRequest("This server checks tokens that another service issues (RS256); it can't issue them.")
        check_user_name(user)
        if not 0 < ttl_s <= MAX_TTL_S:
            raise InvalidRequest(
                f"A token is valid for more than 0 and at most {MAX_TTL_S:.0f} seconds.", details={"fields": ["ttl"]}
            )
        return self._signed(self._keys()[0], user, roles, ttl_s)

    def owner_token(self, user: str, ttl_s: float = 3600.0) -> str:
        """Return a token with which the process owner connects as `user`, with the role of an admin."""
        assert self._owner_key is not None
        return self._signed(self._owner_key, user, (ADMIN,), ttl_s, kid=PROCESS_OWNER).token

    def check(self, token: object) -> Identity:
        """Return the identity in a token. Raise Refused (UNAUTHORIZED) with the reason if the token isn't valid, or
        opens a listening test alone."""
        identity = self.check_any(token)
        if identity.is_listener:
            raise Refused("The token opens a listening test, and nothing else.", hint="Open the link that it is in.")
        return identity

    def check_any(self, token: object) -> Identity:
        """As `check`, for listeners' tokens too."""
        if not isinstance(token, str) or not token:
            raise Refused("No token.", hint="Connect with auth: {token}; over HTTP, send Authorization: Bearer TOKEN.")
        if len(token) > MAX_TOKEN:
            raise Refused("The token is too long.")
        try:
            claims, is_process_owner = self._claims(token)
        except jwt.ExpiredSignatureError:
            raise Refused("The token has expired.", hint="Get a new one.") from None
        except jwt.PyJWTError as error:
            raise Refused(f"The token is not valid: {_reason(error)}.", hint="Get a new one.") from None
        user, roles = claims["sub"], claims.get("roles", [])
        if not _is_user_name(user):
            raise Refused("The token names no user.")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Refused("The token's roles are not a list of names.")
        if self._public is not None and user == PROCESS_USER and not is_process_owner:
            raise Refused(f'The token names the user "{PROCESS_USER}", who is the server\'s own process.')
        identity = Identity(
            user,
            tuple(roles),
            min(float(claims["exp"]) + self._leeway_s, END_OF_TIME),
            is_process_owner,
            token_id=token_id_of(claims.get("jti", "")),
            issued_at=float(claims.get("iat", 0.0)),
        )
        self.check_not_revoked(identity)
        return identity

    def check_not_revoked(self, identity: Identity) -> None:
        """Raise Refused (UNAUTHORIZED) if the token of `identity` was revoked since it was checked."""
        if self.is_revoked(identity):
            raise Refused("The token was revoked.", hint="Get a new one.")

    def is_revoked(self, identity: Identity) -> bool:
        """Return whether a token, or the token behind a link, was revoked. The process owner's can't be."""
        return self._revocations is not None and self._has(self._revocations.now(), identity)

    def revoked_among(self, identities: Iterable[Identity]) -> set[Identity]:
        """Return those whose tokens were revoked, at the cost of one look at the file."""
        if self._revocations is None:
            return set()
        now = self._revocations.now()
        return {identity for identity in identities if self._has(now, identity)}

    def _has(self, revoked: RevokedTokens, identity: Identity) -> bool:
        # A clock that is ahead by the leeway issues a token "after" a revocation that came after it.
        issued_at = identity.issued_at - self._leeway_s
        return not identity.is_process_owner and revoked.has(identity.user, identity.token_id, issued_at)

    def revoke(self, user: str | None = None, token_id: str | None = None) -> None:
        """Revoke every token that `user` got before now, or the one with the id `token_id`, on all servers of the home.

        Raise InvalidRequest unless exactly one of the two is given, StorageError if it can't be written down.
        """
        assert self._revocations is not None
        self._revocations.revoke(user, token_id)

    @property
    def revocations_stamp(self) -> FileStamp:
        """What changes when a token is revoked, in whatever process."""
        return None if self._revocations is None else self._revocations.stamp

    @property
    def _leeway_s(self) -> float:
        return LEEWAY_S if self._public is not None else 0.0

    def _signed(self, key: bytes, user: str, roles: tuple[str, ...], ttl_s: float, **headers: str) -> IssuedToken:
        now, token_id = time.time(), secrets.token_hex(8)
        claims = {"sub": user, "roles": list(roles), "jti": token_id, "iat": now, "exp": now + ttl_s}
        text = jwt.encode(claims | {"aud": self._audience, "iss": self._issuer}, key, "HS256", headers)
        return IssuedToken(text, token_id, now + ttl_s)

    def _claims(self, token: str) -> tuple[dict[str, Any], bool]:
        """Return the claims of a valid token, and whether it is the process owner's. Raise jwt.PyJWTError."""
        failure: jwt.PyJWTError = jwt.InvalidKeyError("no public key has its key id")
        for key, algorithm, is_process_owner in self._candidates(token):
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=0.0 if is_process_owner else self._leeway_s,
                    options={"require": ["exp", "sub", "aud", "iss"]},
                )
            except jwt.InvalidSignatureError as error:
                failure = error
            else:
                return claims, is_process_owner
        raise failure

    def _candidates(self, token: str) -> Iterator[tuple[bytes | RSAPublicKey, str, bool]]:
        """Yield the keys that may have signed `token`, each with its one algorithm, and whether it is the process
        owner's."""
        key_id = jwt.get_unverified_header(token).get("kid")
        if self._owner_key is not None and key_id == PROCESS_OWNER:
            yield self._owner_key, "HS256", True
        elif self._public is not None:
            public = self._public(key_id)
            if public is not None:
                yield public, "RS256", False
        elif self._keys is not None:
            for key in self._keys():
                yield key, "HS256", False


def token_id_in(text: str) -> str:
    """Return `text`, a token's id; or, of a whole token, its id. Raise InvalidRequest for a token without one."""
    if text.count(".") != 2:
        return text
    try:
        found = jwt.decode(text, options={"verify_signature": False}).get("jti")
    except jwt.PyJWTError:
        found = None
    if not isinstance(found, str) or not found:
        raise InvalidRequest(
            "That token has no id.", hint="Revoke all tokens of its user instead.", details={"fields": ["tokenId"]}
        )
    return found


def check_user_name(user: str) -> None:
    """Raise InvalidRequest if `user` is no name that a token can have."""
    if not _is_user_name(user):
        raise InvalidRequest(f"A user's name is 1 to {MAX_USER} printable characters.", details={"fields": ["user"]})


def _is_user_name(name: str) -> bool:
    return len(name) <= MAX_USER and is_name(name)


def _reason(error: jwt.PyJWTError) -> str:
    """Return why a token is not valid. The library's own text may quote the token, so only one kind of it is kept."""
    known = {
        jwt.InvalidSignatureError: "signed with another key",
        jwt.InvalidAudienceError: "issued for another audience",
        jwt.InvalidIssuerError: "issued by another issuer",
        jwt.ImmatureSignatureError: "not valid yet",
        jwt.InvalidAlgorithmError: "signed with another algorithm",
        jwt.InvalidKeyError: "signed with a key that is not known here",
        jwt.MissingRequiredClaimError: str(error),
    }
    return next((text for kind, text in known.items() if isinstance(error, kind)), "malformed")
