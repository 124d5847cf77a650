"""Tokens and the key that signs them."""

import base64
import json
import threading
import time
from datetime import UTC, datetime

import jwt
import pytest
import socketio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from harmonia_lab.errors import InvalidRequest, Refused, StorageError
from harmonia_lab.server.auth import LEEWAY_S, Tokens
from harmonia_lab.server.keys import KEY_BYTES, PublicKeyFile, read_key
from tests.server.conftest import Ear, serving

KEY = bytes(range(32))
NAMES = {"audience": "harmonia-lab", "issuer": "harmonia-lab"}
CLAIMS = {"sub": "ann", "aud": "harmonia-lab", "iss": "harmonia-lab", "exp": 2**33}


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_token_that_was_issued_says_who_it_is_for():
    tokens = Tokens(keys=lambda: (KEY,), **NAMES)
    identity = tokens.check(tokens.issue("ann", ("admin",), ttl_s=60).token)
    assert (identity.user, identity.roles, identity.is_admin) == ("ann", ("admin",), True)
    assert 50 < identity.expires_at - time.time() <= 60
    assert 0 <= time.time() - identity.issued_at < 10
    assert len(identity.token_id) == 16


def unsigned(claims):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()  # noqa: E731
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def signed(claims, key=KEY, algorithm="HS256", **headers):
    return jwt.encode(claims, key, algorithm, headers=headers or None)


BAD = {
    "none": (None, "No token"),
    "empty": ("", "No token"),
    "a number": (7, "No token"),
    "junk": ("a.b.c", "malformed"),
    "endless": ("a" * 10_000, "too long"),
    "expired": (signed(CLAIMS | {"exp": 1}), "expired"),
    "not yet valid": (signed(CLAIMS | {"nbf": 2**32}), "not valid yet"),
    "of another key": (signed(CLAIMS, bytes(32)), "another key"),
    "for another audience": (signed(CLAIMS | {"aud": "x"}), "another audience"),
    "of another issuer": (signed(CLAIMS | {"iss": "x"}), "another issuer"),
    "unsigned": (unsigned(CLAIMS), "another algorithm"),
    "of another algorithm": (signed(CLAIMS, bytes(64), "HS512"), "another algorithm"),
    "without an end": (signed({k: v for k, v in CLAIMS.items() if k != "exp"}), '"exp"'),
    "without a user": (signed({k: v for k, v in CLAIMS.items() if k != "sub"}), '"sub"'),
    "with an empty user": (signed(CLAIMS | {"sub": ""}), "no user"),
    "with a line break in its user": (signed(CLAIMS | {"sub": "a\nb"}), "no user"),
    "with odd roles": (signed(CLAIMS | {"roles": "admin"}), "roles"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused_with_the_reason(kind):
    token, reason = BAD[kind]
    with pytest.raises(Refused, match=reason) as caught:
        Tokens(keys=lambda: (KEY,), **NAMES).check(token)
    assert caught.value.code == "UNAUTHORIZED"


def test_tokens_signed_elsewhere_are_checked_with_a_public_key(tmp_path, rsa_key):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(rsa_key))
    tokens = Tokens(public=PublicKeyFile(path), **NAMES)
    assert tokens.check(signed(CLAIMS, rsa_key, "RS256")).user == "ann"
    with pytest.raises(InvalidRequest, match="RS256"):
        tokens.issue("ann")


def test_a_public_key_is_not_taken_for_a_shared_one(tmp_path, rsa_key):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(rsa_key))
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).rstrip(b"=").decode()
    import hmac

    signature = hmac.digest(pem(rsa_key), f"{header}.{body}".encode(), "sha256")
    forged = f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    with pytest.raises(Refused, match="another algorithm"):
        Tokens(public=PublicKeyFile(path), **NAMES).check(forged)


def test_keys_of_a_jwks_file_are_chosen_by_their_id(tmp_path, rsa_key):
    other = rsa.generate_private_key(65537, 2048)
    entries = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": name}
        for key, name in ((other, "old"), (rsa_key, "new"))
    ]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": entries}))
    tokens = Tokens(public=PublicKeyFile(path), **NAMES)
    assert tokens.check(signed(CLAIMS, rsa_key, "RS256", kid="new")).user == "ann"
    for token in (signed(CLAIMS, rsa_key, "RS256", kid="old"), signed(CLAIMS, rsa_key, "RS256", kid="x")):
        with pytest.raises(Refused):
            tokens.check(token)


@pytest.mark.parametrize("content", [b"", b"junk", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'])
def test_a_file_without_public_keys_is_refused(tmp_path, content):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest):
        PublicKeyFile(path)


@pytest.mark.parametrize("user", ["", "a" * 129, "a\nb"])
def test_a_token_is_issued_only_for_a_name(user):
    with pytest.raises(InvalidRequest):
        Tokens(keys=lambda: (KEY,), **NAMES).issue(user)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e12])
