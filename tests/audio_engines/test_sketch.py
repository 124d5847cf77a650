import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from harmonia_lab.audio_engines.sketch import engine as sketch
from harmonia_lab.audio_engines.sketch import renderer as sketch_renderer
from harmonia_lab.audio_engines.sketch.engine import SAMPLE_RATE, SketchEngine
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode
from harmonia_lab.music.composing import compose
from harmonia_lab.protocol.models import Instrument, SongMetadata, SongRequest
from harmonia_lab.testing import SONG_METADATA
from tests.generation.test_generation import Run
from tests.generation.test_recovery import told

BANK = Path(importlib.util.find_spec("pretty_midi").origin).parent / "TimGM6mb.sf2"


def planned(seconds=3.0, names=(("flute", "lead"), ("piano", "chords"), ("drums", "drums"))):
    band = [Instrument(name=name, role=role) for name, role in names]
    metadata = SongMetadata(title="x", lyrics="", genre="pop", mood=["calm"], bpm=100, key="C major", instruments=band)
    return compose(metadata, seconds, 1)


@pytest.fixture
def engine():
    with contextlib.closing(SketchEngine()) as started:
        yield started


def render(engine, plan, progress=lambda _: None, cancel=None):
    return engine.render(plan.parts, plan, {}, progress, cancel or CancelToken(), {})


def children():
    return [child for child in psutil.Process().children() if "sketch.renderer" in " ".join(child.cmdline())]


def test_each_part_becomes_a_stem_of_the_songs_exact_length(engine):
    for seconds in (1.0, 3.0004):
        plan = planned(seconds)
        stems = render(engine, plan)
        assert [(stem.name, stem.role) for stem in stems] == [
            ("flute", "lead"),
            ("piano", "chords"),
            ("drums", "drums"),
        ]
        for stem in stems:
            assert stem.audio.shape == (2, round(seconds * 48_000))
            assert stem.audio.dtype == np.float32
            assert stem.audio.flags.c_contiguous
            assert stem.sample_rate == SAMPLE_RATE
            assert 0.005 < np.abs(stem.audio).max() < 0.99
            assert np.abs(stem.audio[:, -240:]).max() < 0.01


def test_the_same_plan_gives_the_same_samples_from_another_child(engine):
    plan = planned()
    first = render(engine, plan)
    with contextlib.closing(SketchEngine()) as other:
        for a, b in zip(first, render(other, plan), strict=True):
            assert np.array_equal(a.audio, b.audio)


