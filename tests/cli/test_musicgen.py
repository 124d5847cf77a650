"""`harmonia song --audio musicgen`, on a checkpoint with random weights made by a command of ours."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Small matrices don't gain from more, and threads that wait for a busy core lose."""

METADATA = {
    "title": "Harbour Light",
    "lyrics": "[Verse 1]\nThe lamp is burning low\nI wait for you",
    "genre": "folk",
    "mood": ["nostalgic"],
    "bpm": 96,
    "key": "A minor",
    "instruments": [{"name": "piano", "role": "chords"}, {"name": "flute", "role": "lead"}],
}


@pytest.fixture
def song(harmonia):
    (harmonia.folder / "metadata.json").write_text(json.dumps(METADATA))

    def run(*args):
        return harmonia("song", "--from", "metadata.json", "--seed", "7", "--audio", "musicgen", *args)

    return run


@pytest.fixture
def model(checkpoint):
    return str(checkpoint("tiny"))


def test_a_command_of_ours_makes_a_checkpoint_and_a_song_with_it(harmonia, song):
    done = harmonia("setup", "musicgen", "--random", "tiny", "model")
    assert done.returncode == 0, done.stderr.decode()
    assert "random" in done.stderr.decode()
    done = song("--seconds", "2", "--audio-model", "model")
    assert done.returncode == 0, done.stderr.decode()
    assert "Loading MusicGen model" in done.stderr.decode()
    assert "random weights: this is noise, not music" in done.stdout.decode()
    (record,) = harmonia.songs.glob("*/run.json")
    audio = json.loads(record.read_text())["engines"]["audio"]
    assert (audio["engine"], audio["weights"]) == ("musicgen", "random")
    assert audio["licence"] == "none: the weights are random"
    assert audio["prompts"] == {"mix": "A nostalgic folk song with piano and flute. bpm: 96. key: A minor"}
    (row,) = harmonia.rows
    assert (row["status"], row["audio_engine"], row["audio_recoveries"]) == ("completed", "musicgen", None)
    assert row["steps_per_second"] > 0
    assert row["time_to_first_audio_s"] > 0


def test_instruments_one_by_one_are_made_again_to_the_byte(harmonia, song, model):
    done = song("--seconds", "2", "--audio-model", model, "--arrangement", "stems", "--json")
    assert done.returncode == 0, done.stderr.decode()
    made = json.loads(done.stdout)
    assert [stem["name"] for stem in made["stems"]] == ["piano", "flute"]
    again = harmonia("verify", made["directory"], "--rerun", "--json")
    assert again.returncode == 0, again.stdout.decode() + again.stderr.decode()


@pytest.mark.parametrize(
    ("args", "status", "code", "said"),
    [
        (["--audio-model", "smol"], 2, "INVALID_PAYLOAD", "Nearest: small"),
        (["--audio-model", "."], 1, "MUSICGEN_UNAVAILABLE", "has no state_dict.bin"),
        (["--audio-model", "metadata.json"], 1, "MUSICGEN_UNAVAILABLE", "is a file"),
        (["--device", "tpu"], 2, "INVALID_PAYLOAD", "no device 'tpu'"),
        (["--device", "cuda:99"], 1, "MUSICGEN_UNAVAILABLE", "cuda:99"),
        (["--audio", "sketch"], 2, "INVALID_PAYLOAD", "sketch engine has no models"),
        (["--seconds", "0"], 2, "INVALID_PAYLOAD", "seconds"),
        (["--seconds", "-3"], 2, "INVALID_PAYLOAD", "seconds"),
        (["--seconds", "1e9"], 2, "INVALID_PAYLOAD", "seconds"),
    ],
)
def test_bad_input_is_an_error_with_a_code_and_a_way_out(song, model, args, status, code, said):
    done = song("--audio-model", model, *args, "--json")
    assert done.returncode == status, done.stderr.decode()
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert re.search(re.escape(said), f"{error['message']} {error['hint']}")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["musicgen", "--random", "huge", "model"], "no checkpoint size 'huge'"),
        (["musicgen", "--random", "tiny", "."], "not an empty folder"),
        (["embedded", "--random", "tiny", "model"], "--random"),
    ],
)
def test_a_checkpoint_that_cannot_be_made_is_refused(harmonia, args, said):
    (harmonia.folder / "something").touch()
    done = harmonia("setup", *args)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_an_interrupt_ends_the_song_and_leaves_nothing_behind(harmonia, song, model):
    assert song  # for its metadata file
    args = ("song", "--from", "metadata.json", "--seconds", "600", "--audio", "musicgen", "--audio-model", model)
    harmonia.environment |= ONE_THREAD
    process = harmonia.start(*args)
    assert process.stderr is not None
    while b"Generating" not in process.stderr.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode == 130
    assert [row["status"] for row in harmonia.rows] == ["cancelled"]
    assert list(Path(harmonia.songs).glob("*")) == []


def test_a_songs_own_settings_choose_the_engine_are_recorded_and_make_it_again(harmonia, song, model):
    done = harmonia(
        "song", "--from", "metadata.json", "--seed", "7", "--seconds", "1", "--audio-model", model, "--json",
        "--prompt", "rain on a tin roof", "--negative-prompt", "drums", "--cfg-coef", "4.5", "--no-two-step-cfg",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    made = json.loads(done.stdout)
    record = json.loads(Path(made["directory"], "run.json").read_text(encoding="utf-8"))
    asked = {"prompt": "rain on a tin roof", "negative_prompt": "drums", "cfg_coef": 4.5, "two_step_cfg": False}
    assert record["request"]["audioOptions"] == asked
    assert record["engines"]["audio"]["settings"].items() >= asked.items()
    assert record["engines"]["audio"]["prompts"] == {"mix": "rain on a tin roof"}
    again = harmonia("verify", made["directory"], "--rerun", "--json")
    assert again.returncode == 0, again.stdout.decode() + again.stderr.decode()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--audio", "sketch", "--cfg-coef", "4"], "The sketch engine takes no cfg_coef"),
        (["--cfg-coef", "99"], "Choose 0 to 30"),
        (["--melody", "gone.wav"], "gone.wav does not exist"),
        (["--top-k", "2.5"], "top-k"),
    ],
)
def test_a_songs_own_settings_are_checked_before_the_words_are_written(harmonia, song, model, args, said):
    engine = [] if "--audio" in args else ["--audio-model", model]
    done = harmonia("song", "A story that nobody writes.", *engine, *args, "--json")
    assert done.returncode == 2, done.stderr.decode()
    assert said in json.loads(done.stdout)["error"]["message"] + json.loads(done.stdout)["error"]["hint"]
    assert harmonia.rows == []
