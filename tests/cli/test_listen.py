"""`harmonia listen`: a test of songs, its answers and its invitations, from the command line."""

import json

import pytest

from harmonia_lab.listening.files import read_key
from tests.listening.songs import answered, make_batch, make_song, make_study


def test_a_test_is_made_and_its_answers_are_read(harmonia, tmp_path):
    make_study(tmp_path / "decoders", blocks=2)
    made = harmonia("listen", str(tmp_path / "decoders"), "--out", str(tmp_path / "test.html"), "--seed", "5")
    assert made.returncode == 0
    said = made.stdout.decode()
    assert "2 pairs and 2 attention checks of fast, int8" in said
    assert "not for listeners" in said
    design = read_key(tmp_path / "test.key.json")
    folder = tmp_path / "returned"
    folder.mkdir()
    for number in range(6):
        plain = answered(design, f"l{number}", lambda shown: shown.index("int8"), seed=number + 1)
        (folder / f"{number}.json").write_text(json.dumps(plain))
    (folder / "photo.json").write_text("{}")
    read = harmonia("listen", "--key", str(tmp_path / "test.key.json"), "--answers", str(folder))
    assert "int8 over fast" in read.stdout.decode()
    assert "photo.json is no answer set" in read.stdout.decode()
    as_json = harmonia(
        "listen", "--key", str(tmp_path / "test.key.json"), "--answers", str(folder), "--json",
        "--webmushra", str(tmp_path / "wm"),
    )  # fmt: skip
    told = json.loads(as_json.stdout)
    assert (told["listeners"], told["comparisons"][0]["differs"]) == (6, True)
    assert (tmp_path / "wm" / "paired_comparison.csv").exists()


def test_folders_may_have_names(harmonia, tmp_path):
    for name, pitch in (("one", 300), ("two", 400)):
        make_song(tmp_path / name, pitch=pitch)
    songs = [f"before={tmp_path / 'one'}", str(tmp_path / "two")]
    made = harmonia("listen", *songs, "--out", str(tmp_path / "t.html"), "--json")
    assert json.loads(made.stdout)["conditions"] == ["before", "two"]


def test_a_served_test_is_listed_invites_and_has_its_answers(harmonia, tmp_path):
    from harmonia_lab.listening.home import ListeningHome

    make_batch(tmp_path / "night")
    made = harmonia("listen", str(tmp_path / "night"), "--serve", "--json", "--kind", "scales", "--title", "Bands")
    test_id = json.loads(made.stdout)["id"]
    assert "Bands" in harmonia("listen", "--list").stdout.decode()
    links = harmonia("listen", "--test", test_id, "--invite", "ann", "bob", "--url", "https://songs.example/x/")
    lines = links.stdout.decode().splitlines()
    assert lines[0].startswith(f"ann  https://songs.example/x/listen/{test_id}#token=")
    assert len(lines) == 2
    home = ListeningHome(harmonia.home / "listening")
    design = read_key(home.folder(test_id) / "key.json")
    plain = answered(design, "", None, rate=lambda name, treatment: 5 if treatment else 50, passes=True)
    home.keep(test_id, "ann", plain)
    assert "1 of 1 answer sets count" in harmonia("listen", "--test", test_id).stdout.decode()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "Name songs to make a test of"),
        (["--key", "nowhere.key.json", "--answers", "x"], "nowhere.key.json is no key of a listening test"),
        (["--list", "--test", "x"], "else one of --key, --test and --list"),
        (["--test", "000000000000", "--invite", "ann"], "no such listening test"),
        (["empty", "--out", "t.html"], "holds no songs"),
        (["empty"], "--out FILE writes a page"),
        (["empty", "--out", "t.pdf"], "is no .html file"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(harmonia, tmp_path, monkeypatch, given, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = harmonia("listen", *given)
    assert done.returncode in (1, 2)
    assert why in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
