"""Songs that a cluster's workers make: the same as without one, and home whole."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from harmonia_lab import Lab
from harmonia_lab.audio_engines.audiofile import wav
from harmonia_lab.backends.cluster.frames import CHUNK_BYTES
from harmonia_lab.backends.remote_songs import unpack_into
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.testing import FakeAudioEngine
from tests.backends.cluster.conftest import SONG
from tests.backends.conftest import LIFECYCLE
from tests.waiting import PATIENCE_S, until


def repeatable(folder):
    """SHA-256 of each file of a song that the same request makes again."""
    kept = ("run.json", "transcript.jsonl", "overview.png")  # the workers draw nothing here
    found = [path for path in Path(folder).rglob("*") if path.is_file() and path.name not in kept]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)
    }


def lifecycle(heard, generation_id):
    return [
        (event.name, event.seq)
        for event in heard
        if event.generation_id == generation_id and event.delivery == "lifecycle"
    ]


def test_songs_have_the_events_rows_and_bytes_that_they_have_without_a_cluster(new_lab, noted, tmp_path):
    lab, heard, plain = new_lab(), [], []
    lab.events.subscribe(heard.append)
    jobs = [lab.submit(**SONG | {"seed": seed}) for seed in (7, 8, 9)]
    songs = [job.result(PATIENCE_S) for job in jobs]
    with Lab(songs=tmp_path / "plain", home=tmp_path / "home", audio="tones") as without:
        without.events.subscribe(plain.append)
        alone = without.submit(**SONG).result(PATIENCE_S)
        (plain_row,) = without.log.of_generation(alone.generation_id)
    assert repeatable(songs[0].directory) == repeatable(alone.directory)
    for song in songs:
        assert lifecycle(heard, song.generation_id) == LIFECYCLE
        assert lab.verify(song.directory).ok
        assert Path(song.directory).parent == lab.songs.absolute()
        (row,) = lab.log.of_generation(song.generation_id)
        assert (row["status"], row["attempt"], row["directory"]) == ("completed", 1, song.directory)
        assert row["worker"] is not None
        assert row["threads"] >= 1
        assert row.keys() == plain_row.keys()
        missing = {name for name, value in plain_row.items() if value is not None and row[name] is None}
        assert missing <= {"torch"}  # loaded here by other tests
    assert not [path for path in lab.songs.iterdir() if path.name.startswith(".") and list(path.iterdir())]
    previews = [
        event for event in heard if event.delivery == "preview" and event.generation_id == songs[0].generation_id
    ]
    assert [(event.instrument, event.index) for event in previews] == [
        (event.instrument, event.index) for event in plain if event.delivery == "preview"
    ]
    assert previews[0].audio == next(event for event in plain if event.delivery == "preview").audio
    told = [event for event in heard if event.name == "audio-generation-progress"]
    shares = [event.overall_progress for event in told if event.generation_id == songs[1].generation_id]
    assert shares == sorted(shares)
    assert len({made[1] for made in noted("made")} | {"lab"}) - 1 <= 3  # two workers and the lab's own description
    assert "2 workers, 2 songs at once" in str(lab.cluster)
    assert lab.songs_at_once == 2


def test_a_song_comes_home_over_the_connection_where_no_folder_is_shared(new_lab, monkeypatch):
    elsewhere = {"probe": "/nowhere/probe", "content": "c", "archive": "/nowhere/song.tar", "finished": "/nowhere"}
    monkeypatch.setattr("harmonia_lab.backends.cluster.generation.ClusterGeneration._probe", lambda self: elsewhere)
    lab = new_lab()
    song = lab.submit(**SONG | {"seconds": 30}).result(PATIENCE_S)
    assert sum(path.stat().st_size for path in Path(song.directory).rglob("*.flac")) > 2 * CHUNK_BYTES
    assert lab.verify(song.directory).ok


def test_a_song_that_is_damaged_on_its_way_is_none(new_lab, monkeypatch):
    monkeypatch.setattr(
        "harmonia_lab.backends.cluster.generation.unpack_into",
        lambda archive, *rest: (archive.write_bytes(archive.read_bytes()[:-30_000]), unpack_into(archive, *rest)),
    )
    lab = new_lab()
    job = lab.submit(**SONG)
    with pytest.raises(HarmoniaError, match="damaged") as raised:
        job.result(PATIENCE_S)
    assert raised.value.code == ErrorCode.RECORD_DAMAGED
    assert {folder.parent.suffix[:8] for folder in lab.songs.glob("*/song.flac")} <= {".partial"}


def test_a_recording_goes_to_the_worker_and_is_recorded_as_without_a_cluster(new_lab, tmp_path):
    lab, melody = new_lab(), tmp_path / "hum.wav"
    melody.write_bytes(wav(np.zeros((1, 800), np.float32), 8000, "PCM_16"))
    job = lab.submit(**SONG, audio_options={"melody": str(melody), "pitch": 300.0})
    record = read_record(Path(job.result(PATIENCE_S).directory))
    digest = hashlib.sha256(melody.read_bytes()).hexdigest()
    assert record["engines"]["audio"]["recordings"] == {"melody": digest}
    with pytest.raises(InvalidRequest, match="not in 20"):
        lab.submit(**SONG, audio_options={"pitch": 1.0})


def test_what_can_only_be_this_processs_is_refused(new_lab, tmp_path):
    with pytest.raises(InvalidRequest, match="audio engine that was given"):
        new_lab("other", audio=FakeAudioEngine(), audio_settings={})
    lab = new_lab()
    with pytest.raises(InvalidRequest, match="audio engine that was given"):
        lab.submit(**SONG, audio=FakeAudioEngine())
    with pytest.raises(InvalidRequest, match="isolated server would not use"):
        lab.serve(isolated=True, port=0)


def test_an_error_of_the_engine_is_the_songs(new_lab):
    """A folder that only this machine has, as a worker sees it: another content at the same path."""
    lab = new_lab()
    lab._local._engines["paths"]["/etc/hostname"] = "0" * 64
    with pytest.raises(AudioError, match="not the same on this worker") as raised:
        lab.submit(**SONG).result(PATIENCE_S)
    assert raised.value.code == ErrorCode.AUDIO_UNAVAILABLE


def test_a_cancel_is_heard_in_mid_step_and_the_worker_takes_the_next_song(new_lab):
    lab = new_lab(audio_settings={"step_s": 60.0})
    running = [lab.submit(**SONG | {"seed": seed}) for seed in (1, 2)]
    waiting = lab.submit(**SONG | {"seed": 3})
    until(
        lambda: all(job.progress is not None and job.progress.status == "Rendering instruments..." for job in running)
    )
    assert waiting.status == "pending"
    waiting.cancel()
    with pytest.raises(Cancelled):
        waiting.result(5)
    for job in running:
        job.cancel()
    for job in running:
        with pytest.raises(Cancelled):
            job.result(PATIENCE_S)
        assert job.events[-1].name == "generation-cancelled"
        (row,) = lab.log.of_generation(job.id)
        assert (row["status"], row["cancel_reason"], row["stage"]) == ("cancelled", "user_cancelled", "audio")
        assert row["worker"]
    quick = new_lab("quick")
    assert quick.submit(**SONG).result(PATIENCE_S)
    assert list((lab.songs).rglob("*.flac")) == []
