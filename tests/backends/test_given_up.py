"""Engines that are stuck in native code: the song ends at its limit, and the next one is made by a fresh engine."""

import sys
import threading

import pytest

from harmonia_lab import BlockingClient, Lab, engine_registry
from harmonia_lab.backends import server_process
from harmonia_lab.client import Backoff
from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine
from harmonia_lab.testing.hanging import HangingAudioEngine, HangingMetadataEngine
from tests.backends.conftest import isolated
from tests.waiting import PATIENCE_S, until

GIVEN = {"metadata": SONG_METADATA, "seconds": 1, "seed": 7}
IMPATIENT = TimeLimits(unheard_s=0.1)


def lab_in(folder, *, limits=IMPATIENT, **engines):
    engines = {"metadata": FakeMetadataEngine(), "audio": FakeAudioEngine(sample_rate=8000)} | engines
    return Lab(**engines, songs=folder / "songs", home=folder / "home", limits=limits)


def ends(job):
    return [event.name for event in job.events if event.ends]


def test_a_stage_that_is_stuck_past_its_limit_ends_and_the_songs_that_wait_get_a_new_engine(tmp_path, caplog):
    engine = HangingAudioEngine()
    with lab_in(tmp_path, audio=engine, limits=TimeLimits(audio_s=0.2, unheard_s=0.1)) as lab:
        stuck = lab.submit(**GIVEN)
        lab._local._limits = TimeLimits(unheard_s=0.1)  # of the songs that follow, however slow this machine is
        waiting = lab.submit(**GIVEN)
        with pytest.raises(HarmoniaError) as caught:
            stuck.result(PATIENCE_S)
        assert caught.value.code is ErrorCode.AUDIO_TIMEOUT
        assert [event.name for event in stuck.events][-2:] == ["generation-timeout", "generation-cancelled"]
        assert waiting.result(PATIENCE_S).generation_id == waiting.id
        assert lab.audio_engine is engine.renewed[0]
        assert engine.renewed[0].rendered
        engine.release_call()
        until(lambda: "harmonia-watch" not in {thread.name for thread in threading.enumerate()})
        assert ends(stuck) == ["generation-cancelled"]
    assert "is given up: its engine, fake, did not stop within 0.1 s" in caplog.text
    assert [row["cancel_reason"] for row in lab.log.rows() if row["generation_id"] == stuck.id] == ["timeout"]


def test_the_same_in_stage_1(tmp_path):
    engine = HangingMetadataEngine()
    with lab_in(tmp_path, metadata=engine, limits=TimeLimits(metadata_s=0.2, unheard_s=0.1)) as lab:
        stuck = lab.submit("A story.", seconds=1)
        lab._local._limits = TimeLimits()
        waiting = lab.submit("A story.", seconds=1)
        with pytest.raises(HarmoniaError) as caught:
            stuck.result(PATIENCE_S)
        assert caught.value.code is ErrorCode.OLLAMA_TIMEOUT
        assert waiting.result(PATIENCE_S).metadata.title == SONG_METADATA.title
        assert lab.metadata_engine is engine.renewed[0]
        assert engine.seeds == []
        engine.release_call()


def test_a_cancel_that_a_stage_does_not_hear_ends_the_song_as_cancelled(tmp_path):
    engine = HangingAudioEngine()
    with lab_in(tmp_path, audio=engine) as lab:
        stuck, waiting = lab.submit(**GIVEN), lab.submit(**GIVEN)
        until(lambda: engine.hangs == 0)
        stuck.cancel()
        with pytest.raises(Cancelled):
            stuck.result(PATIENCE_S)
        assert waiting.result(PATIENCE_S).generation_id == waiting.id
        assert len(engine.renewed) == 1
        engine.release_call()


def test_a_stage_that_stops_in_time_keeps_its_engine(tmp_path):
    engine = FakeAudioEngine(step_s=60, sample_rate=8000)
    with lab_in(tmp_path, audio=engine, limits=TimeLimits(audio_s=0.1, unheard_s=30)) as lab:
        with pytest.raises(HarmoniaError):
            lab.submit(**GIVEN).result(PATIENCE_S)
        assert lab.audio_engine is engine


