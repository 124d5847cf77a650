"""FluidSynth of the system in midirenderer's place. Where it isn't installed, what is said then, and no more."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from harmonia_lab.audio_engines.sketch import renderers
from harmonia_lab.audio_engines.sketch.engine import SAMPLE_RATE, SketchEngine
from harmonia_lab.audio_engines.sketch.renderers import find_renderer
from harmonia_lab.audio_engines.sketch.spec import ENGINE
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode
from harmonia_lab.music.composing import compose
from harmonia_lab.testing import SONG_METADATA

installed = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="FluidSynth is not installed")


@pytest.fixture
def fluidsynth(monkeypatch):
    monkeypatch.setenv("HARMONIA_RENDERER", "fluidsynth")
    monkeypatch.delenv("HARMONIA_SOUNDFONT", raising=False)
    engine = SketchEngine()
    yield engine
    engine.close()


def rendered(engine, seconds=2.0, cancel=None):
    plan = compose(SONG_METADATA, seconds, seed=1)
    return engine.render(plan.parts, plan, {}, lambda _: None, cancel or CancelToken(), {})


def level(stem):
    return 20 * np.log10(np.sqrt(np.mean(stem.audio**2)) + 1e-9)


@installed
def test_the_same_plan_sounds_as_by_midirenderer_and_twice_alike(fluidsynth, monkeypatch):
    ours = rendered(fluidsynth)
    again = rendered(fluidsynth)
    assert fluidsynth.record()["renderer"].startswith("FluidSynth 2.")
    assert all(np.array_equal(one.audio, two.audio) for one, two in zip(ours, again, strict=True))
    monkeypatch.delenv("HARMONIA_RENDERER")
    other = SketchEngine()
    assert other.record()["renderer"].startswith("midirenderer ")
    theirs = rendered(other)
    other.close()
    for one, two in zip(ours, theirs, strict=True):
        assert one.audio.shape == two.audio.shape == (2, 2 * SAMPLE_RATE)
        assert level(one) == pytest.approx(level(two), abs=6)
        assert not np.array_equal(one.audio, two.audio)  # other bytes: the record says whose


@installed
def test_a_bank_that_it_cannot_read_is_an_error(tmp_path, fluidsynth, monkeypatch):
    bank = Path(importlib.util.find_spec("pretty_midi").origin).parent / "TimGM6mb.sf2"
    broken = tmp_path / "broken.sf2"
    broken.write_bytes(bank.read_bytes().replace(b"inst", b"none", 1))
    engine = SketchEngine(broken)
    with pytest.raises(AudioError, match="cannot be read") as caught:
        rendered(engine)
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE


@installed
def test_a_cancel_ends_it_with_the_program_that_it_runs(tmp_path, monkeypatch):
    slow = tmp_path / "fluidsynth"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid; sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("HARMONIA_RENDERER", "fluidsynth")
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin")
    engine, cancel = SketchEngine(), CancelToken()
    cancel.on_cancel(lambda: None)
    engine.prepare()
    from tests.waiting import until

    number = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "FluidSynth's start")
    program = psutil.Process(int(number))
    cancel.cancel("user_cancelled")
    with pytest.raises(Cancelled):
        rendered(engine, cancel=cancel)
    engine.close()
    assert not psutil.wait_procs([program], timeout=60)[1]


def test_it_is_found_by_itself_where_the_package_is_not_there(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.delenv("HARMONIA_RENDERER", raising=False)
    assert find_renderer().program == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "midirenderer" else found(name))
    program = tmp_path / "homebrew" / "fluidsynth"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho FluidSynth runtime version 2.4.7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(renderers, "_PLACES", str(program.parent))
    assert find_renderer().program == str(program)
    assert SketchEngine().record()["renderer"] == "FluidSynth 2.4.7"
    assert "rendered by FluidSynth 2.4.7" in ENGINE.check().found


def test_without_either_the_doctor_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(renderers, "_PLACES", "")
    monkeypatch.delenv("HARMONIA_RENDERER", raising=False)
    check = ENGINE.check()
    assert check.verdict == "missing"
    assert "apt-get install fluidsynth" in check.mend


@pytest.mark.parametrize("wanted", ["timidity", "fluidsynth"])
def test_a_renderer_that_is_asked_for_and_not_there_is_named(monkeypatch, wanted):
    monkeypatch.setenv("HARMONIA_RENDERER", wanted)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(renderers, "_PLACES", "")
    with pytest.raises(AudioError, match=r"(timidity|FluidSynth)") as caught:
        find_renderer()
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE


def test_the_version_of_a_program_that_cannot_run_is_unknown(tmp_path):
    assert renderers._version(str(tmp_path / "none")) == "unknown"
    with pytest.raises(FileNotFoundError):
        subprocess.run([str(tmp_path / "none")], check=False)