def test_progress_names_each_instrument_and_ends_at_one(engine):
    seen = []
    render(engine, planned(), seen.append)
    assert [step.instrument for step in seen] == [None, "flute", "piano", "drums", None]
    assert [step.completed for step in seen] == [0, 0, 1, 2, 3]
    fractions = [step.fraction for step in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_one_child_serves_many_songs_and_close_ends_it():
    engine = SketchEngine()
    engine.prepare()
    [child] = children()
    render(engine, planned(1.0))
    render(engine, planned(1.0))
    assert children() == [child]
    engine.close()
    assert not child.is_running()
    engine.close()
    assert len(render(engine, planned(1.0))) == 3
    engine.close()
    assert not children()


def test_a_child_that_died_while_idle_is_replaced(engine):
    render(engine, planned(1.0))
    [child] = children()
    child.kill()
    child.wait(60)
    assert len(render(engine, planned(1.0))) == 3


def test_an_interrupt_from_the_terminal_leaves_the_child_to_its_parent(engine):
    render(engine, planned(1.0))
    [child] = children()
    child.send_signal(signal.SIGINT)
    render(engine, planned(1.0))
    assert children() == [child]


def test_a_cancel_kills_the_child_in_the_middle_of_a_stem(engine):
    plan = planned(600.0, (("strings", "pad"),) * 8)
    cancel = CancelToken()
    started = threading.Event()
    ended = []

    def work():
        try:
            render(engine, plan, lambda step: step.instrument and started.set(), cancel)
        except Cancelled:
            ended.append("as cancelled")

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(60)
    [child] = children()
    cancel.cancel()
    thread.join(60)
    assert ended == ["as cancelled"]
    assert not child.is_running()  # it would have gone on to the end of the stem
    assert len(render(engine, planned(1.0))) == 3


def test_a_song_cancelled_before_it_starts_renders_nothing(engine):
    cancel = CancelToken()
    cancel.cancel("timeout")
    with pytest.raises(Cancelled) as caught:
        render(engine, planned(), cancel=cancel)
    assert caught.value.reason == "timeout"


def test_a_child_that_is_killed_from_outside_is_an_error_and_the_next_song_has_a_new_one(engine):
    plan = planned(60.0)

    def kill(step):
        if step.instrument:
            children()[0].kill()

    with pytest.raises(AudioError) as caught:
        render(engine, plan, kill)
    assert caught.value.code is ErrorCode.AUDIO_ERROR
    assert caught.value.recoverable
    assert engine.recover(caught.value, 1, CancelToken()).plan == "restart"
    assert len(render(engine, planned(1.0))) == 3


def test_a_renderer_that_is_killed_costs_the_song_one_more_rendering(tmp_path, engine):
    run = Run(tmp_path, audio=engine, request=SongRequest(metadata=SONG_METADATA, seconds=1, seed=7))

    def kill():
        found = children()
        if found:
            found[0].kill()
        else:  # it isn't started yet
            run.on("audio-generation-progress", kill)

    run.on("audio-generation-progress", kill)
    run.generation.run()
    assert told(run) == [("restart", 1)]
    assert [row["error_code"] for row in run.rows] == ["AUDIO_ERROR", None]


def test_the_child_dies_with_a_parent_that_was_killed():
    script = (
        "import time; from harmonia_lab.audio_engines.sketch.engine import SketchEngine; e = SketchEngine();"
        "e.prepare(); print(e._child._process.pid, flush=True); time.sleep(60)"
    )
    root = str(Path(sketch.__file__).parents[3])
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, alive = psutil.wait_procs([child], timeout=60)
    assert gone
    assert not alive


def test_without_the_renderer_the_command_that_installs_it_is_given(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)  # nor FluidSynth: test_fluidsynth.py has that
    with pytest.raises(AudioError) as caught:
        SketchEngine()
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE
    assert caught.value.hint.startswith("Install the package midirenderer: `harmonia doctor` has the command.")


def test_without_the_bundled_bank_the_command_that_installs_it_is_given(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pretty_midi" else found(name))
    with pytest.raises(AudioError) as caught:
        SketchEngine()
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE
    assert caught.value.hint == "Install the package pretty_midi: `harmonia doctor` has the command."


def test_a_bank_that_does_not_exist_or_is_no_sf2_is_named(tmp_path):
    text = tmp_path / "notes.sf2"
    text.write_text("not a sound bank, just a text")
    half = tmp_path / "half.sf2"
    half.write_bytes(BANK.read_bytes()[:200_000])
    for path, said in (
        (tmp_path / "none.sf2", "No such file"),
        (text, "no SF2"),
        (half, "cut off"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(AudioError) as caught:
            SketchEngine(path)
        assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE
        assert str(path) in caught.value.message
        assert said in caught.value.message
        assert "HARMONIA_SOUNDFONT" in caught.value.hint


def test_a_corrupt_bank_is_an_error_at_the_first_song_and_not_a_hang(tmp_path):
    broken = tmp_path / "broken.sf2"
    broken.write_bytes(BANK.read_bytes().replace(b"inst", b"none", 1))
    engine = SketchEngine(broken)
    with pytest.raises(AudioError) as caught:
        render(engine, planned(1.0))
    assert caught.value.code is ErrorCode.AUDIO_UNAVAILABLE
    assert str(broken) in caught.value.message
    assert not children()


def test_the_environment_names_a_bank_and_an_argument_wins(tmp_path, monkeypatch):
    mine = tmp_path / "mine.sf2"
    mine.write_bytes(BANK.read_bytes())
    monkeypatch.setenv("HARMONIA_SOUNDFONT", str(mine))
    assert SketchEngine().record()["model"] == "mine.sf2"
    assert "not known" in SketchEngine().record()["licence"]
    assert SketchEngine(BANK).record()["model"] == "TimGM6mb.sf2"


def test_the_record_names_the_bank_its_digest_and_its_licence(monkeypatch):
    monkeypatch.delenv("HARMONIA_SOUNDFONT", raising=False)
    record = SketchEngine().record()
    assert record["engine"] == "sketch"
    assert record["renderer"].startswith("midirenderer ")
    assert record["sha256"] == "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"
    assert record["licence"].startswith("GPL-2.0")


def test_a_midi_file_that_cannot_be_read_is_answered_and_the_loop_goes_on():
    process = subprocess.run(
        [sys.executable, "-P", sketch_renderer.__file__, str(BANK)],
        input=b"\4\0\0\0junk" + b"\2\0\0\0xx",
        capture_output=True,
        timeout=60,
        check=True,
    )
    out, marks = process.stdout, []
    while out:
        length = int.from_bytes(out[:4], "little")
        marks.append(out[4:5])
        out = out[4 + length :]
    assert marks == [b"+", b"-", b"-"]
