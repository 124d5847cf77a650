"""The record knows its own content: what an editor may change, and what `verify` says about the rest."""

import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile

from harmonia_lab import Lab
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import load_song, read_record
from harmonia_lab.generation.audio_stage import LICENCE_NOTE
from harmonia_lab.generation.record_schema import DIGEST, check_types, record_digest, sealed
from harmonia_lab.generation.verify import check_folder, song_folders
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

OLD = Path(__file__).with_name("song-v1")
"""Written by the commit before record version 2, by fakes; its host is renamed."""


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    home = tmp_path_factory.mktemp("record")
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=home / "songs", home=home) as lab:
        return Path(lab.compose("A story.", seconds=1, seed=7, progress=False).directory)


@pytest.fixture
def folder(song, tmp_path):
    return Path(shutil.copytree(song, tmp_path / "song"))


def edit(folder, change):
    record = json.loads((folder / "run.json").read_text())
    change(record)
    (folder / "run.json").write_text(json.dumps(record, ensure_ascii=False))


def told(folder):
    return [finding.what for finding in check_folder(folder).findings if finding.file == "run.json"]


@pytest.mark.parametrize(
    "laid_out",
    [
        lambda record: json.dumps(record, indent=4, sort_keys=True).replace("\n", "\r\n").encode(),
        lambda record: b"\xef\xbb\xbf" + json.dumps(record, ensure_ascii=False).encode(),
        lambda record: json.dumps(record).replace(": 1.0,", ": 1,").encode(),
    ],
    ids=["other indentation and CRLF", "a byte order mark", "JavaScript's numbers"],
)
def test_a_record_that_an_editor_laid_out_anew_is_the_same_record(folder, laid_out):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_bytes(laid_out(record))
    report = check_folder(folder)
    assert report.ok, report
    assert "run.json" in report.checked


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["request"].update(seed=8), "request.seed is 8, where the other seeds follow from 7"),
        (lambda r: r["seeds"].update(request=8), "seeds.request is 8, where the other seeds follow from 7"),
        (lambda r: r["seeds"]["stems"].update(flute=3), "seeds.stems.flute is 3, where "),
        (lambda r: r.update(songId="song-x"), 'songId is "song-x", where generationId'),
        (
            lambda r: r["measurements"].update(loudness_lufs=-9.0),
            "measurements.loudness_lufs is -9.0, where the song has",
        ),
        (
            lambda r: r["measurements"].update(true_peak_dbtp=0.0),
            "measurements.true_peak_dbtp is 0.0, where the song has",
        ),
        (lambda r: r["request"].update(seconds=30), "request.seconds is 30, where the song was planned for 1"),
        (lambda r: r["timings"].update(total=0.001), "timings.total is 0.001 s, less than its parts"),
        (lambda r: r["files"].pop("lyrics.txt"), "files leaves out lyrics.txt, which is in the folder"),
        (lambda r: r["files"]["lyrics.txt"].update(bytes=1), "lyrics.txt.bytes is 1, where the file has"),
        (lambda r: r["stems"].pop(), "stems leaves out stems/2-flute.flac"),
        (lambda r: r["stems"][0].update(sampleRate=1), "stems/1-piano.flac has a sample rate of 32000 Hz, and not 1"),
        (
            lambda r: r["seconds"]["song.flac"].append("0" * 64),
            "seconds.song.flac differs from the file, from second 1",
        ),
        (lambda r: r["warnings"].append("None."), "warnings differs from metadata.json"),
    ],
)
def test_what_was_changed_in_a_record_is_said_where_it_contradicts_the_song(folder, change, says):
    edit(folder, change)
    edited, *values = told(folder)
    assert "differs from its own digest" in edited
    assert [value for value in values if says in value], values


def test_a_change_that_contradicts_nothing_is_found_and_not_guessed(folder):
    edit(folder, lambda record: record["engines"]["audio"].update(model="a better one"))
    report = check_folder(folder)
    assert [finding.file for finding in report.findings] == ["run.json"]
    assert "Which value of the record was changed can't be told" in report.notes[0]


def test_a_record_without_its_digest_is_no_whole_record(folder):
    edit(folder, lambda record: record.pop(DIGEST))
    assert told(folder) == ["has lost its own digest"]


def test_who_writes_the_record_anew_is_not_found(folder):
    """What a digest is worth, as the README says: it finds accidents."""
    (folder / "lyrics.txt").write_text("la")
    (folder / "run.json").write_text("{}")
    with pytest.raises(HarmoniaError):
        check_folder(folder)
    forged = folder.parent / "forged"
    shutil.copytree(OLD, forged)
    record = json.loads((OLD / "run.json").read_text())
    record["engines"]["audio"]["model"] = "a better one"
    (forged / "run.json").write_text(json.dumps(sealed(record | {"recordVersion": 2})))
    assert check_folder(forged).ok


