"""The keys that sign and check tokens and links: files that are read again when they change.

Owns the key file, its rotation, and the file with the public keys of another issuer. `auth.py` owns the tokens.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from harmonia_lab import locks
from harmonia_lab.errors import HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.storage import others_may_read, replace, storage_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["KEY_BYTES", "FileStamp", "KeyFile", "PublicKeyFile", "file_stamp", "former_key", "read_key", "rotate_key"]

KEY_BYTES = 32
"""Least length of an HMAC-SHA-256 key: that of its output (RFC 7518, 3.2)."""

REREAD_S = 10.0
"""Seconds between two readings of a JWKS file that only an unknown key id asks for."""

FileStamp = tuple[int, int, int] | None
"""A file's inode, time of change [ns] and size [bytes], which tell one content from the next; None: there is none."""

_log = logging.getLogger(__name__)


def file_stamp(path: Path | str) -> FileStamp:
    """Return the stamp of a file, at the cost of one `stat`."""
    try:
        found = os.stat(path)  # noqa: PTH116 - `Path.stat` takes twice the time, and this is called for every token
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def former_key(path: Path) -> Path:
    """Return the file beside `path` that keeps the key before the last rotation."""
    return path.with_name(f"{path.name}.former")


def read_key(path: Path) -> bytes:
    """Return the key in the file, which is made if it doesn't exist: 32 random bytes, readable by the user alone.

    Raise StorageError if other users can read the file, the key is too short, or it can't be made.
    """
    with storage_errors(path):
        if not path.exists():
            _make_key(path)
        if others_may_read(path):
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


def rotate_key(path: Path) -> None:
    """Make a new key, and keep the present one as the former, which goes on checking. An older former key is dropped.

    Raise StorageError if the files can't be read or written; the present key then stays.
    """
    read_key(path)
    with storage_errors(path):
        while True:
            before = path.stat().st_ino
            with locks.guarding(path):
                if before != path.stat().st_ino:
                    continue  # another process has rotated it meanwhile: its key is the present one
                # In this order: after a crash between the two, both files hold the same key.
                _replace(former_key(path), path.read_bytes())
                _replace(path, secrets.token_bytes(KEY_BYTES))
                return


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole = _written(path, secrets.token_bytes(KEY_BYTES))
    try:
        # The complete file is linked into place: of two processes that start at once, both read the first one's key.
        os.link(whole, path)
    except FileExistsError:
        pass
    finally:
        whole.unlink()


def _replace(path: Path, key: bytes) -> None:
    replace(_written(path, key), path)


def _written(path: Path, key: bytes) -> Path:
    """Return a new file beside `path` that holds `key`, on the disk, with mode 0600."""
    descriptor, whole = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(whole).unlink()
        raise
    return Path(whole)


class KeyFile:
    """Callable: `keys()` returns the present key, which signs, and the former one if there is any. Any thread may call.

    The files are read again when they have changed. If that fails, the keys stay as they were.
    """

    def __init__(self, path: Path) -> None:
        """Raise StorageError for a key that can't be used."""
        self._path, self._former = path, former_key(path)
        self._stamps: tuple[FileStamp, FileStamp] = (None, None)
        self._keys: tuple[bytes, ...] = (read_key(path),)
        self()

    def __call__(self) -> tuple[bytes, ...]:
        stamps = file_stamp(self._path), file_stamp(self._former)  # before reading: the next call sees a later change
        if stamps != self._stamps and stamps[0] is not None:
            self._stamps = stamps
            try:
                self._keys = (read_key(self._path), *((read_key(self._former),) if stamps[1] is not None else ()))
            except StorageError as error:
                _log.warning("The keys were not read again. %s", error)
        return self._keys


class PublicKeyFile:
    """The RSA keys of a PEM file, or of a JWKS file by key id. Callable: `public(key_id)`. Any thread may call.

    The file is read again when it has changed, and once in REREAD_S seconds at most for a key id that it lacks. If that
    fails, the keys stay as they were.
    """

    def __init__(self, path: Path) -> None:
        """Raise InvalidRequest if the file has no RSA key or can't be read."""
        self._path = path
        self._stamp, self._read_at = file_stamp(path), time.monotonic()
        self._keys = _public_keys(path)

    def __call__(self, key_id: str | None) -> RSAPublicKey | None:
        """Return the key of a token with this key id: a PEM file's key for any, a JWKS's only one for a token without
        a key id."""
        if file_stamp(self._path) != self._stamp:
            self._read()
        found = self._find(key_id)
        if found is None and time.monotonic() - self._read_at >= REREAD_S:
            self._read()
            found = self._find(key_id)
        return found

    def _find(self, key_id: str | None) -> RSAPublicKey | None:
        keys = self._keys
        if key_id is None or None in keys:
            return next(iter(keys.values())) if len(keys) == 1 else keys.get(key_id)
        return keys.get(key_id)

    def _read(self) -> None:
        stamp, self._read_at = file_stamp(self._path), time.monotonic()
        if stamp is None:
            return  # it is being replaced
        self._stamp = stamp
        try:
            self._keys = _public_keys(self._path)
        except HarmoniaError as error:
            _log.warning("The public keys were not read again. %s", error)


def _public_keys(path: Path) -> dict[str | None, RSAPublicKey]:
    """Return the RSA keys of a PEM file (under None) or of a JWKS file (by key id, without those for encryption).

    Raise InvalidRequest if the file has none or can't be read.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 - for RS256 alone
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    details = {"fields": ["public_keys"]}
    try:
        data = path.read_bytes()
        if data.lstrip().startswith(b"{"):
            jwks = jwt.PyJWKSet.from_dict(json.loads(data))
            keys: dict[str | None, Any] = {
                key.key_id: key.key for key in jwks.keys if key.public_key_use in (None, "sig")
            }
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
