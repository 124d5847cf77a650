"""`harmonia verify`: one song, several, a batch; paths to copy; exit statuses."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from harmonia_lab.cli.quoting import quoted

OLD = Path(__file__).parents[1] / "generation" / "song-v1"


@pytest.fixture
def night(harmonia):
    """A batch's folder: two songs of version 1, one of them in a folder with a name that a shell would split."""
    folder = harmonia.folder / "night"
    for name in ("one", "it's two $HOME 🎵"):
        shutil.copytree(OLD, folder / name)
    return folder


def lines(done):
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def test_one_song_is_one_object_as_before(harmonia):
    (found,) = lines(harmonia("verify", str(OLD), "--json"))
    assert found.keys() == {"directory", "ok", "rerun", "checked", "findings", "notes"}
    assert (found["directory"], found["ok"], len(found["checked"])) == (str(OLD), True, 8)


def test_a_batch_is_every_song_below_it_and_one_damaged_song_stops_no_other(harmonia, night):
    shutil.copytree(OLD, night / "deep" / "three")
    (night / "one" / "run.json").write_text("{")
    done = harmonia("verify", str(night), "--json")
    found = {Path(each["directory"]).name: each for each in lines(done)}
    assert {name: each["ok"] for name, each in found.items()} == {
        "one": False,
        "it's two $HOME 🎵": True,
        "three": True,
    }
    assert found["one"]["error"]["code"] == "RECORD_DAMAGED"
    assert done.returncode == 1
    said = harmonia("verify", str(night)).stdout.decode()
    assert said.splitlines()[-1] == "3 songs: 2 as recorded, 1 can't be checked."


def test_several_folders_are_checked_in_turn_each_once(harmonia, night):
    done = harmonia("verify", str(OLD), str(night), str(night / "one"), "--json")
    assert [Path(each["directory"]).name for each in lines(done)] == ["song-v1", "it's two $HOME 🎵", "one"]
    assert done.returncode == 0


def test_a_path_that_is_printed_can_be_pasted(harmonia, night):
    odd = night / "it's two $HOME 🎵"
    (odd / "lyrics.txt").write_text("la")
    said = harmonia("verify", str(odd)).stdout.decode()
    words = shlex.split(said.splitlines()[1].strip())
    assert words[0].removesuffix(":") == str(odd / "lyrics.txt")


@pytest.mark.parametrize(
    "name", ["plain", "with space", "it's", "-rf", "tab\tline\nend\x1b[31m", "caf\udce9", 'a"$b`c']
)
def test_bash_reads_a_quoted_path_as_it_is(name):
    echoed = subprocess.run(["bash", "-c", f"printf %s {quoted(Path(name))}"], capture_output=True, check=True).stdout
    assert echoed.removeprefix(b"./") == name.encode("utf-8", "surrogateescape")
    assert quoted(Path(name)).isprintable()


def test_songs_that_a_batchs_report_names_and_that_are_gone_are_found(harmonia, night):
    rows = [{"row": 1, "status": "made", "directory": "one"}, {"row": 2, "status": "kept", "directory": "gone"}]
    (night / "report.json").write_text(json.dumps({"rows": [*rows, {"row": 3, "status": "failed"}]}))
    done = harmonia("verify", str(night), "--json")
    batch = lines(done)[-1]
    assert (batch["directory"], batch["findings"][0]["file"], done.returncode) == (str(night), "gone", 1)
    assert batch["notes"] == ["1 of the 3 rows in report.json failed, and have no song."]
    shutil.copytree(OLD, night / "gone")
    assert harmonia("verify", str(night)).returncode == 0
    (night / "report.json").write_text('{"rows": 1}')
    assert harmonia("verify", str(night)).returncode == 0


def test_it_says_what_the_check_is_worth(harmonia):
    assert b"find accidents, not forgery" in harmonia("verify", str(OLD)).stdout
    assert b"find accidents, not forgery" in harmonia("verify", "--help").stdout


def test_a_folder_without_songs_is_an_error(harmonia, night):
    for name in ("empty", "nowhere"):
        (harmonia.folder / "empty").mkdir(exist_ok=True)
        done = harmonia("verify", str(harmonia.folder / name))
        assert done.returncode == 1
        assert b"is no song's folder" in done.stderr
