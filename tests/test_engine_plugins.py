"""Engines that another installed package brings: found by their entry points, used everywhere, recorded, remade."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from harmonia_lab import Lab, engine_registry
from harmonia_lab.backends.serve_settings import LabSettings
from harmonia_lab.engine_registry import AudioEngines, broken_engines, choose_metadata
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.testing import SONG_METADATA, FakeMetadataEngine
from tests.cli.conftest import CommandLine

PLUGIN = """
from harmonia_lab.engines.spec import AudioEngineSpec, EngineOption, MetadataEngineSpec

class Beeps:
    name = "beeps"
    uses_gpu = False

    def __init__(self, pitch):
        self.pitch = pitch

    def prepare(self):
        pass

    def render(self, parts, plan, seeds, progress, cancel, finished):
        import numpy as np
        from harmonia_lab.engines.base import Stem

        times = np.arange(round(plan.seconds * 8000)) / 8000
        tone = 0.1 * np.sin(2 * np.pi * self.pitch * times)[None].astype(np.float32)
        return [Stem(part.name, part.instrument.role, tone, 8000) for part in parts]

    def identity(self):
        return {"engine": self.name, "settings": {"pitch": self.pitch}, "licence": "none needed"}

    def record(self):
        return {**self.identity(), "beeps": 1}

    def close(self):
        pass

class Haiku:
    name = "haiku"
    model = "seventeen"

    def write(self, request, seed, report, cancel):
        from harmonia_lab.engines.base import MetadataResult
        from harmonia_lab.testing import SONG_METADATA

        return MetadataResult(SONG_METADATA, [], {"model": self.model}, 0.0, None, 17, None)

    def release(self):
        pass

    def close(self):
        pass

def make(model, settings):
    return Beeps(**{"pitch": 440.0, **settings})

AUDIO = AudioEngineSpec(
    name="beeps",
    help="a beep, 100% pure",
    make=make,
    options=(EngineOption("pitch", "Beeps': hertz, 100% exact (default 440)", type=float),),
    claims_auto=lambda model, settings: model is None and set(settings) == {"pitch"},
    note=lambda record: f"a beep of {record['settings']['pitch']:g} Hz",
)
METADATA = MetadataEngineSpec(name="haiku", help="a poet", make=lambda model: Haiku(), repeatable=True)
"""
ENTRY_POINTS = """
[harmonia_lab.audio_engines]
beeps = beeps_plugin:AUDIO

[harmonia_lab.metadata_engines]
haiku = beeps_plugin:METADATA
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(package, entry_points, source): an installed distribution with one module, for this test alone."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    modules = []

    def make(package="harmonia-beeps", entry_points=ENTRY_POINTS, source=PLUGIN, module="beeps_plugin"):
        (site / f"{module}.py").write_text(source)
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        modules.append(module)
        engine_registry._search.cache_clear()

    yield make
    engine_registry._search.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def lab_of(tmp_path):
    """lab_of(**options): a lab whose files are in this test's folder."""
    labs = []

    def make(**options):
        given = {"metadata": FakeMetadataEngine(), "songs": tmp_path / "songs", "home": tmp_path / "home"} | options
        labs.append(Lab(**given))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


def record_of(song):
    return json.loads(Path(song.directory, "run.json").read_text(encoding="utf-8"))


def test_a_song_is_made_by_it_recorded_and_made_again_from_the_record(install, lab_of):
    install()
    song = lab_of(audio="beeps", audio_settings={"pitch": 880.0}).compose("A story.", seconds=2, progress=False)
    assert song.engines["audio"] == "beeps"
    assert record_of(song)["engines"]["audio"] == {
        "engine": "beeps",
        "settings": {"pitch": 880.0},
        "licence": "none needed",
        "beeps": 1,
    }
    report = lab_of(audio="sketch").verify(song.directory, rerun=True)
    assert report.ok, report
    assert "song.flac" in report.checked


