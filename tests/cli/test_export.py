"""`harmonia export`: a song, a batch, a data set; what is printed, and exit statuses."""

import json
import shutil
from pathlib import Path

import pytest

OLD = Path(__file__).parents[1] / "generation" / "song-v1"


@pytest.fixture
def night(harmonia):
    """A batch's folder with two songs."""
    for name in ("one", "it's two"):
        shutil.copytree(OLD, harmonia.folder / "night" / name)
    return harmonia.folder / "night"


def test_a_song_becomes_files_whose_paths_are_printed(harmonia):
    done = harmonia("export", str(OLD), "--format", "flac", "--midi", "--out", str(harmonia.folder / "my songs"))
    assert done.returncode == 0, done.stderr
    folder = harmonia.folder / "my songs"
    assert sorted(path.name for path in folder.iterdir()) == ["song-v1.flac", "song-v1.mid"]
    assert f"'{folder}/song-v1.flac'" in done.stdout.decode().splitlines()


def test_a_batch_is_exported_song_by_song_and_a_damaged_one_stops_no_other(harmonia, night):
    (night / "one" / "run.json").write_text("[]")
    done = harmonia("export", str(night), "--format", "ogg", "--json")
    two, one = (json.loads(line) for line in done.stdout.decode().splitlines())
    assert (two["ok"], [Path(name).name for name in two["files"]]) == (True, ["it's two.ogg"])
    assert (one["ok"], one["error"]["code"], done.returncode) == (False, "RECORD_DAMAGED", 1)
    assert (harmonia.folder / "exports" / "it's two.ogg").is_file()


def test_a_batch_becomes_a_data_set(harmonia, night):
    done = harmonia("export", str(night), "--format", "audiofolder", "--out", "set", "--json")
    assert json.loads(done.stdout) == {"out": "set", "songs": 2, "notes": []}
    assert len((harmonia.folder / "set" / "data" / "metadata.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "audiofolder", "--midi"), b"goes with --out alone"),
        (("--format", "audiofolder", "--format", "mp3"), b"goes with --out alone"),
        (("--format", "aiff"), b"invalid choice: 'aiff'"),
        (("--cover", "nowhere.png"), b"nowhere.png can't be the cover: No such file"),
        (("--sign", "a.pem", "b.pem"), b"a.pem cannot be read"),
    ],
)
def test_arguments_that_do_not_fit_are_bad_usage(harmonia, arguments, says):
    done = harmonia("export", str(OLD), *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_folder_without_a_song_is_an_error(harmonia):
    done = harmonia("export", str(harmonia.folder), "--json")
    assert (json.loads(done.stdout)["error"]["code"], done.returncode) == ("NOT_FOUND", 1)


def test_an_export_is_not_a_song_that_verify_calls_recorded(harmonia):
    harmonia("export", str(OLD), "--format", "flac")
    done = harmonia("verify", "exports/song-v1.flac")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[1] == "  exports/song-v1.flac: has no content credentials"
