"""What `accelerate` takes, what it leaves alone, and what it needs."""

import gc
import importlib.machinery
import importlib.util
import subprocess
import sys
import weakref

import grimp
import pytest
import torch

import harmonia_lab
from harmonia_lab.audio_engines.musicgen.acceleration.audiocraft_import import _Loader, _StandInFinder, make_importable
from harmonia_lab.audio_engines.musicgen.acceleration.weight_stamps import WeightStamp
from harmonia_lab.errors import InvalidRequest
from tests.audio_engines.musicgen.acceleration.peers import audiocraft_model, transformers_model

ACCELERATION = "harmonia_lab.audio_engines.musicgen.acceleration"


def test_what_is_no_model_is_refused_and_an_unknown_one_keeps_its_own_loop():
    for nothing in (None, "facebook/musicgen-small", 3, torch.nn.Linear(2, 2)):
        with pytest.raises(InvalidRequest, match="can't take a"):
            harmonia_lab.accelerate(nothing)
    model = torch.nn.Linear(2, 2)
    model.generate = generate = print
    with pytest.raises(InvalidRequest, match="no decoder 'quick'"):
        harmonia_lab.accelerate(model, "quick")
    with pytest.warns(UserWarning, match="Linear can't be accelerated: a Linear is not known"):
        running = harmonia_lab.accelerate(model)
    assert running.running == "reference"
    assert "is not known" in repr(running)
    running.undo()
    assert model.generate is generate


@pytest.mark.stress  # 8 s, for what torch.compile imports
def test_a_compiled_model_keeps_its_own_loop():
    with pytest.warns(UserWarning, match="a OptimizedModule is not known"):
        harmonia_lab.accelerate(torch.compile(audiocraft_model().lm, backend="eager"))


def test_a_subclass_keeps_its_own_loop():
    model = audiocraft_model()
    model.lm.__class__ = type("MyLM", (type(model.lm),), {})
    with pytest.warns(UserWarning, match="its language model is a MyLM"):
        harmonia_lab.accelerate(model)
    assert "generate" not in model.lm.__dict__


def test_it_is_apart_from_server_language_models_and_sketch():
    graph = grimp.build_graph("harmonia_lab", include_external_packages=True, cache_dir=None)
    found = graph.find_upstream_modules(ACCELERATION, as_package=True)
    own = {name.split(".")[1] for name in found if name.startswith("harmonia_lab.")}
    assert own <= {"audio_engines", "engines", "errors", "languages", "music", "protocol", "storage", "syllables"}
    assert not {name for name in found if "sketch" in name or "mixing" in name}
    assert found.isdisjoint(
        {"socketio", "engineio", "aiohttp", "sqlite3", "ollama", "xllamacpp", "pandas", "matplotlib"}
    )


@pytest.mark.stress
def test_a_script_that_imports_audiocraft_after_us_needs_nothing_else():
    """In a fresh process: audiocraft imports, a model generates, and no part of the workbench is loaded."""
    script = """
import sys
from harmonia_lab import accelerate
assert "torch" not in sys.modules
from audiocraft.models import MusicGen
from harmonia_lab.audio_engines.musicgen.random_checkpoint import build_model
import torch
model = build_model("tiny")
assert type(model) is MusicGen
model.set_generation_params(duration=0.2)
torch.manual_seed(1); theirs = model.generate(["a"])
with accelerate(model):
    torch.manual_seed(1); assert torch.equal(model.generate(["a"]), theirs)
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"socketio", "engineio", "aiohttp", "sqlite3", "ollama", "xllamacpp", "pandas", "matplotlib", "IPython"}
    assert unwanted.isdisjoint(loaded)
    parts = {name.split(".")[1] for name in loaded if name.startswith("harmonia_lab.")}
    assert parts.isdisjoint(
        {"server", "client", "store", "metadata_engines", "backends", "lab", "generation", "widgets"}
    )


def test_audiocraft_is_imported_with_stand_ins_only_where_packages_are_missing(tmp_path, monkeypatch):
    (tmp_path / "like_audiocraft.py").write_text("import flashy, xformers.ops\nseen = xformers.ops.unbind\n")
    monkeypatch.syspath_prepend(tmp_path)
    make_importable()
    make_importable()
    assert sum(isinstance(finder, _StandInFinder) for finder in sys.meta_path) == 1
    finder = _StandInFinder()
    assert finder.find_spec("numpy", None) is None
    spec = finder.find_spec("audiocraft", None)
    assert isinstance(spec.loader, _Loader)
    there = "harmonia_lab.audio_engines.musicgen.acceleration.audiocraft_import._is_there"
    monkeypatch.setattr(there, lambda name: True)
    assert finder.find_spec("audiocraft", None) is None
    like = importlib.machinery.PathFinder.find_spec("like_audiocraft")
    like.loader = _Loader(like, like.loader)
    module = importlib.util.module_from_spec(like)
    like.loader.exec_module(module)
    assert module.seen is torch.unbind
    assert "flashy" not in sys.modules


def test_deleting_the_model_frees_its_packed_weights():
    for make, inside in ((audiocraft_model, lambda m: m.lm), (transformers_model, lambda m: m)):
        model = make()
        running = harmonia_lab.accelerate(model)
        packed, owner = weakref.ref(running._served._packed), weakref.ref(inside(model))
        del model, running
        gc.collect()
        assert packed() is None
        assert owner() is None


def test_a_stamp_sees_writes_of_every_kind():
    weight, norm = torch.randn(40, 30), torch.randn(30)
    weight[3, 4] = torch.nan
    stamp = WeightStamp([weight, norm])
    assert stamp.matches([weight, norm])
    assert not stamp.matches([weight.clone(), norm])
    weight.data[7, 8] *= 1.0001
    assert not stamp.matches([weight, norm])
    stamp = WeightStamp([weight, norm])
    norm.numpy()[[0, 1]] = norm.numpy()[[1, 0]]
    assert not stamp.matches([weight, norm])
    before = torch.get_rng_state()
    WeightStamp([torch.zeros(3, 77)])
    assert torch.equal(before, torch.get_rng_state())
