"""Files that every system takes, that somebody has open, or whose account has no home."""

import ast
import errno
import json
import os
import pwd
import re
from pathlib import Path

import pytest

from harmonia_lab import cli, storage
from harmonia_lab.analysis import glyphs
from harmonia_lab.batch.rows import rows_of
from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.file_names import MOST_NAME_BYTES, beside
from harmonia_lab.generation.artifacts import SongFolder, song_places
from harmonia_lab.server.keys import read_key

ROOT = Path(__file__).parents[2]


def in_use(*_arguments):
    """What Windows answers for a file that another program has open."""
    error = PermissionError(errno.EACCES, "The process cannot access the file")
    error.winerror = 32
    raise error


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE_S", 0.1)


def test_a_file_that_another_program_has_open_is_replaced_once_it_is_closed(tmp_path, monkeypatch):
    real, refusals = Path.replace, [1, 1]
    monkeypatch.setattr(Path, "replace", lambda *given: in_use() if refusals and refusals.pop() else real(*given))
    storage.replace_bytes(tmp_path / "report.json", b"new")
    assert (tmp_path / "report.json").read_bytes() == b"new"
    assert refusals == []


def test_one_that_stays_open_is_an_error_that_says_so_and_nothing_is_left(tmp_path, monkeypatch, impatient):
    (tmp_path / "report.json").write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", in_use)
    with pytest.raises(StorageError, match="another program has it open") as caught:
        storage.replace_bytes(tmp_path / "report.json", b"new")
    assert caught.value.hint == "Close it there, and try again."
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_bytes() == b"old"


def test_another_refusal_is_not_waited_for(tmp_path, monkeypatch):
    calls = []

    def refused(*given):
        calls.append(given)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(StorageError, match="permission denied"):
        storage.replace_bytes(tmp_path / "report.json", b"new")
    assert len(calls) == 1


def test_a_folder_moves_onto_an_empty_one_also_where_the_system_does_not_do_that(tmp_path, monkeypatch):
    real = Path.rename

    def rename(path, to):
        if Path(to).exists():
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    for name in ("song", "empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(StorageError):
        storage.move(tmp_path / "song", tmp_path / "full")
    storage.move(tmp_path / "song", tmp_path / "empty")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "full"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "語" * 85])
def test_a_name_beside_a_long_one_is_not_too_long(tmp_path, name):
    path = beside(tmp_path / name, ".partial")
    assert len(path.name.encode()) <= MOST_NAME_BYTES
    storage.replace_bytes(tmp_path / name, b"1")
    folder = SongFolder(tmp_path, "abcdefgh", tmp_path / f"{name[:-1]}s")
    folder.create()
    assert folder.publish("A title").name == f"{name[:-1]}s"


def test_ids_that_differ_in_case_alone_have_places_of_their_own(tmp_path):
    """As on macOS and Windows, where `Abc` and `abc` are one name."""
    places = song_places(tmp_path, "Abcdefgh-1", None, "A title")
    others = song_places(tmp_path, "abcdefgh-1", None, "A title")
    folded = [{str(place).casefold() for place in each} for each in (places, others)]
    assert folded[0] - folded[1]
    for place in others[:2]:
        place.mkdir()
    folder = SongFolder(tmp_path, "abcdefgh-1")
    folder.create()
    assert folder.publish("A title") == others[2]


@pytest.mark.parametrize(
    "name", ["CON", "nul.txt", "com1", "COM¹", "lpt³.x", "con .txt", "CONIN$", "end.", "a:b", "a?"]
)
def test_a_batch_refuses_names_that_windows_does_not_take(name):
    (row,) = rows_of([{"narrative": "A.", "name": name}])
    assert isinstance(row.error, InvalidRequest)


def test_a_key_is_private_by_its_mode_and_on_windows_by_its_folder(tmp_path, monkeypatch):
    read_key(tmp_path / "token.key")
    (tmp_path / "token.key").chmod(0o644)
    with pytest.raises(StorageError, match="can be read by other users"):
        read_key(tmp_path / "token.key")
    monkeypatch.setattr(storage.sys, "platform", "win32")  # where each file's mode is 0666
    assert len(read_key(tmp_path / "token.key")) == 32


@pytest.fixture
def homeless(monkeypatch):
    """A container under an arbitrary uid, or systemd's DynamicUser."""

    def unknown(_uid):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "HARMONIA_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_an_account_without_a_home_is_told_which_variable_to_set(homeless, capsys, monkeypatch):
    with pytest.raises(StorageError, match="no home folder") as caught:
        storage.home_folder()
    assert "HARMONIA_HOME" in caught.value.hint
    monkeypatch.setattr(cli, "_log_to_standard_error", lambda: None)
    monkeypatch.setattr(cli.streams, "protect", lambda **_: None)
    monkeypatch.setattr(cli, "handle", lambda *_: None)
    assert cli.main(["clean", "--keep-songs", "1", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "HARMONIA_HOME" in error["hint"]) == ("STORAGE_UNWRITABLE", True)
    assert list(glyphs._folders())  # a picture needs no home


def test_with_the_variable_it_has_a_folder(homeless, tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path))
    assert storage.home_folder() == tmp_path
    monkeypatch.delenv("HARMONIA_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert storage.home_folder() == tmp_path / "state" / "harmonia-lab"


@pytest.mark.parametrize(("path", "said"), [("~/songs", "no home folder"), ("~nobody-has-this-name/x", "no account")])
def test_a_tilde_that_leads_nowhere_is_an_error_with_what_to_do(homeless, path, said):
    with pytest.raises(StorageError, match=said):
        storage.absolute(path)


def test_bytes_are_read_and_written_at_a_place_also_by_moving_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    for platform in ("linux", "win32"):
        monkeypatch.setattr(storage.sys, "platform", platform)
        path.write_bytes(b"0123456789")
        descriptor = os.open(path, os.O_RDWR)
        os.lseek(descriptor, 4, os.SEEK_SET)
        assert storage.read_at(descriptor, 3, 7) == b"789"
        assert os.read(descriptor, 1) == b"4"  # its own position is where it was
        assert storage.write_at(descriptor, b"ab", 1) == 2
        os.close(descriptor)
        assert path.read_bytes() == b"0ab3456789"


def texts_without_encoding(path):
    """Lines of a module that read or write text in the system's own encoding, beyond what ruff's PLW1514 infers."""
    source = path.read_text(encoding="utf-8")
    if not re.search(r"\b(read_text|write_text|text=)", source):
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(each.arg == "encoding" for each in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        own = len(node.args) == 1 + (name == "write_text")  # it is given by place, or `SongFolder.write_text` encodes
        as_text = name in ("run", "Popen", "check_output") and any(each.arg == "text" for each in node.keywords)
        if (name in ("read_text", "write_text") and not own) or as_text:
            yield f"{path}:{node.lineno}"


def test_every_text_file_is_read_and_written_as_utf_8():
    found = []
    for folder in ("harmonia_lab", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            found += texts_without_encoding(path)
    assert found == []
