"""What "auto" does where a server is named, slow or refuses: it never takes the small model without saying so."""

import json
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.engine_registry import choose_metadata
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.metadata_engines.ollama import endpoint, spec
from harmonia_lab.metadata_engines.stand_in import StandInEngine
from harmonia_lab.protocol.events import MetadataGenerationProgress
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine, FakeOllama, Refusal
from tests.metadata_engines.test_ollama import free_address

PAGE = Refusal(200, "<html>Please sign in</html>")


@pytest.mark.parametrize("named", [True, False], ids=["named", "default"])
@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (Refusal(401, {"error": "unauthorized"}), "(HTTP 401): unauthorized"),
        (Refusal(403, {"error": "no"}), "(HTTP 403): no"),
        (Refusal(429, {"error": "slow down"}), "too much to do (HTTP 429)"),
        (Refusal(503, "busy"), "too much to do (HTTP 503)"),
        (Refusal(500, "broken"), "(HTTP 500): broken"),
        (PAGE, "is not Ollama"),
        (Refusal(delay_s=60), "stopped answering"),
    ],
)
def test_a_server_that_is_there_and_fails_is_named_with_its_reason(named, refusal, said, monkeypatch):
    monkeypatch.setattr(spec, "ANSWER_S", 0.3)
    with FakeOllama(refusals={"/api/tags": [refusal]}) as server:
        if named:
            monkeypatch.setenv("OLLAMA_HOST", server.url)
        else:
            monkeypatch.setattr(endpoint, "DEFAULT_HOST", server.url)
        engine, reason = choose_metadata("auto", None)
    assert (engine.name, type(engine)) == ("embedded", StandInEngine)
    assert said in engine.warning
    assert said in reason
    assert server.url in engine.warning
    assert engine.warning.startswith("The words are by the small embedded model. ")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("{free}", "No Ollama server answers at {free}"),
        ("localhost:abc", "OLLAMA_HOST=localhost:abc is no address"),
    ],
)
def test_a_named_server_that_is_not_there_is_said(host, said, monkeypatch):
    free = free_address()
    monkeypatch.setenv("OLLAMA_HOST", host.format(free=free))
    engine, _ = choose_metadata("auto", None)
    assert said.format(free=free) in engine.warning


def test_a_named_server_without_a_model_is_said_and_another_one_is_passed_over_quietly(monkeypatch):
    with FakeOllama(models={}) as server:
        monkeypatch.setattr(endpoint, "DEFAULT_HOST", server.url)
        engine, reason = choose_metadata("auto", None)
        assert not isinstance(engine, StandInEngine)
        assert "has no model" in reason
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert "ollama pull" in choose_metadata("auto", None)[0].warning


def test_where_no_server_is_expected_none_is_missed(monkeypatch):
    monkeypatch.setattr(endpoint, "DEFAULT_HOST", free_address())
    engine, reason = choose_metadata("auto", None)
    assert not isinstance(engine, StandInEngine)
    assert reason.startswith("no Ollama answers at ")


def test_settings_say_that_a_server_is_expected(monkeypatch):
    monkeypatch.setattr(endpoint, "DEFAULT_HOST", free_address())
    assert "No Ollama server answers" in choose_metadata("auto", None, {"headers": ["X-Key: 1"]})[0].warning
    with pytest.raises(InvalidRequest, match="no setting of the ollama engine"):
        choose_metadata("auto", None, {"port": 1})
    with pytest.raises(InvalidRequest, match="embedded engine has no settings"):
        choose_metadata("embedded", None, {"ca": "x"})
    with pytest.raises(InvalidRequest, match="not for an object"):
        choose_metadata(FakeMetadataEngine(), None, {"ca": "x"})


def test_a_server_that_takes_its_time_is_used(monkeypatch):
    with FakeOllama(refusals={"/api/tags": [Refusal(delay_s=0.8)]}) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert choose_metadata("auto", None)[0].name == "ollama"


def test_a_stand_in_says_so_in_the_metadata_the_record_an_event_and_for_every_song(tmp_path):
    said = "The words are by the small embedded model. No Ollama server answers."
    heard = []
    engine = StandInEngine(FakeMetadataEngine(), said)
    with Lab(metadata=engine, audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path / "home") as lab:
        lab.events.subscribe(heard.append)
        songs = [lab.compose("A story.", seconds=2, progress=False) for _ in range(2)]
        assert lab.verify(songs[0].directory).ok
    for song in songs:
        assert song.metadata.warnings == [said]
        assert json.loads(Path(song.directory, "metadata.json").read_text(encoding="utf-8"))["warnings"] == [said]
        assert json.loads(Path(song.directory, "run.json").read_text(encoding="utf-8"))["engines"]["metadata"][
            "warnings"
        ] == [said]
    statuses = [event.status for event in heard if isinstance(event, MetadataGenerationProgress)]
    assert statuses.count(said) >= 2
