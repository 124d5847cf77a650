"""Songs as a data set, as pyarrow and Hugging Face `datasets` read it."""

import json
import shutil
import sys
import types
from pathlib import Path

import pyarrow.json
import pytest

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.export.audiofolder import export_audiofolder
from harmonia_lab.generation.artifacts import read_record

OLD = Path(__file__).parents[1] / "generation" / "song-v1"


def test_every_song_is_a_file_and_a_row_with_its_name(made_song, tmp_path):
    export_audiofolder([made_song, OLD], tmp_path / "set")
    rows = pyarrow.json.read_json(tmp_path / "set" / "data" / "metadata.jsonl").to_pylist()
    assert [row["file_name"] for row in rows] == ["sea.flac", "song-v1.flac"]
    for row, folder in zip(rows, (made_song, OLD), strict=True):
        assert (tmp_path / "set" / "data" / row["file_name"]).read_bytes() == (folder / "song.flac").read_bytes()
    first = rows[0]
    assert (first["title"], first["bpm"], first["mood"]) == ("Sea / Meer 🌊 «ä»", 96, ["calm", "dark"])
    assert (first["seed"], first["audio_model"], first["seconds"]) == (7, "tones", 1.0)
    assert first["record_sha256"] == read_record(made_song)["recordSha256"]
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| fake tones | fake fake-model | 2 |" in card


def test_a_song_that_is_not_as_recorded_is_left_out_and_named(song, tmp_path):
    (song / "metadata.json").write_text((song / "metadata.json").read_text().replace("96", "97"))
    dataset = export_audiofolder([song, OLD], tmp_path / "set")
    assert [row["file_name"] for row in dataset] == ["song-v1.flac"]
    assert dataset.notes == [f"{song} was left out: metadata.json is not as recorded."]
    with pytest.raises(InvalidRequest, match="No song is left"):
        export_audiofolder([song], tmp_path / "other")


def test_songs_of_one_name_get_different_files_and_a_filled_folder_is_refused(made_song, tmp_path):
    twin = Path(shutil.copytree(OLD, tmp_path / "a" / "sea"))
    assert [row["file_name"] for row in export_audiofolder([made_song, twin], tmp_path / "set")] == [
        "sea-gen-1.flac",
        "sea-old-song.flac",
    ]
    with pytest.raises(InvalidRequest, match="is not empty"):
        export_audiofolder([made_song], tmp_path / "set")


@pytest.mark.stress
def test_hugging_face_datasets_loads_it(made_song, tmp_path, monkeypatch):
    """The sound stays undecoded, for which `datasets` wants torchcodec and FFmpeg: the former is stood in for, since
    `datasets` imports it also where nothing is decoded."""
    export_audiofolder([made_song, OLD], tmp_path / "set")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    if not datasets.config.TORCHCODEC_AVAILABLE:
        encoders = types.ModuleType("torchcodec.encoders")
        encoders.AudioEncoder = None
        monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.encoders", encoders)
    loaded = datasets.load_dataset("audiofolder", data_dir=str(tmp_path / "set"), split="train")
    rows = list(loaded.cast_column("audio", datasets.Audio(decode=False)))
    written = (tmp_path / "set" / "data" / "metadata.jsonl").read_text().splitlines()
    for row, line in zip(rows, map(json.loads, written), strict=True):
        assert Path(row.pop("audio")["path"]).name == line.pop("file_name")
        assert row == line


def test_a_row_says_what_the_sound_follows_and_what_was_measured(made_song, text_model_song, tmp_path):
    rows = export_audiofolder([made_song, text_model_song, OLD], tmp_path / "set")
    assert [row["follows"] for row in rows] == [["notes"], ["key", "prompt", "tempo"], None]
    assert rows[1]["measured_key"] == read_record(text_model_song)["measured"]["key"]
    assert rows[1]["measured_bpm"] is rows[2]["measured_key"] is None
    assert "no words are sung unless" in (tmp_path / "set" / "README.md").read_text()
