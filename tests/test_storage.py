"""Digests of the files that engines read."""

import hashlib
from pathlib import Path

from harmonia_lab.storage import cached_digest


def test_the_digest_follows_the_file(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    assert cached_digest(file) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"another")
    assert cached_digest(file) == hashlib.sha256(b"another").hexdigest()


def test_a_file_that_has_not_changed_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "bank.sf2"
    file.write_bytes(b"one")
    opened = []
    monkeypatch.setattr(Path, "open", lambda path, mode, real=Path.open: opened.append(path) or real(path, mode))
    assert cached_digest(file) == cached_digest(file)
    assert opened == [file]
