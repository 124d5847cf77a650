"""`Lab`: engines chosen, songs made, rows kept, nothing left behind."""

import json
import threading
from pathlib import Path

import psutil
import pytest

from harmonia_lab import Lab
from harmonia_lab.errors import AudioError, Disconnected, ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.generation.recovery_plans import RecoveryLimits
from harmonia_lab.music.seeds import narrative_digest
from harmonia_lab.protocol.models import Instrument, SongRequest
from harmonia_lab.store.run_log import PURPOSES, RunLabels
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine, FakeOllama
from tests.waiting import until


@pytest.fixture(autouse=True)
def no_ollama(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")


@pytest.fixture
def lab(tmp_path):
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path) as lab:
        yield lab


def test_a_song_is_made_logged_and_heard_of(lab):
    heard = []
    lab.events.subscribe(heard.append)
    song = lab.compose("A story.", seconds=2, seed=7, progress=False)
    assert song.metadata == SONG_METADATA.model_copy(update={"narrative_digest": narrative_digest("A story.")})
    frame = lab.log.frame(purposes=PURPOSES)
    assert frame["checksum"].tolist() == [song.checksum]
    assert [e.name for e in heard if hasattr(e, "checksum")] == ["audio-generation-complete"]


def test_wishes_are_followed_with_any_engine_said_and_recorded(lab):
    heard = []
    lab.events.subscribe(heard.append)
    song = lab.compose("A reggae song in G major at 75 bpm, 7/8, ten seconds long.", seed=7, progress=False)
    assert (song.metadata.genre, song.metadata.bpm, song.metadata.key) == ("reggae", 75, "G major")
    assert song.duration == pytest.approx(10, abs=0.1)
    assert any("7/8" in warning for warning in song.metadata.warnings)
    assert any("Wishes: reggae, G major, 75 bpm" in getattr(event, "status", "") for event in heard)
    record = json.loads((Path(song.directory) / "run.json").read_text())
    assert record["wishes"] == [wish.to_wire() for wish in song.metadata.wishes]
    assert record["warnings"] == song.metadata.warnings


def test_without_wishes_and_with_options_the_narrative_decides_nothing(lab):
    plain = lab.compose("A reggae song at 75 bpm, ten seconds.", seconds=1, wishes=False, progress=False)
    digest = narrative_digest("A reggae song at 75 bpm, ten seconds.")
    assert plain.metadata == SONG_METADATA.model_copy(update={"narrative_digest": digest})
    given = lab.compose("A reggae song at 75 bpm, ten seconds.", seconds=2, bpm=120, progress=False)
    assert (given.metadata.bpm, given.duration) == (120, 2.0)
    assert {wish.value: wish.outcome for wish in given.metadata.wishes}["75 bpm"] == "overruled"


def test_a_lab_whose_song_is_done_is_not_busy_even_before_it_has_put_the_song_away(lab, monkeypatch):
    monkeypatch.setattr(lab._local, "_forget", lambda job: None)
    assert not lab._local.busy
    job = lab.submit("A story.", seconds=1)
    job.result(60)
    assert not lab._local.busy


def test_stage_2_runs_again_on_edited_metadata(lab):
    first = lab.compose("A story.", seconds=2, seed=7, audio="sketch", progress=False)
    slower = first.metadata.model_copy(update={"bpm": 60})
    second = lab.compose(metadata=slower, seconds=2, seed=7, audio="sketch", progress=False)
    assert second.metadata.bpm == 60
    assert second.engines["metadata"] == "given"
    assert second.checksum != first.checksum


