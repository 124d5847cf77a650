"""Exported files say what the song is, read by libsndfile and by tinytag, and sound like it."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from tinytag import TinyTag

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.export.encoding import FORMATS
from harmonia_lab.export.song import ExportOptions, export_song
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.record_schema import sealed
from tests.export.conftest import METADATA


@pytest.fixture(scope="module")
def exported(made_song, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    options = ExportOptions(formats=FORMATS, midi=True, artist="Ann Ä", album="Sea; songs")
    return {path.suffix[1:]: path for path in export_song(made_song, out, options).files}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_carries_what_the_song_is(exported, made_song, name):
    tag = TinyTag.get(exported[name], image=True)
    assert (tag.title, tag.artist, tag.album, tag.genre) == (METADATA.title, "Ann Ä", "Sea; songs", "folk")
    other = {key: value[0] for key, value in tag.other.items()}
    assert (other["bpm"], other["initial_key"]) == ("96", "F#m")
    assert other["lyrics"].splitlines() == METADATA.lyrics.splitlines()
    origin = {key.removeprefix("harmonia_"): value for key, value in other.items() if key.startswith("harmonia_")}
    assert origin == {
        "generation_id": "gen-1",
        "seed": "7",
        "song_sha256": read_record(made_song)["files"]["song.flac"]["sha256"],
        "metadata_engine": "fake",
        "metadata_model": "fake-model",
        "audio_engine": "fake",
        "audio_model": "tones",
    }
    assert "machine" in tag.comment
    cover = tag.images.front_cover
    assert (cover.mime_type, cover.data) == ("image/png", (made_song / "overview.png").read_bytes())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_sounds_like_the_song(exported, made_song, name):
    original, rate = soundfile.read(made_song / "song.flac")
    copy, copied_rate = soundfile.read(exported[name])
    assert (copied_rate, copy.shape) == (rate, original.shape)
    error = np.sqrt(np.mean((copy - original) ** 2))
    assert error == 0 if name in ("wav", "flac") else error < 0.02


@pytest.mark.parametrize("name", ["ogg", "wav", "mp3"])
def test_libsndfile_reads_the_tags_that_it_knows(exported, name):
    with soundfile.SoundFile(exported[name]) as file:
        found = file.copy_metadata()
    assert (found["title"], found["artist"], found["genre"]) == (METADATA.title, "Ann Ä", "folk")


def test_the_same_song_makes_the_same_bytes(made_song, tmp_path, exported):
    again = export_song(made_song, tmp_path, ExportOptions(formats=("ogg", "mp3"), artist="Ann Ä", album="Sea; songs"))
    for path in again.files:
        assert path.read_bytes() == exported[path.suffix[1:]].read_bytes()


def test_a_cover_of_ones_own_a_large_one_and_none(made_song, tmp_path):
    picture = tmp_path / "cover.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8)).save(picture, quality=95)
    assert picture.stat().st_size > 100_000, "several Ogg pages"
    options = ExportOptions(formats=("ogg", "mp3", "flac"), cover=str(picture))
    for path in export_song(made_song, tmp_path / "own", options).files:
        cover = TinyTag.get(path, image=True).images.front_cover
        assert (cover.mime_type, cover.data) == ("image/jpeg", picture.read_bytes())
        assert soundfile.info(path).frames == 48_000
    none = export_song(made_song, tmp_path / "none", ExportOptions(formats=("ogg",), cover="")).files[0]
    assert TinyTag.get(none, image=True).images.front_cover is None
    with pytest.raises(InvalidRequest, match="it is no PNG and no JPEG"):
        export_song(made_song, tmp_path / "bad", ExportOptions(cover=str(made_song / "song.mid")))


def test_a_file_that_is_there_is_replaced_only_if_that_is_asked(made_song, tmp_path):
    (tmp_path / "sea.mid").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"sea\.mid is there already"):
        export_song(made_song, tmp_path, ExportOptions(formats=(), midi=True))
    assert (tmp_path / "sea.mid").read_text() == "mine"
    export_song(made_song, tmp_path, ExportOptions(formats=(), midi=True, overwrite=True))
    assert (tmp_path / "sea.mid").read_bytes() == (made_song / "song.mid").read_bytes()


def test_an_altered_song_is_exported_with_a_note_and_an_incomplete_one_is_not(song, tmp_path):
    (song / "lyrics.txt").write_text("la")
    assert export_song(song, tmp_path / "a", ExportOptions(formats=("flac",))).notes == [
        "lyrics.txt is not as it was recorded; the export has it as it is now."
    ]
    (song / "song.flac").unlink()
    with pytest.raises(HarmoniaError, match=r"song\.flac is missing") as caught:
        export_song(song, tmp_path / "b", ExportOptions())
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_the_songs_folder_is_only_read(song, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in song.rglob("*")}
    export_song(song, tmp_path / "out", ExportOptions(formats=("wav",), stems=("mixed",)))
    assert {path: path.stat().st_mtime_ns for path in song.rglob("*")} == before


def test_stems_as_mixed_add_up_to_the_song_before_mastering(made_song, tmp_path):
    options = ExportOptions(formats=("wav",), stems=("mixed", "rendered"))
    done = export_song(made_song, tmp_path, options)
    assert done.notes == []
    mixed = [path for path in done.files if path.parent.name == "sea-stems-mixed"]
    assert [path.name for path in mixed] == ["1-piano.wav", "2-flute.wav"]
    total = sum(soundfile.read(path)[0] for path in mixed)
    song, _ = soundfile.read(made_song / "song.flac")
    gain = 10 ** (read_record(made_song)["measurements"]["master_gain_db"] / 20)
    quiet = np.abs(song) < 0.3 * np.abs(song).max()  # where the limiter does nothing
    assert np.abs(total * gain - song)[quiet].max() < 1e-3
    rendered = [path for path in done.files if path.parent.name == "sea-stems-rendered"]
    for path, name in zip(rendered, ("1-piano", "2-flute"), strict=True):
        assert np.array_equal(soundfile.read(path)[0], soundfile.read(made_song / "stems" / f"{name}.flac")[0])
    assert "before mastering" in TinyTag.get(mixed[0]).comment
    assert TinyTag.get(mixed[1]).title == f"{METADATA.title}: flute"


def test_stems_of_another_mixer_are_said_to_be_so(song, tmp_path):

    record = json.loads((song / "run.json").read_text())
    del record["recordSha256"]
    record["measurements"]["stems"][0]["gain_db"] += 1
    (song / "run.json").write_text(json.dumps(sealed(record)))
    (note,) = export_song(song, tmp_path / "out", ExportOptions(formats=("wav",), stems=("mixed",))).notes
    assert "mixes otherwise" in note


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(Path(__file__).parents[1] / "generation" / "song-v1", tmp_path / "old"))


def test_a_song_of_an_older_version_and_of_one_stem_that_is_the_mix_is_exported_too(old, tmp_path):
    options = ExportOptions(formats=FORMATS, stems=("mixed", "rendered"), midi=True)
    assert len(export_song(old, tmp_path / "out", options).files) == 3 * len(FORMATS) + 1


def test_an_audio_format_that_lacks_the_sample_rate_says_what_to_do(song, tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((100, 2)), 96_000, "PCM_24", format="FLAC")
    (song / "song.flac").write_bytes(buffer.getvalue())
    with pytest.raises(HarmoniaError, match=r"can't be written as mp3") as caught:
        export_song(song, tmp_path / "out", ExportOptions(formats=("mp3",)))
    assert caught.value.code is ErrorCode.AUDIO_ERROR
    assert caught.value.hint == "Choose --format flac or wav."


@pytest.mark.parametrize("name", FORMATS)
def test_tags_of_a_sound_that_follows_no_notes_hold_what_was_measured_and_no_lyrics(text_model_song, tmp_path, name):
    done = export_song(text_model_song, tmp_path, ExportOptions(formats=(name,)))
    other = {key: value[0] for key, value in TinyTag.get(done.files[0]).other.items()}
    measured = read_record(text_model_song)["measured"]
    assert measured["bpm"] is None
    assert "bpm" not in other
    assert "lyrics" not in other
    assert other.get("initial_key") == (measured["key"] and _short(measured["key"]))
    assert done.notes == ["The lyrics are not in the tags, since nobody sings them."]


def _short(key):
    tonic, mode = key.split()
    return tonic + ("m" if mode == "minor" else "")


def test_the_notes_that_nobody_plays_are_exported_as_the_plans(text_model_song, tmp_path):
    done = export_song(text_model_song, tmp_path, ExportOptions(formats=(), midi=True))
    assert [path.name for path in done.files] == ["mist-plan.mid"]
    assert done.files[0].read_bytes() == (text_model_song / "plan.mid").read_bytes()
    assert "notes that were planned" in done.notes[-1]


def test_mixed_stems_of_a_sound_that_follows_no_sections_add_up_without_their_faders(text_model_song, tmp_path):
    done = export_song(text_model_song, tmp_path, ExportOptions(formats=("wav",), stems=("mixed",)))
    total = sum(soundfile.read(path)[0] for path in done.files if path.parent.name == "mist-stems-mixed")
    song, _ = soundfile.read(text_model_song / "song.flac")
    gain = 10 ** (read_record(text_model_song)["measurements"]["master_gain_db"] / 20)
    quiet = np.abs(song) < 0.3 * np.abs(song).max()
    assert np.abs(total * gain - song)[quiet].max() < 1e-3