def test_a_token_is_issued_only_for_a_time_that_ends(ttl):
    with pytest.raises(InvalidRequest, match="more than 0 and at most"):
        Tokens(keys=lambda: (KEY,), **NAMES).issue("ann", ttl_s=ttl)


def test_a_token_that_ends_later_than_any_date_ends_with_the_last_one():
    ends = Tokens(keys=lambda: (KEY,), **NAMES).check(signed(CLAIMS | {"exp": 10**15})).expires_at
    assert datetime.fromtimestamp(ends, UTC).year == 9999


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "state" / "token.key"
    found = []
    threads = [threading.Thread(target=lambda: found.append(read_key(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_others_can_read_or_that_is_too_short_is_not_used(tmp_path):
    path = tmp_path / "token.key"
    path.write_bytes(KEY)
    path.chmod(0o644)
    with pytest.raises(StorageError, match="other users"):
        read_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(StorageError, match="5 bytes"):
        read_key(path)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_the_handshake_refuses_and_nothing_is_delivered(gatehouse, kind, transport):
    import asyncio

    async def main():
        ear = Ear(gatehouse, token=BAD[kind][0] if kind != "none" else "")
        refusals = []
        ear.io.on("connect_error", refusals.append)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await ear.io.connect(
                gatehouse.url,
                auth={"token": BAD[kind][0]} if kind != "none" else None,
                transports=[transport],
                wait_timeout=60,
            )
        await ear.close()
        assert ear.heard == []
        if kind != "endless" or transport == "websocket":
            assert refusals[0]["data"]["code"] == "UNAUTHORIZED"
            assert BAD[kind][1] in refusals[0]["message"]

    asyncio.run(main())
    assert gatehouse.metrics().connections_opened == 0


@pytest.fixture(scope="module")
def gatehouse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gatehouse")
    key = folder / "token.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    with serving(folder, key=str(key)) as server:
        yield server


def test_the_clock_of_another_issuer_may_differ_by_a_minute_and_ours_may_not(rsa_key):
    elsewhere, own, now = (
        Tokens(public=lambda _: rsa_key.public_key(), **NAMES),
        Tokens(keys=lambda: (KEY,), **NAMES),
        time.time(),
    )
    for claims in ({"exp": now - LEEWAY_S / 2}, {"nbf": now + LEEWAY_S / 2}, {"iat": now + LEEWAY_S / 2}):
        identity = elsewhere.check(signed(CLAIMS | claims, rsa_key, "RS256"))
        assert identity.expires_at > now + LEEWAY_S / 3  # or its socket would be closed at once
        with pytest.raises(Refused):
            own.check(signed(CLAIMS | claims))
    for claims in ({"exp": now - 2 * LEEWAY_S}, {"nbf": now + 2 * LEEWAY_S}):
        with pytest.raises(Refused):
            elsewhere.check(signed(CLAIMS | claims, rsa_key, "RS256"))


def test_a_token_from_elsewhere_never_names_the_servers_own_process(rsa_key):
    elsewhere = Tokens(public=lambda _: rsa_key.public_key(), owner_key=KEY, **NAMES)
    with pytest.raises(Refused, match="own process"):
        elsewhere.check(signed(CLAIMS | {"sub": "local"}, rsa_key, "RS256"))
    assert elsewhere.check(elsewhere.owner_token("local")).user == "local"
    own = Tokens(keys=lambda: (KEY,), **NAMES)
    assert own.check(own.issue("local").token).user == "local"


def test_the_owner_of_the_process_is_let_in_beside_whoever_else_issues_tokens(rsa_key):
    own = Tokens(public=lambda _: rsa_key.public_key(), owner_key=KEY, **NAMES)
    identity = own.check(own.owner_token("local"))
    assert (identity.user, identity.is_admin, identity.is_process_owner) == ("local", True, True)
    other = own.check(signed(CLAIMS, rsa_key, "RS256"))
    assert (other.user, other.is_process_owner) == ("ann", False)
    for imposter in (
        signed(CLAIMS, bytes(32), kid="owner"),
        signed(CLAIMS, rsa_key, "RS256", kid="owner"),
        signed(CLAIMS, KEY),
        signed(CLAIMS | {"exp": 1}, KEY, kid="owner"),
    ):
        with pytest.raises(Refused):
            own.check(imposter)


def test_without_an_owners_key_nobody_is_the_owner():
    tokens = Tokens(keys=lambda: (KEY,), **NAMES)
    assert not tokens.check(signed(CLAIMS, KEY, kid="owner")).is_process_owner
    with pytest.raises(Refused):
        tokens.check(signed(CLAIMS, bytes(range(1, 33)), kid="owner"))