def test_one_song_of_a_batch_and_of_the_form_can_have_it(install, lab_of, tmp_path):
    install()
    lab = lab_of(audio="sketch")
    assert [name for name, _ in lab.form().audio.options] == [
        "the lab's own",
        "sketch",
        "diffusers",
        "musicgen",
        "beeps",
    ]
    rows = [{"metadata": SONG_METADATA.to_wire(), "seconds": 2, "audio": name} for name in ("beeps", "beeps", "sketch")]
    report = lab.batch(rows, tmp_path / "batch", say=lambda line: None)
    assert [outcome.song["engines"]["audio"].split()[0] for outcome in report.outcomes] == ["beeps", "beeps", "sketch"]
    assert report.outcomes[1].same_as == 1


def test_auto_is_it_where_it_claims_the_settings_and_never_where_nothing_is_given(install):
    install()
    assert AudioEngines("auto", None, {"pitch": 220.0}).chosen.name == "beeps"
    assert AudioEngines("auto", None, {}).chosen.name == "sketch"
    with pytest.raises(InvalidRequest, match="No audio engine has the settings pitch, loudness"):
        AudioEngines("auto", None, {"pitch": 220.0, "loudness": 11})


def test_settings_are_for_the_labs_own_engine_alone(install):
    install()
    engines = AudioEngines("sketch", None, {})
    assert engines.get("beeps").identity()["settings"] == {"pitch": 440.0}
    engines = AudioEngines("beeps", None, {"pitch": 880.0})
    assert engines.get("sketch").name == "sketch"
    assert engines.get().identity()["settings"] == {"pitch": 880.0}


def test_what_it_cannot_be_made_with_is_an_error_that_names_it(install):
    install()
    with pytest.raises(InvalidRequest, match=r"The engine beeps can't be made: TypeError: .*loudness"):
        AudioEngines("beeps", None, {"loudness": 11})
    with pytest.raises(InvalidRequest, match="The beeps engine has no models"):
        AudioEngines("beeps", "small", {})
    with pytest.raises(InvalidRequest, match="The engine beeps has no model 'small'"):
        AudioEngines("sketch", None, {}).get("beeps", "small")


def test_an_engine_that_calls_itself_otherwise_is_refused(install):
    install(source=PLUGIN.replace('name = "beeps"', 'name = "other"'))
    with pytest.raises(InvalidRequest, match="beeps calls itself 'other'"):
        AudioEngines("beeps", None, {})


