"""The cache before the hub, and one bounded try: what is asked, for how long, and what is said where it fails."""

import shutil

import pytest

from benchmarks.checkpoints.folders import hub_snapshot
from harmonia_lab.audio_engines.musicgen import hub
from harmonia_lab.audio_engines.musicgen.checkpoints import find_checkpoint
from harmonia_lab.audio_engines.musicgen.loading import open_model
from harmonia_lab.audio_engines.musicgen.models import Choice, ModelCache
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError
from tests.audio_engines.musicgen.hub_server import Hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "AUDIOCRAFT_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def server(monkeypatch):
    started = []

    def start(mode="serve"):
        started.append(Hub(mode))
        monkeypatch.setenv("HF_ENDPOINT", started[-1].url)
        return started[-1]

    yield start
    for each in started:
        each.close()


def refused(name="small"):
    with pytest.raises(HarmoniaError) as raised:
        open_model(find_checkpoint(name).source, lambda _: None, name=name)
    return raised.value


def test_a_model_is_downloaded_with_its_text_encoder_and_codec_and_then_found(cache, server, folders, tmp_path):
    import torch

    released = shutil.copytree(folders.audiocraft(), tmp_path / "released")
    shutil.rmtree(released / "t5")
    torch.save({"pretrained": "facebook/encodec_32khz"}, released / "compression_state_dict.bin")
    there = server()
    there.repos = {
        "facebook/musicgen-small": released,
        "google-t5/t5-small": folders.text(),
        "facebook/encodec_32khz": folders.codec(),
    }
    said = []
    opened = open_model("facebook/musicgen-small", said.append, name="small")
    assert len(opened.weights) == len(open_model(str(folders.audiocraft()), said.append).weights)
    assert said[0].startswith("asking 127.0.0.1")
    assert "at most 10 s" in said[0]
    assert any(line.startswith("downloading facebook/musicgen-small: state_dict.bin") for line in said)
    there.asked.clear()
    assert find_checkpoint("small").digest() == {"revision": "a" * 40}
    open_model("facebook/musicgen-small", said.append)
    assert there.asked == []


def test_a_model_in_transformers_layout_is_one_download(cache, server, folders):
    there = server()
    there.repos = {"ann/finetuned": folders.shards()}
    assert open_model("ann/finetuned", lambda _: None).weights
    assert not any("t5" in path or "encodec" in path for path in there.asked)


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [
        ("reset", ErrorCode.NETWORK_TEMPORARY, "can't be reached"),
        ("503", ErrorCode.NETWORK_TEMPORARY, "503"),
        ("404", ErrorCode.MUSICGEN_UNAVAILABLE, "has no facebook/musicgen-small"),
        ("401", ErrorCode.MUSICGEN_UNAVAILABLE, "signed in"),
        ("403", ErrorCode.MUSICGEN_UNAVAILABLE, "signed in"),
    ],
)
def test_a_hub_that_fails_is_told_apart_from_one_that_refuses(cache, server, mode, code, said):
    server(mode)
    error = refused()
    assert (error.code, said in error.message) == (code, True), error
    assert error.message.startswith("MusicGen small is not on this machine")
    assert error.hint
    if code == ErrorCode.NETWORK_TEMPORARY:
        assert error.recoverable
        assert "harmonia models --fetch small" in error.hint


def test_without_any_network_the_command_that_fetches_it_is_named(cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refused()
    assert error.code == ErrorCode.NETWORK_TEMPORARY
    assert "harmonia models --fetch small" in error.hint
    assert "--audio-model FOLDER" in error.hint


def test_a_hub_that_does_not_answer_is_given_up_after_one_bounded_try(cache, server, monkeypatch):
    there = server("hang")
    monkeypatch.setattr(hub, "TRY_S", 0.3)
    error = refused()
    assert error.code == ErrorCode.NETWORK_TEMPORARY
    assert len(there.asked) <= 1


def test_a_cancel_is_heard_while_the_hub_is_awaited(cache, server):
    server("hang")
    cancel, seen = CancelToken(), []

    def report(status):
        seen.append(status)
        if status.startswith("asking"):
            cancel.cancel()

    with pytest.raises(Cancelled), ModelCache().lease(Choice(find_checkpoint("small")), cancel, report):
        pass
    assert any("facebook/musicgen-small" in status for status in seen)


def test_a_cache_that_cannot_be_written_is_told_as_such(cache, server, folders, monkeypatch):
    import huggingface_hub

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    there = server()
    there.repos = {"ann/finetuned": folders.transformers()}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    assert refused("ann/finetuned").code == ErrorCode.STORAGE_FULL


def test_what_may_not_be_asked_is_not_asked(cache, server, monkeypatch):
    there = server()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refused()
    assert error.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert "HF_HUB_OFFLINE" in error.message
    assert there.asked == []


def test_a_check_downloads_nothing_and_names_what_is_missing(cache, server, folders, tmp_path):
    there = server()
    folder = shutil.copytree(folders.audiocraft(), tmp_path / "model")
    shutil.rmtree(folder / "t5")
    with pytest.raises(HarmoniaError, match="text encoder t5-small") as raised:
        find_checkpoint(str(folder)).check()
    assert raised.value.details["missing"] == "t5-small"
    assert there.asked == []


def test_a_snapshot_that_lacks_a_shard_is_passed_over_for_one_that_is_whole(cache, folders):
    broken = hub_snapshot(cache, "ann/finetuned", folders.shards())
    main = broken / "snapshots" / ("0" * 40)
    assert hub.cached("ann/finetuned", hub.MODEL) == main
    next(main.glob("model-00002*")).unlink()
    assert hub.cached("ann/finetuned", hub.MODEL) is None
    whole = shutil.copytree(folders.shards(), broken / "snapshots" / ("1" * 40))
    assert hub.cached("ann/finetuned", hub.MODEL) == whole


def test_t5_is_found_under_its_former_and_its_present_name(cache, folders):
    assert hub.cached("t5-small", hub.TEXT_PART) is None
    hub_snapshot(cache, "google-t5/t5-small", folders.text())
    assert hub.cached("t5-small", hub.TEXT_PART) is not None


def test_the_caches_are_where_their_variables_say(monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "AUDIOCRAFT_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "/data/hf")
    assert [str(path) for path in hub.cache_folders()] == ["/data/hf/hub"]
    monkeypatch.setenv("AUDIOCRAFT_CACHE_DIR", "/data/audiocraft")
    monkeypatch.setenv("HF_HUB_CACHE", "/data/cache")
    assert [str(path) for path in hub.cache_folders()] == ["/data/audiocraft", "/data/cache"]