def test_an_engine_without_fresh_is_made_anew_from_its_description_and_an_object_stays():
    engines = AudioEngines("sketch", None, {})
    first = engines.chosen
    second = engines.renew(first)
    assert second is not first
    assert (type(second), engines.chosen, engines.get("sketch")) == (type(first), second, second)
    given = FakeAudioEngine()
    assert AudioEngines(given, None, {}).renew(given) is given
    engines.close()


PLUGIN = """
from harmonia_lab.engines.spec import AudioEngineSpec
from harmonia_lab.testing.hanging import HangingAudioEngine

class Frozen(HangingAudioEngine):
    name = "frozen"

    def render(self, parts, plan, seeds, *rest):
        self.hangs = int(plan.metadata.title == "Freeze")
        return super().render(parts, plan, seeds, *rest)

AUDIO = AudioEngineSpec(name="frozen", help="ice", make=lambda model, settings: Frozen(holds_lock=True))
"""


@pytest.fixture
def frozen(tmp_path, monkeypatch):
    """An installed package whose engine holds the interpreter's lock for good in songs with the title "Freeze"."""
    site = tmp_path / "site-packages"
    info = site / "frozen-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "frozen_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: frozen\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harmonia_lab.audio_engines]\nfrozen = frozen_plugin:AUDIO\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    engine_registry._search.cache_clear()
    yield
    engine_registry._search.cache_clear()


ECHOING = (
    "import sys; print('{\"url\": \"here\"}', flush=True); [print(line, end='', flush=True) for line in sys.stdin]"
)
HOLDING = """
import ctypes, sys
print('{"url": "here"}', flush=True)
ctypes.PyDLL(None).sleep(600)
"""


@pytest.mark.parametrize(("program", "silent"), [(ECHOING, False), (HOLDING, True)])
def test_a_process_whose_interpreter_is_held_is_told_from_one_that_runs(monkeypatch, program, silent):
    monkeypatch.setattr(server_process, "COMMAND", [sys.executable, "-c", program])
    monkeypatch.setattr(server_process, "BEAT_S", 0.02)
    noticed, ended = threading.Event(), threading.Event()
    child = server_process.Child({}, ended.set)
    child.introduction(60)
    child.watch(0.1 if silent else 30.0, noticed.set)
    if silent:
        assert noticed.wait(60)
    else:
        until(lambda: child._answered > 3)
        assert not noticed.is_set()
    child.end(0.0)
    assert ended.is_set()


@pytest.mark.stress
def test_an_isolated_server_that_is_silent_is_started_again_and_its_sockets_come_back(tmp_path, frozen, caplog):
    freeze = SONG_METADATA.model_copy(update={"title": "Freeze"})
    with isolated(tmp_path, {"audio": "frozen", "limits": TimeLimits(unheard_s=3.0)}) as lab:
        url, first = lab.server.url, lab.server._child.pid
        with BlockingClient(url, backoff=Backoff(0.05, 1.0), ack_timeout_s=60) as client:
            client.connect(lab.server.token("local"))
            stuck = lab.submit_request(SongRequest(metadata=freeze, seconds=1, seed=1))
            client.join(stuck.id)
            heard = client.events(stuck.id)
            waiting = lab.submit(**GIVEN)
            with pytest.raises(HarmoniaError) as caught:
                stuck.result(PATIENCE_S)
            assert (caught.value.code, caught.value.recoverable) == (ErrorCode.AUDIO_TIMEOUT, True)
            assert waiting.result(PATIENCE_S).generation_id == waiting.id
            assert [e.seq for e in heard if e.delivery == "lifecycle"] == [1, 2]  # over the restart, without a gap
        assert (lab.server.url, lab.server.running) == (url, True)
        assert lab.server._child.pid != first
        assert {row["error_code"] for row in lab.log.rows() if row["generation_id"] == stuck.id} == {"AUDIO_TIMEOUT"}
        assert ends(stuck) == ["generation-error"]
    assert "has been silent for 3 s" in caplog.text