def test_a_rule_for_auto_that_fails_leaves_auto_as_it_is(install, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    install(source=PLUGIN.replace("make=lambda model: Haiku()", "make=Haiku, claims_auto=lambda model: 1 / 0"))
    engine, reason = choose_metadata("auto", None)
    assert engine.name == "embedded"
    assert reason == "no Ollama answers at http://127.0.0.1:9; haiku failed: ZeroDivisionError: division by zero"


def test_an_isolated_server_gets_its_name_and_settings_and_clients_its_name_alone(install, lab_of):
    install()
    given = {"metadata": "haiku", "model": None, "audio": "beeps", "audio_model": None, "songs": "a", "home": "b"}
    settings = LabSettings.of(given | {"audio_settings": {"pitch": 880.0}, "limits": TimeLimits()})
    assert (settings.metadata, settings.audio, settings.audio_settings) == ("haiku", "beeps", {"pitch": 880.0})
    assert lab_of(audio="beeps").offers() == ("fake-model", "beeps")
    assert lab_of(audio="sketch").offers() == ("fake-model", "TimGM6mb.sf2")


def test_stage_1_can_be_another_packages_too(install, lab_of):
    install()
    engine, reason = choose_metadata("haiku", None)
    assert (engine.name, reason) == ("haiku", "asked for")
    song = lab_of(metadata="haiku", audio="beeps").compose("A story.", seconds=2, progress=False)
    assert record_of(song)["engines"]["metadata"] == {"engine": "haiku", "model": "seventeen"}


def test_the_command_line_has_its_name_its_option_and_its_note(install, tmp_path):
    install()
    harmonia = CommandLine(tmp_path)
    shown = " ".join(harmonia("song", "--help").stdout.decode().split())
    assert "--metadata {auto,ollama,embedded,haiku}" in shown
    assert "--audio {auto,sketch,diffusers,musicgen,beeps}" in shown
    assert "Beeps': hertz, 100% exact" in shown
    story = ("song", "A story.", "--metadata", "haiku", "--audio", "beeps", "--seconds", "2")
    done = harmonia(*story, "--pitch", "880", "--json")
    assert done.returncode == 0, done.stderr.decode()
    made = json.loads(done.stdout)
    assert made["engines"] == {"metadata": "haiku", "audio": "beeps"}
    again = harmonia("verify", made["directory"], "--rerun", "--json")
    assert json.loads(again.stdout)["ok"] is True, again.stderr.decode()
    printed = harmonia(*story).stdout.decode()
    assert printed.endswith("Stage 1: a poet.\nStage 2: a beep of 440 Hz.\n")


@pytest.mark.parametrize(
    ("entry", "source", "reason"),
    [
        ("beeps = beeps_plugin:AUDIO", "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_"),
        ("beeps = beeps_plugin:AUDIO", "1 / 0", "ZeroDivisionError"),
        ("beeps = beeps_plugin:NOTHING", PLUGIN, "AttributeError"),
        ("beeps = beeps_plugin:Beeps", PLUGIN, "beeps_plugin:Beeps is of type type, not AudioEngineSpec"),
        ("beeps = beeps_plugin:METADATA", PLUGIN, "is of type MetadataEngineSpec, not AudioEngineSpec"),
        ("beeps = beeps_plugin:other", f"{PLUGIN}\nfrom dataclasses import replace\nother = replace(AUDIO, name='b')",
         "is called 'b', and its entry point 'beeps'"),
    ],
)  # fmt: skip
def test_a_broken_one_is_reported_and_leaves_ours_alone(install, caplog, entry, source, reason):
    install(entry_points=f"[harmonia_lab.audio_engines]\n{entry}\n", source=source)
    with caplog.at_level(logging.WARNING):
        assert AudioEngines("auto", None, {}).chosen.name == "sketch"
    assert "There is no engine beeps: the package harmonia-beeps can't be used" in caplog.text
    assert reason in broken_engines()["beeps"]
    with pytest.raises(InvalidRequest, match="There is no audio engine 'beeps': the package harmonia-beeps"):
        AudioEngines("beeps", None, {})


def test_the_doctor_and_the_command_line_name_a_broken_one(install, tmp_path):
    install(source="import nowhere_to_be_found")
    harmonia = CommandLine(tmp_path)
    done = harmonia("song", "A story.", "--audio", "beeps", "--json")
    assert done.returncode == 2
    assert "No module named 'nowhere_to_be_found'" in json.loads(done.stdout)["error"]["message"]
    done = harmonia("doctor")
    assert done.returncode == 0, done.stdout.decode()
    assert "– engine beeps" in done.stdout.decode()
    assert "– engine haiku" in done.stdout.decode()


def test_a_name_of_ours_stays_ours(install, caplog):
    install(entry_points="[harmonia_lab.audio_engines]\nsketch = beeps_plugin:AUDIO\nauto = beeps_plugin:AUDIO\n")
    assert AudioEngines("sketch", None, {}).chosen.identity()["model"] == "TimGM6mb.sf2"
    assert "The engine sketch of the package harmonia-beeps is left out" in caplog.text
    assert AudioEngines("auto", None, {}).chosen.name == "sketch"


def test_a_name_that_two_packages_have_stands_for_neither(install, caplog):
    install("beeps-one", "[harmonia_lab.audio_engines]\nbeeps = beeps_plugin:AUDIO\n")
    install("beeps-two", "[harmonia_lab.audio_engines]\nbeeps = beeps_too:AUDIO\n", module="beeps_too")
    with pytest.raises(InvalidRequest, match=r"packages beeps-(one|two) and beeps-(one|two) both have an engine"):
        AudioEngines("beeps", None, {})


def test_an_engine_object_that_does_not_say_who_it_is_is_refused():
    class Nameless:
        name = "nameless"

    with pytest.raises(InvalidRequest, match="has no method identity"):
        AudioEngines(Nameless(), None, {})
