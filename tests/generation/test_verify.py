"""What changed in a song's folder, down to the second."""

import copy
import json

import numpy as np
import pytest

from harmonia_lab.audio_engines.audiofile import write_flac
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.generation.artifacts import file_digest
from harmonia_lab.generation.record_schema import RECORD_VERSION, sealed
from harmonia_lab.generation.verify import check_folder, compare_records

RATE = 8000


def tone(seconds=4):
    wave = 0.1 * np.sin(np.arange(seconds * RATE) * 0.3)
    return np.stack([wave, wave]).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    written = write_flac(tmp_path / "song.flac", tone(), RATE, {"title": "T"}, CancelToken())
    (tmp_path / "lyrics.txt").write_text("la")
    files = {
        name: {"sha256": file_digest(tmp_path / name), "bytes": (tmp_path / name).stat().st_size}
        for name in ("song.flac", "lyrics.txt")
    }
    record = {
        "recordVersion": RECORD_VERSION,
        "files": files,
        "seconds": {"song.flac": written},
        "versions": {"numpy": "2.0"},
        "host": {"cpu": "a"},
        "engines": {"metadata": {"engine": "fake", "threads": 1}, "audio": {"engine": "fake"}},
        "request": {},
    }
    (tmp_path / "run.json").write_text(json.dumps(sealed(record)))
    return tmp_path


def test_an_untouched_folder_is_as_recorded(folder):
    report = check_folder(folder)
    assert report.ok
    assert report.checked == ["lyrics.txt", "song.flac", "run.json"]
    assert report.notes == []


def test_altered_audio_is_found_to_the_second(folder):
    audio = tone()
    audio[0, 2 * RATE + 5] += 0.01
    write_flac(folder / "song.flac", audio, RATE, {"title": "T"}, CancelToken())
    (finding,) = check_folder(folder).findings
    assert (finding.file, finding.second) == ("song.flac", 2)
    assert str(finding) == "song.flac: altered, from second 2"


def test_shortened_audio_differs_from_where_it_ends(folder):
    write_flac(folder / "song.flac", tone(3), RATE, {"title": "T"}, CancelToken())
    (finding,) = check_folder(folder).findings
    assert finding.second == 3


def test_new_tags_are_told_from_new_sound(folder):
    write_flac(folder / "song.flac", tone(), RATE, {"title": "Another"}, CancelToken())
    (finding,) = check_folder(folder).findings
    assert finding.second is None
    assert "sounds the same" in finding.what


def test_broken_missing_and_altered_files_are_told_apart(folder):
    (folder / "song.flac").write_bytes(b"fLaC junk")
    (folder / "lyrics.txt").unlink()
    (folder / "notes.txt").write_text("mine")
    report = check_folder(folder)
    assert [str(f) for f in report.findings] == [
        "lyrics.txt: missing",
        "song.flac: altered, from second 0",
    ]
    assert report.notes == ["notes.txt is not in the record."]


def test_a_file_that_cannot_be_read_is_a_finding(folder):
    record = json.loads((folder / "run.json").read_text())
    record["files"]["a" * 300] = {"sha256": "0" * 64, "bytes": 1}
    (folder / "run.json").write_text(json.dumps(sealed(record)))
    (finding,) = check_folder(folder).findings
    assert finding.what == "cannot be read: file name too long"


def test_a_second_run_is_compared_file_by_file_and_its_circumstances_named(folder):
    first = json.loads((folder / "run.json").read_text())
    second = copy.deepcopy(first)
    assert compare_records(first, second, folder).ok
    second["files"]["song.flac"]["sha256"] = "0" * 64
    second["seconds"]["song.flac"][3] = "0" * 64
    second["versions"]["numpy"] = "2.1"
    second["host"]["cpu"] = "b"
    second["engines"]["metadata"]["threads"] = 2
    report = compare_records(first, second, folder)
    assert [str(f) for f in report.findings] == ["song.flac: differs, from second 3"]
    assert report.notes == [
        "numpy: 2.0 then, 2.1 now.",
        "cpu: a then, b now.",
        "metadata engine's threads: 1 then, 2 now.",
    ]


def test_files_that_only_one_run_made_are_named(folder):
    first = json.loads((folder / "run.json").read_text())
    second = copy.deepcopy(first)
    second["files"]["stems/1-piano.flac"] = {"sha256": "0" * 64, "bytes": 1}
    assert [str(f) for f in compare_records(first, second, folder).findings] == ["stems/1-piano.flac: only made now"]


@pytest.mark.parametrize(("after", "ok"), [({"title": "T", "warnings": []}, True), ({"title": "U"}, False)])
def test_metadata_of_a_second_run_may_differ_in_its_warnings_alone(folder, tmp_path, after, ok):
    records, folders = [], (folder, tmp_path / "again")
    folders[1].mkdir()
    for where, metadata in zip(folders, ({"title": "T", "warnings": ["No Ollama."]}, after), strict=True):
        (where / "metadata.json").write_text(json.dumps(metadata))
        records.append(json.loads((folder / "run.json").read_text()))
        records[-1]["files"] = {"metadata.json": {"sha256": file_digest(where / "metadata.json")}}
    report = compare_records(*records, *folders)
    assert report.ok is ok
    assert ("warnings differ" in " ".join(report.notes)) is ok
