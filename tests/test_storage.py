"""Files that are changed, one change at a time, and digests of the files that engines read."""

import contextlib
import hashlib
import stat
from pathlib import Path

import pytest

from harmonia_lab import storage
from harmonia_lab.errors import StorageError
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


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_in_a_private_folder_is_private_too_and_elsewhere_as_the_umask_says(tmp_path):
    storage.make_folder(tmp_path / "private", private=True)
    storage.make_folder(tmp_path / "private" / "below")
    storage.write_bytes(tmp_path / "private" / "below" / "file", b"")
    (tmp_path / "open").mkdir(mode=0o755)
    storage.write_bytes(tmp_path / "open" / "file", b"")
    storage.make_folder(tmp_path / "open" / "below")
    assert [mode(tmp_path / "private" / name) for name in (".", "below", "below/file")] == [0o700, 0o700, 0o600]
    assert (mode(tmp_path / "open" / "file"), mode(tmp_path / "open" / "below")) == (0o644, 0o755)


def test_a_folder_that_cannot_be_moved_stays_where_it_is(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(StorageError):
        storage.move(tmp_path / "one", tmp_path / "two")
    assert [(tmp_path / name / "file").read_text() for name in ("one", "two")] == ["one", "two"]
    storage.remove_tree(tmp_path / "two")
    storage.remove_tree(tmp_path / "two")
    storage.move(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "file").read_text() == "one"


def test_every_change_passes_through_one_place(tmp_path, monkeypatch):
    changed, real = [], storage.changing

    @contextlib.contextmanager
    def changing(path):
        before = sorted(each.name for each in tmp_path.iterdir())
        with real(path):
            yield
        changed.append((path.name, before, sorted(each.name for each in tmp_path.iterdir())))

    monkeypatch.setattr(storage, "changing", changing)
    storage.write_bytes(tmp_path / "a", b"")
    storage.make_folder(tmp_path / "b")
    storage.move(tmp_path / "b", tmp_path / "c")
    storage.remove_tree(tmp_path / "c")
    storage.replace_bytes(tmp_path / "a", b"x")
    assert changed == [
        ("a", [], ["a"]),
        ("b", ["a"], ["a", "b"]),
        ("c", ["a", "b"], ["a", "c"]),
        ("c", ["a", "c"], ["a"]),
        (".a.partial", ["a"], [".a.partial", "a"]),
        ("a", [".a.partial", "a"], ["a"]),
    ]
