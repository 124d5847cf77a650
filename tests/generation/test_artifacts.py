"""A song's folder is there whole, or not at all."""

import json
import stat

import pytest

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.generation.artifacts import SongFolder, lyrics_text, package_versions, read_record, slug
from harmonia_lab.music.plan import Plan, SungLine


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("The Keeper's Lamp", "the-keepers-lamp"),
        ("¡Año Nuevo!", "ano-nuevo"),
        ("../../etc/passwd", "etc-passwd"),
        ("שלום 🎵", "song"),
        ("a" * 100, "a" * 40),
    ],
)
def test_folder_names_are_plain_whatever_the_title(title, name):
    assert slug(title) == name


def test_nothing_stands_at_the_destination_before_it_is_whole(tmp_path):
    folder = SongFolder(tmp_path / "songs", "abcdefghijkl")
    folder.create()
    folder.write_text("lyrics.txt", "la")
    assert not [p for p in (tmp_path / "songs").iterdir() if not p.name.startswith(".")]
    final = folder.publish("My Song")
    assert final == tmp_path / "songs" / "my-song-abcdefgh"
    assert (final / "lyrics.txt").read_text() == "la"
    assert list((tmp_path / "songs").iterdir()) == [final]


def test_a_song_and_the_folder_of_songs_are_for_their_user_alone(tmp_path):
    folder = SongFolder(tmp_path / "songs", "id")
    folder.create()
    folder.write_text("stems/1-piano.flac", "la")
    song = folder.publish("T")
    places = [tmp_path / "songs", song, song / "stems", song / "stems" / "1-piano.flac"]
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o700, 0o700, 0o700, 0o600]
    tmp_path.chmod(0o755)
    SongFolder(tmp_path, "id", tmp_path / "shared" / "song").create()
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755


def test_an_empty_output_folder_is_filled_and_a_filled_one_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    folder = SongFolder(tmp_path, "id", out)
    folder.create()
    folder.write_text("a", "a")
    assert folder.publish("T") == out
    with pytest.raises(InvalidRequest, match="not empty"):
        SongFolder(tmp_path, "id2", out).create()
    assert (out / "a").read_text() == "a"


def test_a_folder_that_was_filled_meanwhile_is_not_mixed_with_the_song(tmp_path):
    out = tmp_path / "out"
    folder = SongFolder(tmp_path, "id", out)
    folder.create()
    folder.write_text("a", "mine")
    out.mkdir()
    (out / "a").write_text("theirs")
    with pytest.raises(StorageError):
        folder.publish("T")
    assert (out / "a").read_text() == "theirs"
    assert (folder.work / "a").read_text() == "mine"


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InvalidRequest, match="is a file"):
        SongFolder(tmp_path, "id", tmp_path / "out").create()
    with pytest.raises(StorageError) as caught:
        SongFolder(tmp_path / "out" / "songs", "id").create()
    assert caught.value.code is ErrorCode.STORAGE_UNWRITABLE


def test_a_folder_that_cannot_even_be_looked_for_is_a_storage_error(tmp_path):
    """A name that no file system takes stands here for a folder that belongs to somebody else."""
    folder = SongFolder(tmp_path, "id", tmp_path / ("a" * 300))
    with pytest.raises(StorageError) as caught:
        folder.create()
    assert caught.value.code is ErrorCode.STORAGE_UNWRITABLE
    assert folder.keep(metadata_given=False) is None


def test_after_a_failure_what_is_finished_is_kept_under_a_name_that_says_so(tmp_path):
    folder = SongFolder(tmp_path, "id", tmp_path / "out")
    folder.create()
    assert folder.keep(metadata_given=False) is None
    assert list(tmp_path.iterdir()) == []
    folder.create()
    folder.write_json("metadata.json", {"title": "T"})
    kept = folder.keep(metadata_given=False)
    assert kept == tmp_path / "out.partial-id"
    assert json.loads((kept / "metadata.json").read_text()) == {"title": "T"}


def test_what_was_given_is_not_kept_as_if_it_were_a_part_of_the_song(tmp_path):
    folder = SongFolder(tmp_path, "id", tmp_path / "out")
    folder.create()
    folder.write_json("metadata.json", {})
    folder.write_json("plan.json", {})
    assert folder.keep(metadata_given=True) is None
    assert list(tmp_path.iterdir()) == []
    folder.create()
    folder.write_bytes("stems/1-piano.flac", b"")
    assert folder.keep(metadata_given=True) == tmp_path / "out.partial-id"


def test_another_attempt_finds_the_stems_and_the_transcript_of_the_one_before(tmp_path):
    folder = SongFolder(tmp_path, "id", tmp_path / "out")
    folder.create()
    folder.finished.mkdir()
    for name in ("metadata.json", "transcript.jsonl", "finished/key", "stems/1-piano.flac"):
        folder.write_bytes(name, b"{}")
    folder.keep(metadata_given=False)
    folder.resume()
    assert {path.name for path in folder.work.iterdir()} == {"transcript.jsonl", "finished"}
    (folder.finished / "key").unlink()
    assert folder.keep(metadata_given=True) is not None  # it has failed again: the transcript stays


def test_a_discarded_song_leaves_nothing(tmp_path):
    folder = SongFolder(tmp_path, "id", tmp_path / "out")
    folder.create()
    folder.write_json("metadata.json", {})
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_lyrics_say_which_line_is_sung_when():
    plan = Plan("T", "pop", 0, "major", 120, 4, 8, 16, 0, 0, (), (), (), (SungLine(61.04, 63.5, "Chorus", "Hold on"),))
    text = lyrics_text("T", plan, "[Chorus]\nHold on\n")
    assert text.startswith("T\n\n[Chorus]\nHold on\n")
    assert "1:01.0–1:03.5  [Chorus]  Hold on" in text


RECORDS = [None, "", "[]", "{}", '{"recordVersion": 99}', '{"recordVersion": 1}', '{"recordVersion": "?"}', "\x00"]


@pytest.mark.parametrize("content", RECORDS)
def test_a_folder_without_a_readable_record_is_no_song(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(HarmoniaError) as caught:
        read_record(tmp_path)
    newer = content is not None and "99" in content
    expected = ErrorCode.NOT_FOUND if content is None or newer else ErrorCode.RECORD_DAMAGED
    assert caught.value.code is expected
    assert ("record version 99" in caught.value.message) is newer


def test_a_package_without_metadata_leaves_a_record_that_can_be_read(tmp_path, monkeypatch):
    (tmp_path / "audiocraft-9.9.9.dist-info").mkdir()  # what a broken installation left
    monkeypatch.syspath_prepend(tmp_path)
    assert package_versions().get("audiocraft", "unknown") == "unknown"
