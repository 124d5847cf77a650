"""`harmonia models`: what is here, what it can do, whether it fits, and how to get the rest."""

import json
import shutil

import pytest

from benchmarks.checkpoints.folders import hub_snapshot
from harmonia_lab.audio_engines.musicgen import inventory
from harmonia_lab.testing.ollama import FakeOllama

GB = 10**9


@pytest.fixture
def cache(harmonia):
    folder = harmonia.folder / "hub"
    harmonia.environment |= {"HF_HUB_CACHE": str(folder), "HF_ENDPOINT": "http://127.0.0.1:9"}
    return folder


def listed(harmonia, *args):
    done = harmonia("models", *args, "--json")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["availableBytes"] > 0
    return {(model["engine"], model["name"]): model for model in found["models"]}


def test_cached_and_local_models_are_listed_with_what_they_can_do(harmonia, cache, folders):
    hub_snapshot(cache, "facebook/musicgen-melody", folders.transformers(melody=True))
    (harmonia.folder / "mine").mkdir()
    shutil.copytree(folders.audiocraft("tiny-stereo"), harmonia.folder / "mine" / "stereo")
    models = listed(harmonia, "mine")
    melody = models["musicgen", "melody"]
    assert (melody["can"], melody["sings"], melody["fits"], melody["missing"]) == (["melody"], False, True, [])
    assert melody["licence"].startswith("CC-BY-NC")
    assert melody["sizeBytes"] > 100_000
    stereo = models["musicgen", str(harmonia.folder / "mine" / "stereo").replace(str(harmonia.folder) + "/", "")]
    assert (stereo["can"], stereo["licence"], stereo["missing"]) == (["stereo"], "none: the weights are random", [])


def test_released_models_that_are_not_here_are_listed_with_the_command_that_fetches_them(harmonia, cache):
    models = listed(harmonia, "nowhere")
    large = models["musicgen", "large"]
    assert (large["missing"], large["fetch"]) == (["not downloaded"], "harmonia models --fetch large")
    assert 19 * GB < large["needsBytes"] < 23 * GB
    assert 7 * GB < large["sizeBytes"] < 8 * GB
    assert models["ollama", "(any model)"]["fetch"].endswith("ollama pull MODEL")
    assert models["embedded", "smollm2:135m"]["licence"] == "Apache-2.0"


def test_what_a_folder_only_names_is_missing_until_it_is_cached(harmonia, cache, folders):
    folder = shutil.copytree(folders.audiocraft(), harmonia.folder / "model")
    shutil.rmtree(folder / "t5")
    assert listed(harmonia, "model")["musicgen", "model"]["missing"] == ["the text encoder t5-small"]
    hub_snapshot(cache, "t5-small", folders.text())
    assert listed(harmonia, "model")["musicgen", "model"]["missing"] == []


def test_an_ollama_servers_models_are_listed_with_size_and_licence(harmonia, cache):
    with FakeOllama() as server:
        harmonia.environment["OLLAMA_HOST"] = server.url
        found = [model for (engine, _), model in listed(harmonia).items() if engine == "ollama"]
    assert found
    assert all(model["where"] == server.url and not model["missing"] for model in found)


def test_the_table_is_for_people_and_nothing_in_it_moves_the_cursor(harmonia, cache, folders):
    shutil.copytree(folders.audiocraft(), harmonia.folder / "mo\x1b[31mdel")
    done = harmonia("models", ".")
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert "Here:" in text
    assert "get it: harmonia models --fetch small" in text
    assert "no singing" in text
    assert "\x1b" not in text


def test_a_model_is_fetched_or_the_error_says_why(harmonia, cache):
    done = harmonia("models", "--fetch", "small", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "NETWORK_TEMPORARY"
    assert harmonia("models", "--fetch", "smal").returncode == 2


def test_a_folder_with_a_broken_model_hides_no_other(harmonia, cache, folders):
    broken = shutil.copytree(folders.transformers(), harmonia.folder / "all" / "broken")
    (broken / "config.json").write_text('{"model_type": "musicgen"}')
    shutil.copytree(folders.transformers(), harmonia.folder / "all" / "whole")
    models = listed(harmonia, "all")
    assert models["musicgen", "all/broken"]["missing"] == ["its configuration can't be read"]
    assert models["musicgen", "all/whole"]["missing"] == []


def test_the_configuration_is_read_without_unpickling(folders, tmp_path):
    text = inventory._pickled_text(folders.audiocraft() / "state_dict.bin", "xp.cfg")
    assert "transformer_lm" in text
    (tmp_path / "x.bin").write_bytes(b"no zip")
    assert inventory._pickled_text(tmp_path / "x.bin", "xp.cfg") is None


def test_a_folder_named_models_is_looked_into_unless_others_are_named(harmonia, cache, folders):
    shutil.copytree(folders.audiocraft(), harmonia.folder / "models" / "mine")
    assert ("musicgen", "models/mine") in listed(harmonia)
    assert ("musicgen", "models/mine") not in listed(harmonia, "nowhere")


def test_a_lab_has_the_same_list(tmp_path, cache, folders, monkeypatch):
    from harmonia_lab import Lab

    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with Lab(home=tmp_path / "home", songs=tmp_path / "songs") as lab:
        found = lab.models(folders.audiocraft())
    (mine,) = [entry for entry in found if entry.name == str(folders.audiocraft())]
    assert (mine.sings, mine.missing, mine.can) == (False, (), ())