def test_one_name_of_an_instrument_is_one_instrument(lab):
    song = lab.compose("A story.", seconds=1, instruments="piano", progress=False)
    assert [each.name for each in lab.journal.request(song.generation_id).instruments] == ["piano"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"bpm": 9000}, "metadata.bpm input should be less than or equal to 220"),
        ({"bpm": "fast"}, "metadata.bpm input should be a valid integer"),
        ({"lyrics": None}, "metadata.lyrics should be a string"),
        ({"key": "H"}, "metadata.key 'H' is no key"),
        ({"instruments": [Instrument.model_construct(name="kazoo", role="lead")]}, "no known instrument"),
    ],
)
def test_edited_metadata_is_checked_before_anything_starts(lab, changed, says):
    """`model_copy` checks nothing, and is what the README edits by."""
    with pytest.raises(InvalidRequest, match=says):
        lab.submit(metadata=SONG_METADATA.model_copy(update=changed))
    assert lab.log.rows() == []


def test_another_audio_engine_for_one_song(lab):
    song = lab.compose(metadata=SONG_METADATA, audio="sketch", seconds=2, progress=False)
    assert song.engines["audio"] == "sketch"
    assert lab.audio_engine.name == "fake"


def test_bad_input_is_refused_before_a_job_exists(lab):
    with pytest.raises(InvalidRequest):
        lab.submit("")
    with pytest.raises(InvalidRequest, match="no audio engine 'flute'"):
        lab.submit("A story.", audio="flute")
    assert lab.log.rows() == []


