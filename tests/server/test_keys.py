"""Keys that change while a server runs: rotated by us, or by another issuer."""

import json
import os
import threading

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from harmonia_lab.errors import Refused
from harmonia_lab.server import keys
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.keys import KeyFile, PublicKeyFile, former_key, read_key, rotate_key
from harmonia_lab.server.signed_urls import SignedUrls
from tests.server.test_rate_limit import opened

NAMES = {"audience": "harmonia-lab", "issuer": "harmonia-lab"}
CLAIMS = {"sub": "ann", "aud": "harmonia-lab", "iss": "harmonia-lab", "exp": 2**33}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "token.key"


@pytest.fixture(scope="module")
def rsa_keys():
    return [rsa.generate_private_key(65537, 2048) for _ in range(2)]


def test_tokens_and_links_of_the_former_key_work_until_the_next_rotation(path):
    tokens, urls = Tokens(keys=KeyFile(path), **NAMES), SignedUrls(KeyFile(path), 60)
    token, url = tokens.issue("ann").token, urls.sign("/a", Identity("ann", (), 0.0))
    rotate_key(path)
    assert tokens.check(token).user == opened(urls, url).user == "ann"
    newer = tokens.issue("ann").token
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(newer, former_key(path).read_bytes(), ["HS256"], audience="harmonia-lab")
    rotate_key(path)
    assert tokens.check(newer).user == "ann"
    assert opened(urls, url) is None
    with pytest.raises(Refused, match="another key"):
        tokens.check(token)


def test_keys_are_for_their_owner_alone_and_nothing_else_is_left(path):
    rotate_key(path)
    rotate_key(path)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "token.key": 0o600,
        "token.key.former": 0o600,
    }
    assert read_key(path) != read_key(former_key(path))


def test_rotations_at_the_same_time_leave_two_different_keys_and_no_broken_one(path):
    read_key(path)
    threads = [threading.Thread(target=rotate_key, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(KeyFile(path)())) == 2


def test_a_key_that_cannot_be_used_does_not_replace_one_that_works(path, caplog):
    file = KeyFile(path)
    before = file()
    path.chmod(0o644)
    os.utime(path, ns=(1, 1))
    assert file() == before
    assert "not read again" in caplog.text
    path.unlink()
    assert file() == before


def jwks(*entries):
    """entries: (key, key id, further fields)."""
    public = [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) for key, *_ in entries]
    return json.dumps(
        {"keys": [one | {"kid": kid} | more for one, (_, kid, more) in zip(public, entries, strict=True)]}
    )


def signed(key, kid=None):
    return jwt.encode(CLAIMS, key, "RS256", headers={"kid": kid} if kid else None)


def test_another_issuers_new_key_is_taken_as_soon_as_its_file_has_it_and_the_old_one_ends(tmp_path, rsa_keys):
    old, new = rsa_keys
    path = tmp_path / "jwks.json"
    path.write_text(jwks((old, "old", {})))
    tokens = Tokens(public=PublicKeyFile(path), **NAMES)
    assert tokens.check(signed(old, "old")).user == tokens.check(signed(old)).user == "ann"
    with pytest.raises(Refused, match="not known here"):
        tokens.check(signed(new, "new"))
    path.write_text(jwks((old, "old", {}), (new, "new", {})))
    assert tokens.check(signed(new, "new")).user == tokens.check(signed(old, "old")).user == "ann"
    path.write_text("half of a fi")
    assert tokens.check(signed(new, "new")).user == "ann"
    path.write_text(jwks((new, "new", {}), (old, "enc", {"use": "enc"})))
    assert tokens.check(signed(new, "new")).user == "ann"
    for token in (signed(old, "old"), signed(old, "enc")):
        with pytest.raises(Refused):
            tokens.check(token)


def test_an_unknown_key_id_has_the_file_read_again_but_not_at_each_try(tmp_path, rsa_keys, monkeypatch):
    """A file's stamp may stay the same: a network's disk has seconds, and a copy keeps the time."""
    old, new = rsa_keys
    path = tmp_path / "jwks.json"
    path.write_text(jwks((old, "old", {})))
    public, clock, reads = PublicKeyFile(path), [0.0], []
    monkeypatch.setattr(keys, "file_stamp", lambda _: (1, 1, 1))
    monkeypatch.setattr(keys.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(keys, "_public_keys", lambda path, read=keys._public_keys: reads.append(1) or read(path))
    public._stamp, public._read_at = (1, 1, 1), 0.0
    path.write_text(jwks((new, "new", {})))
    assert [public("new") for _ in range(3)] == [None] * 3
    assert reads == []
    clock[0] = keys.REREAD_S
    assert public("new") is not None
    assert [public("x") for _ in range(3)] == [None] * 3
    assert len(reads) == 1


def test_one_key_in_a_pem_file_checks_tokens_with_any_key_id(tmp_path, rsa_keys):
    path = tmp_path / "key.pem"
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(rsa_keys[0].public_key().public_bytes(*form))
    tokens = Tokens(public=PublicKeyFile(path), **NAMES)
    assert tokens.check(signed(rsa_keys[0], "any")).user == tokens.check(signed(rsa_keys[0])).user == "ann"
    path.write_bytes(rsa_keys[1].public_key().public_bytes(*form))
    assert tokens.check(signed(rsa_keys[1])).user == "ann"
