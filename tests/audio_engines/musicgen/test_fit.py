"""What a model needs is known before it is loaded, and what fits is offered."""

import pytest

from harmonia_lab.audio_engines.musicgen import models
from harmonia_lab.audio_engines.musicgen.checkpoints import NAMES
from harmonia_lab.audio_engines.musicgen.fit import need_of, need_of_name, require_room
from harmonia_lab.audio_engines.musicgen.loading import open_model
from harmonia_lab.audio_engines.musicgen.models import MODELS, Choice, ModelCache
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.engines.memory_limits import available_memory
from harmonia_lab.errors import ErrorCode, HarmoniaError
from tests.audio_engines.musicgen.songs import engine, render

pytestmark = pytest.mark.usefixtures("one_thread")

GB = 10**9


@pytest.mark.parametrize("layout", ["audiocraft", "transformers"])
def test_the_estimate_is_what_the_loaded_parts_hold(folders, layout):
    from harmonia_lab.audio_engines.musicgen.checkpoints import find_checkpoint

    folder = str(getattr(folders, layout)())
    need = need_of(open_model(folder, lambda _: None), "cpu", "float32", "auto")
    with ModelCache().lease(Choice(find_checkpoint(folder), device="cpu"), CancelToken(), lambda _: None) as model:
        conditioner = model.musicgen.lm.condition_provider.conditioners["description"]
        parts = [model.musicgen.lm, model.musicgen.compression_model, conditioner.t5]
        held = sum(4 * tensor.numel() for part in parts for tensor in part.state_dict().values())
        assert need.weights == pytest.approx(held, rel=0.05)
        assert need.cache == model.cache_bytes(1, 1500)


def test_the_released_models_have_the_sizes_that_are_known_of_them():
    """Of their cards: 300 M parameters, 1.5 G and 3.3 G, in audiocraft's count the transformer's."""
    small, medium, large = (need_of_name(name) for name in ("small", "medium", "large"))
    assert 2.2 * GB < small.weights < 2.5 * GB
    assert 7.5 * GB < medium.weights < 8.2 * GB
    assert 13.5 * GB < large.weights < 14.2 * GB
    assert 19 * GB < large.weights + large.packed < 20.5 * GB
    assert all(need_of_name(name) for name in NAMES)
    assert need_of_name("stereo-large").cache == pytest.approx(large.cache, rel=0.01)
    assert need_of_name("ann/finetuned") is None


def test_reference_packs_nothing_int8_less_and_a_gpu_halves_the_weights():
    auto, reference, int8 = (need_of_name("large", decoder=decoder) for decoder in ("auto", "reference", "int8"))
    assert reference.packed == 0 < int8.packed < auto.packed
    assert need_of_name("large", device="cuda").weights < 0.6 * auto.weights


def test_large_on_a_small_machine_is_refused_with_what_fits():
    with pytest.raises(HarmoniaError) as raised:
        require_room(need_of_name("large"), 6 * GB, "large", "cpu", "auto")
    error = raised.value
    assert error.code == ErrorCode.MUSICGEN_MEMORY
    assert "MusicGen large would take about 2" in error.message
    assert "6.0 GB left" in error.message
    assert "small (" in error.hint
    assert "medium" not in error.hint
    assert error.details["needed_bytes"] > 19 * GB
    require_room(need_of_name("small"), 6 * GB, "small", "cpu", "auto")


def test_where_nothing_fits_that_is_said_and_where_the_packed_copy_is_too_much_reference_is_offered():
    with pytest.raises(HarmoniaError, match="No MusicGen model fits"):
        require_room(need_of_name("small"), GB, "small", "cpu", "auto")
    need = need_of_name("large")
    with pytest.raises(HarmoniaError, match="decoder=reference"):
        require_room(need, need.total - GB, "large", "cpu", "auto")


def test_a_model_that_will_not_fit_is_refused_before_it_is_read(folders, monkeypatch):
    MODELS.unload()
    monkeypatch.setattr(models, "available_bytes", lambda device: 1000)
    mine, seen = engine(folders.audiocraft(), device="cpu"), []
    with pytest.raises(HarmoniaError, match="would take about") as raised:
        render(mine, progress=lambda p: seen.append(p.status))
    assert raised.value.code == ErrorCode.MUSICGEN_MEMORY
    assert not any("reading" in status for status in seen)


@pytest.mark.parametrize(
    ("listed", "files", "expected"),
    [
        (
            "0::/job\n",
            {"job/memory.max": "1000", "job/memory.current": "400", "job/memory.stat": "inactive_file 50"},
            650,
        ),
        ("0::/a/b\n", {"a/memory.max": "900", "a/memory.current": "100", "a/memory.stat": ""}, 800),
        ("0::/host/path\n", {"memory.max": "700", "memory.current": "0", "memory.stat": ""}, 700),
        (
            "5:cpu,memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": "500",
                "memory/job/memory.usage_in_bytes": "100",
                "memory/job/memory.stat": "total_inactive_file 20",
            },
            420,
        ),
        ("0::/job\n", {"job/memory.max": "10", "job/memory.current": "90", "job/memory.stat": ""}, 0),
    ],
    ids=["version 2", "a parent's limit", "in a container", "version 1", "over its limit"],
)
def test_limits_of_control_groups_count(tmp_path, listed, files, expected):
    (tmp_path / "cgroup").write_text(listed)
    for name, content in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert available_memory(tmp_path / "cgroup", tmp_path / "sys") == expected


def test_without_limits_it_is_the_machines(tmp_path):
    import psutil

    (tmp_path / "cgroup").write_text("0::/job\n")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "memory.max").write_text("max\n")
    found = available_memory(tmp_path / "cgroup", tmp_path)
    assert 0 < found <= psutil.virtual_memory().total