def test_an_interrupt_while_waiting_cancels_the_song_and_gets_through(lab, monkeypatch):
    lab.metadata_engine.step_s = 60
    started = threading.Event()
    lab.events.subscribe(lambda event: started.set())

    def interrupted(job, file):
        assert started.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr("harmonia_lab.terminal.watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.compose("A story.")
    assert [row["status"] for row in lab.log.rows()] == ["cancelled"]


def test_an_interrupt_gets_through_also_if_the_song_cannot_be_cancelled(lab, monkeypatch):
    def interrupted(job, file):
        raise KeyboardInterrupt

    def unreachable(handle):
        raise Disconnected("The server does not answer.")

    monkeypatch.setattr("harmonia_lab.terminal.watch", interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(JobHandle, "cancel", unreachable)
        with pytest.raises(KeyboardInterrupt):
            lab.compose("A story.", seconds=1)


def test_verify_rerun_repeats_stage_2_where_stage_1_cannot_be_repeated(lab):
    song = lab.compose("A story.", seconds=2, seed=7, progress=False)
    report = lab.verify(song.directory)
    assert report.ok
    report = lab.verify(song.directory, rerun=True)
    assert report.ok, report
    assert "song.flac" in report.checked
    assert any("Stage 1 ran on fake" in note for note in report.notes)


def test_without_ollama_the_embedded_model_is_chosen_and_the_reason_said(tmp_path):
    with Lab(home=tmp_path) as lab:
        assert lab.metadata_engine.name == "embedded"
        assert "127.0.0.1:9" in lab.metadata_reason
        assert lab.metadata_reason in repr(lab)


def test_an_ollama_with_a_model_is_chosen(tmp_path, monkeypatch):
    with FakeOllama() as ollama:
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        with Lab(home=tmp_path) as lab:
            assert lab.metadata_engine.name == "ollama"
            assert ollama.url.removeprefix("http://") in lab.metadata_reason


def test_an_ollama_that_was_asked_for_and_is_down_is_an_error(tmp_path):
    limits = TimeLimits(recovery=RecoveryLimits(first_wait_s=0.05))
    with pytest.raises(HarmoniaError) as caught, Lab(metadata="ollama", home=tmp_path, limits=limits) as lab:
        lab.compose("A story.", progress=False)
    assert caught.value.code is ErrorCode.OLLAMA_UNAVAILABLE


@pytest.mark.parametrize("options", [{"metadata": "oracle"}, {"audio": "flute"}])
def test_an_unknown_engine_is_refused(tmp_path, options):
    with pytest.raises(InvalidRequest):
        Lab(home=tmp_path, **options)


def test_closing_twice_leaves_no_child_process(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    lab = Lab(metadata="embedded", songs=tmp_path / "songs", home=tmp_path)
    lab.compose(metadata=SONG_METADATA, seconds=1, progress=False)
    job = lab.submit("A small boat goes home.", seconds=2)
    until(lambda: getattr(job.progress, "tokens_generated", None), "the first word of a song")
    assert len(set(psutil.Process().children(recursive=True)) - before) >= 2  # the model's server and the model
    lab.close()
    lab.close()
    assert set(psutil.Process().children(recursive=True)) == before


def test_labels_stand_in_each_row_of_a_song_also_when_it_is_tried_again(tmp_path):
    labels = RunLabels("study", study="s1", block=3, configuration="fast")
    audio = FakeAudioEngine(errors=[AudioError("Once.")])
    with Lab(metadata=FakeMetadataEngine(), audio=audio, songs=tmp_path / "songs", home=tmp_path) as lab:
        job = lab.submit_request(SongRequest(narrative="A story.", seconds=1), labels=labels)
        job.wait(60)
        lab.retry(job.id).result(60)
        lab.compose("Another.", seconds=1, progress=False)
        rows = lab.log.rows()
        assert [tuple(row[name] for name in vars(labels)) for row in rows[:-1]] == [
            ("study", "s1", 3, "fast", None)
        ] * 2
        assert rows[-1]["purpose"] == "test", "engines of harmonia_lab.testing made it"
        assert lab.log.frame()["generation_id"].tolist() == [job.id, job.id]


def test_a_song_made_again_to_verify_it_is_no_song_of_the_log(lab):
    song = lab.compose(metadata=SONG_METADATA, audio="sketch", seconds=1, progress=False)
    assert lab.verify(song.directory, rerun=True).ok
    assert [row["purpose"] for row in lab.log.rows()] == ["song", "verify"]


def test_a_lab_of_a_benchmark_marks_its_songs(tmp_path):
    with Lab(metadata="embedded", audio="sketch", songs=tmp_path, home=tmp_path, labels=RunLabels("bench")) as lab:
        lab.compose(metadata=SONG_METADATA, seconds=1, progress=False)
        assert [row["purpose"] for row in lab.log.rows()] == ["bench"]


@pytest.fixture
def no_language_model(monkeypatch):
    """No Ollama answers, and the embedded model's file is not there."""
    monkeypatch.setenv("HARMONIA_GGUF", "/nowhere.gguf")


def test_given_metadata_and_the_log_need_no_language_model(no_language_model, tmp_path):
    with Lab(audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path / "home") as lab:
        song = lab.compose(metadata=SONG_METADATA, seconds=1, progress=False)
        assert song.engines["metadata"] == "given"
        assert lab.log.frame(purposes=None)["status"].tolist() == ["completed"]
        assert lab.verify(song.directory).ok
        assert "none [The model file /nowhere.gguf" in repr(lab)


def test_a_story_without_a_language_model_is_refused_before_anything_starts(no_language_model, tmp_path):
    with Lab(audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path / "home") as lab:
        with pytest.raises(HarmoniaError) as caught:
            lab.submit("A story.")
        assert caught.value.code == ErrorCode.OLLAMA_MODEL_MISSING
        assert not (tmp_path / "home").exists()
        with pytest.raises(HarmoniaError, match="The model file"):
            lab.serve(port=0)


def test_the_language_model_is_looked_for_once_when_a_story_needs_it(tmp_path, monkeypatch):
    with FakeOllama() as server, Lab(audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path / "home") as lab:
        monkeypatch.setenv("OLLAMA_HOST", server.url)  # it came after the lab, and is found all the same
        assert lab.metadata_engine is lab.metadata_engine
        assert (lab.metadata_engine.name, lab.metadata_reason) == ("ollama", f"Ollama answers at {server.url}")


def test_a_wrong_name_or_setting_is_told_at_once_all_the_same(tmp_path):
    with pytest.raises(InvalidRequest, match="no metadata engine 'oracle'"):
        Lab(metadata="oracle", home=tmp_path)
    with pytest.raises(InvalidRequest, match="no setting of the ollama engine"):
        Lab(metadata_settings={"port": 1}, home=tmp_path)
