"""What the player is told of a song: only what is in its sound, small, and the same from a folder and from a server."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from harmonia_lab.errors import Disconnected, HarmoniaError
from harmonia_lab.generation.artifacts import MIDI
from harmonia_lab.player.song import (
    download_name,
    files_of,
    lyric_lines,
    missing_sound,
    song_in_folder,
    song_of_files,
)
from harmonia_lab.player.sound import COLUMNS, waveform
from tests.player.songs import make_song
from tests.server.engines import make_lab


def test_sections_lines_levels_and_names_are_those_of_the_folder(tmp_path):
    song = song_in_folder(make_song(tmp_path / "a"))
    assert [(each["name"], each["start"], each["end"]) for each in song["sections"]] == [
        ("intro", 0, 4),
        ("verse", 4, 8),
        ("chorus", 8, 12),
    ]
    assert [(stem["name"], stem["gain"], stem["pan"]) for stem in song["stems"]] == [
        ("piano", 6.0, 0.0),
        ("double bass", 0.0, 0.0),
    ]
    assert (song["title"], song["seconds"], song["lufs"]) == ("A Small Boat", 12.0, -14.0)
    assert dict(song["about"])["Folder"] == str(tmp_path / "a")
    assert {"Seed": "7", "Music": "sketch", "Words": "embedded (small)"}.items() <= dict(song["about"]).items()
    assert len(json.dumps(song)) < 4000


def test_words_stand_as_they_are_written_and_say_when_they_are_sung(tmp_path):
    lines = {line["text"]: line["spans"] for line in song_in_folder(make_song(tmp_path / "a"))["lines"]}
    assert lines["The tide comes in"] == [[0.5, 1.5]]
    assert lines["The boat goes out"] == [[2, 3]]  # sung with another mark at its end
    assert lines["Hold the light"] == [[5, 6], [9, 10]]
    assert lines["Nobody sings this"] == lines["[Chorus]"] == []


def test_a_sung_line_that_the_lyrics_lack_comes_after_those_before_it():
    lines = lyric_lines("One\nTwo", [("One", (0, 1)), ("One and a half", (1, 2)), ("Two", (2, 3))])
    assert [line["text"] for line in lines] == ["One", "One and a half", "Two"]
    assert lyric_lines("", []) == []


def test_what_a_sound_does_not_follow_is_not_shown(tmp_path):
    song = song_in_folder(make_song(tmp_path / "a", follows=("prompt", "tempo")))
    assert song["sections"] == []
    assert not any(line["spans"] for line in song["lines"])
    assert "no words are sung" in song["note"]
    assert song_in_folder(make_song(tmp_path / "b"))["note"] == ""


def test_a_song_whose_sound_plan_and_words_are_gone_is_still_described(tmp_path):
    folder = make_song(tmp_path / "a")
    for name in ("song.flac", "plan.json", "metadata.json"):
        (folder / name).unlink()
    song = song_in_folder(folder)
    assert (song["seconds"], song["peaks"], song["lines"]) == (12.0, "", [])
    assert song["title"] == "a"
    with pytest.raises(FileNotFoundError) as lost:
        files_of(folder)["mix"]()
    assert "harmonia verify" in missing_sound("song.flac", lost.value)
    (folder / "plan.json").write_text('{"bpm": 0, "beats_per_bar": 4}')
    assert song_in_folder(folder)["sections"] == []
    with pytest.raises(HarmoniaError, match="no song's folder"):
        song_in_folder(tmp_path)


def test_a_servers_song_has_the_sections_and_lines_of_its_midi_file(tmp_path):
    with make_lab(tmp_path) as lab:
        made = lab.compose("A story.", seconds=8, seed=7, progress=False)
    folder = tmp_path / "songs" / made.directory
    here = song_in_folder(folder)
    names = ("song.flac", MIDI[0], *(f"stems/{path.name}" for path in sorted((folder / "stems").iterdir())))
    files = {name: (folder / name).read_bytes for name in names}
    there = song_of_files(made.generation_id, made.metadata, made.follows, files)
    assert here["sections"]
    assert there["seconds"] == here["seconds"]
    assert [each["name"] for each in there["sections"]] == [each["name"] for each in here["sections"]]
    for one, other in zip(there["sections"], here["sections"], strict=True):
        assert (one["start"], one["end"]) == pytest.approx((other["start"], other["end"]), abs=0.01)
    sung = [[bool(line["spans"]) for line in song["lines"]] for song in (here, there)]
    assert any(sung[0])
    assert sung[0] == sung[1]
    for one, other in zip(there["lines"], here["lines"], strict=True):
        assert [span[0] for span in one["spans"]] == pytest.approx([span[0] for span in other["spans"]], abs=0.6)
    assert [stem["name"] for stem in there["stems"]] == [stem["name"] for stem in here["stems"]]


def test_a_server_that_loses_the_midi_file_costs_sections_alone(tmp_path):
    folder = make_song(tmp_path / "a")

    def lost():
        raise Disconnected("The server is gone.")

    files = {"song.flac": (folder / "song.flac").read_bytes, "song.mid": lost}
    song = song_of_files("id", None, None, files)
    assert (song["sections"], song["seconds"]) == ([], 12.0)
    assert song_of_files("id", None, None, files | {"song.mid": lambda: b"MThd no"})["sections"] == []


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A Small Boat", "A-Small-Boat-seed-7-01234567"),
        ("ضوء المرفأ", "ضوء-المرفأ-seed-7-01234567"),
        ("../../etc/passwd\0", "etc-passwd-seed-7-01234567"),
        ('<b>"CON": a|b?*\\</b>\n', "b-CON-a-b-b-seed-7-01234567"),
        ("", "song-seed-7-01234567"),
        ("...", "song-seed-7-01234567"),
        ("word " * 24, f"{'-'.join(['word'] * 12)}-seed-7-01234567"),
    ],
)
def test_a_downloads_name_says_which_song_it_is_on_any_system(title, name):
    assert download_name(title, 7, "0123456789abcdef") == name


def test_peaks_are_where_the_sound_is_loud_whatever_its_length():
    for frames in (1, 10, COLUMNS, 3 * 65536 + 17):
        sound = np.zeros(frames)
        sound[frames // 2 :] = 0.5
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, 8000, format="FLAC")
        buffer.seek(0)
        seconds, encoded = waveform(buffer)
        peaks = np.frombuffer(base64.b64decode(encoded), np.uint8)
        assert seconds == pytest.approx(frames / 8000)
        assert len(peaks) == min(frames, COLUMNS)
        half = len(peaks) // 2
        assert peaks[: max(half - 1, 0)].max(initial=0) == 0
        assert peaks[half + 1 :].min(initial=255) == peaks[-1] == 255