def test_a_song_that_the_version_before_wrote_opens_and_verifies(tmp_path):
    report = check_folder(OLD)
    assert report.ok, report
    assert report.notes == [
        "The record is of version 1, which had no digest of itself: only what contradicts the files is found."
    ]
    assert load_song(OLD, duration=1.0).seed == 7
    edited = Path(shutil.copytree(OLD, tmp_path / "old"))
    edit(edited, lambda record: record["measurements"].update(loudness_lufs=-30.0))
    assert told(edited) == ["measurements.loudness_lufs is -30.0, where the song has -14.00 LUFS"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(files=[]), "files: input should be a valid dictionary"),
        (lambda r: r["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}}), "outside the song's folder"),
        (lambda r: r["files"].update({"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}), "outside the song's folder"),
        (lambda r: r["files"].update({"stems\\..\\x": {"sha256": "0" * 64, "bytes": 1}}), "outside the song's folder"),
        (lambda r: r["stems"][0].update(file="../../x.flac"), "stems.0.file: names a file outside"),
        (lambda r: r["seeds"].update(request="7"), "seeds.request: input should be a valid integer"),
        (lambda r: r["files"]["song.flac"].update(sha256="x"), "files.song.flac.sha256: string should match"),
        (lambda r: r["engines"].pop("metadata"), "engines.metadata: field required"),
        (lambda r: r["measurements"].update(loudness_lufs="loud"), "measurements.loudness_lufs: input should be"),
        (lambda r: r.update(host=float("nan")), "NaN is no number"),
        (lambda r: r.update(recordVersion=True), "recordVersion: input should be a valid integer"),
    ],
)
def test_wrong_types_and_names_outside_the_folder_are_a_damaged_record(folder, change, says):
    edit(folder, change)
    with pytest.raises(HarmoniaError, match="is damaged") as caught:
        check_folder(folder)
    assert caught.value.code is ErrorCode.RECORD_DAMAGED
    assert says in caught.value.message


def test_a_record_nested_without_end_is_damaged(folder):
    (folder / "run.json").write_text("[" * 100_000)
    with pytest.raises(HarmoniaError) as caught:
        read_record(folder)
    assert caught.value.code is ErrorCode.RECORD_DAMAGED


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere.txt"
    (folder / "lyrics.txt").rename(elsewhere)
    (folder / "lyrics.txt").symlink_to(elsewhere)
    assert [str(finding) for finding in check_folder(folder).findings] == [
        "lyrics.txt: is a link that leads out of the folder"
    ]


def test_a_pipe_in_the_folder_keeps_nobody_waiting(folder):
    (folder / "lyrics.txt").unlink()
    os.mkfifo(folder / "lyrics.txt")
    os.mkfifo(folder / "more")
    report = check_folder(folder)
    assert [str(finding) for finding in report.findings] == ["lyrics.txt: is no regular file"]
    assert report.notes == ["more is not in the record."]
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    with pytest.raises(HarmoniaError, match="it is no file"):
        read_record(folder)


def test_a_huge_file_is_told_by_its_size(folder):
    for name, size in (("lyrics.txt", 2**40), ("more.bin", 2**40)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    assert [str(finding).partition(",")[0] for finding in check_folder(folder).findings] == [
        f"lyrics.txt: altered: {2**40} bytes"
    ]


def test_songs_are_found_below_a_folder_and_unfinished_ones_are_not(folder, tmp_path):
    deep = tmp_path / "night" / "sea" / "one"
    shutil.copytree(folder, deep)
    shutil.copytree(folder, tmp_path / "night" / ".two.partial-12345678")
    shutil.copytree(folder, tmp_path / "night" / "three.partial-12345678")
    shutil.copytree(folder, tmp_path / "night" / "replaced" / "four")
    (tmp_path / "night" / "loop").symlink_to(tmp_path / "night", target_is_directory=True)
    assert song_folders(tmp_path / "night") == [deep]
    assert song_folders(deep) == [deep]
    assert song_folders(tmp_path / "night" / "replaced") == [tmp_path / "night" / "replaced" / "four"]
    assert song_folders(tmp_path / "night" / "loop" / "sea") == [tmp_path / "night" / "loop" / "sea" / "one"]


def test_the_sound_carries_what_the_request_determines_and_nothing_else(song):
    for name, title in (("song.flac", "Harbour Light"), ("stems/1-piano.flac", "Harbour Light: piano")):
        with soundfile.SoundFile(song / name) as file:
            tags = file.copy_metadata()
        assert tags == {"title": title, "genre": "folk", "comment": LICENCE_NOTE}


def test_a_digest_counts_values_and_not_their_spelling():
    record = {"a": 1.0, "b": ["ä", 0.1, -0.0], "c": None}
    assert record_digest(record) == record_digest({"c": None, "b": ["ä", 0.1, 0], "a": 1, DIGEST: "x"})
    assert record_digest(record) != record_digest(record | {"a": 2})
    assert record_digest(record) != record_digest(record | {"d": None})


def test_a_record_of_another_program_is_no_record():
    for content in (None, [], "x", {"recordVersion": 2}):
        assert check_types(content)


def test_a_record_that_makes_no_request_is_damaged_when_the_song_is_to_be_made_again(tmp_path):
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    edit(folder, lambda record: record["request"].update(narrative=5))
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path, home=tmp_path) as lab:
        with pytest.raises(HarmoniaError, match="no song can be asked for as it says") as caught:
            lab.verify(folder, rerun=True)
        assert caught.value.code is ErrorCode.RECORD_DAMAGED
        assert lab.log.rows() == []
