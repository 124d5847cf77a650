"""MusicGen's engine with real classes and random weights: stems, seeds, progress, previews, cancels, lack of memory."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from harmonia_lab.audio_engines.musicgen import rendering
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.memory import Effort
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.settings import DECODERS
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, HarmoniaError
from tests.audio_engines.musicgen.songs import engine, plan, render

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def tiny(checkpoint):
    return checkpoint("tiny")


def sound_of(stems):
    return [stem.audio.tobytes() for stem in stems]


def live_tensor_bytes():
    gc.collect()
    tensors = (each for each in gc.get_objects() if issubclass(type(each), torch.Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.37])
def test_the_mix_is_one_stem_as_long_as_the_song(tiny, seconds):
    (stem,) = render(engine(tiny), plan(seconds))
    assert (stem.name, stem.role, stem.sample_rate) == ("mix", "mix", 32000)
    assert stem.audio.shape == (1, round(seconds * 32000))
    assert stem.audio.dtype == np.float32
    assert np.isfinite(stem.audio).all()
    assert stem.audio.std() > 0


def test_stems_come_in_the_parts_order_with_their_roles(tiny):
    stems = render(engine(tiny, arrangement="stems"))
    assert [(s.name, s.role) for s in stems] == [("piano", "chords"), ("flute", "lead"), ("drums", "drums")]
    assert len(set(sound_of(stems))) == 3


def test_a_stereo_model_makes_two_channels(checkpoint):
    (stem,) = render(engine(checkpoint("tiny-stereo")))
    assert stem.audio.shape == (2, 32000)
    assert not np.array_equal(*stem.audio)


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(tiny):
    first, again, other = (sound_of(render(engine(tiny), seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_stem_does_not_depend_on_its_place_in_the_batch_or_on_the_size_of_it(tiny, monkeypatch):
    stems = engine(tiny, arrangement="stems")
    song = plan(1.0, ["piano", "flute", "cello"])
    forward = {s.name: s.audio for s in render(stems, song)}
    backward = {s.name: s.audio for s in render(stems, replace(song, parts=song.parts[::-1]))}
    monkeypatch.setattr("harmonia_lab.audio_engines.musicgen.engine.efforts", lambda *_, **__: [Effort(1, 30.0)])
    alone = {s.name: s.audio for s in render(stems, song)}
    for name, audio in forward.items():
        # The same tokens: another one would be heard. The sums behind them may round differently.
        np.testing.assert_allclose(backward[name], audio, atol=1e-5)
        np.testing.assert_allclose(alone[name], audio, atol=1e-5)


@pytest.mark.parametrize("seconds", [5, 30, 75])
def test_progress_never_goes_back_nor_beyond_the_end(tiny, seconds):
    seen = []
    (stem,) = render(engine(tiny), plan(float(seconds)), progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert stem.audio.shape[1] == seconds * 32000
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert fractions[-2] <= 1
    assert len(set(fractions)) > 5
    assert max(np.diff(fractions)) < 0.5


def test_progress_names_what_is_at_work_and_counts_what_is_done(tiny):
    seen = []
    render(engine(tiny, arrangement="stems"), plan(2.0), progress=seen.append)
    assert {p.instrument for p in seen if p.preview is None} == {None, "piano, flute, drums"}
    assert list(dict.fromkeys(p.preview.stem for p in seen if p.preview)) == ["piano", "flute", "drums"]
    counts = [p.completed for p in seen]
    assert counts == sorted(counts)
    assert (counts[-1], seen[-1].total) == (3, 3)
    assert [(p.finished.name, p.completed) for p in seen if p.finished] == [("piano", 1), ("flute", 2), ("drums", 3)]


def test_stems_that_were_finished_before_are_taken_and_the_others_sound_the_same(tiny):
    whole = render(engine(tiny, arrangement="stems"), plan(2.0))
    seen = []
    again = render(
        engine(tiny, arrangement="stems"), plan(2.0), progress=seen.append, finished={"flute": whole[1], "other": None}
    )
    assert again[1] is whole[1]
    assert sound_of(again) == sound_of(whole)
    assert {p.instrument for p in seen if p.preview is None} == {None, "piano, drums"}
    assert {p.completed for p in seen} == {1, 2, 3}


def test_a_mix_counts_as_one_of_one(tiny):
    seen = []
    render(engine(tiny), progress=seen.append)
    assert {p.total for p in seen} == {1}
    assert (seen[-1].instrument, seen[-1].completed) == (None, 1)
    assert {p.instrument for p in seen} == {None, "mix"}


def test_the_figures_for_the_log_come_with_the_last_report(tiny):
    seen = []
    render(engine(tiny), progress=seen.append)
    assert all(not progress.figures for progress in seen[:-1])
    assert seen[-1].figures["steps_per_second"] > 0
    assert seen[-1].figures["time_to_first_audio_s"] > 0


def test_loading_is_reported_step_by_step(tiny):
    MODELS.unload()
    seen = []
    render(engine(tiny), progress=seen.append)
    assert seen[0].status.startswith("Loading MusicGen")
    assert seen[0].instrument is None


def test_previews_add_up_to_the_final_audio_and_come_while_tokens_are_made(tiny):
    heard = []
    stems = render(engine(tiny, arrangement="stems"), plan(6.0), progress=heard.append)
    previews = [p.preview for p in heard if p.preview is not None]
    for stem in stems:
        mine = [p for p in previews if p.stem == stem.name]
        assert [p.start for p in mine] == list(np.cumsum([0] + [p.audio.shape[1] for p in mine])[:-1])
        assert np.array_equal(np.concatenate([p.audio for p in mine], axis=1)[:, : stem.audio.shape[1]], stem.audio)
        assert mine[0].sample_rate == stem.sample_rate
    assert next(p.fraction for p in heard if p.preview is not None) <= 1 / 6  # the first second of six
    assert previews[0].audio.shape[1] <= 32000


@pytest.mark.parametrize("size", ["tiny", "tiny-stereo"])
def test_the_final_audio_is_the_whole_decode(checkpoint, size, monkeypatch):
    from harmonia_lab.audio_engines.musicgen import windows

    made = []
    generate = windows.generate_windows
    monkeypatch.setattr(windows, "generate_windows", lambda *a, **k: made.append(generate(*a, **k)) or made[-1])
    mine = engine(checkpoint(size))
    (stem,) = render(mine, plan(4.0))
    codec = MODELS.peek(mine._choice).musicgen.compression_model
    with torch.inference_mode():
        whole = codec.decode(made[0])[0].numpy()[:, : stem.audio.shape[1]]
    assert np.sqrt(np.mean((stem.audio - whole) ** 2) / np.mean(whole**2)) <= 1e-6


def test_a_cancel_ends_the_song_within_a_step(tiny):
    cancel, steps_after = CancelToken(), []

    def progress(report):
        if cancel.cancelled:
            steps_after.append(report)
        if report.fraction > 0.3:
            cancel.cancel()

    with pytest.raises(Cancelled):
        render(engine(tiny), plan(10.0), progress=progress, cancel=cancel)
    assert steps_after == []


def test_a_cancel_does_not_wait_for_a_model_that_loads(tiny, monkeypatch):
    import threading

    from harmonia_lab.audio_engines.musicgen import models

    MODELS.unload()
    go_on = threading.Event()
    load = models._load
    monkeypatch.setattr(models, "_load", lambda *a: go_on.wait(30) and load(*a))
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        render(engine(tiny), progress=lambda _: cancel.cancel(), cancel=cancel)
    assert not go_on.is_set()
    go_on.set()
    assert render(engine(tiny))


def test_cancels_leave_the_memory_as_it_was(tiny, monkeypatch):
    monkeypatch.setattr(rendering, "REPORT_S", 0)
    mine = engine(tiny, arrangement="stems")
    render(mine)
    before, errors = live_tensor_bytes(), []
    for number in range(6):
        cancel = CancelToken()

        def progress(report, at=number / 7, cancel=cancel):
            if report.fraction >= at:
                cancel.cancel()

        with pytest.raises(Cancelled) as raised:
            render(mine, plan(2.0), progress=progress, cancel=cancel)
        errors.append(raised.value)  # as a job's handle keeps it
    assert live_tensor_bytes() == before
    assert render(mine)


def out_of_memory(self, *_, **__):
    tensor = torch.zeros(250_000)  # what an attempt holds when it fails
    raise RuntimeError(f"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried {tensor.numel()} bytes")


def test_lacks_of_memory_leave_the_memory_as_it_was_and_the_engine_usable(tiny, monkeypatch):
    mine = engine(tiny)
    sound = sound_of(render(mine))
    before, errors = live_tensor_bytes(), []
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "generate", out_of_memory)
        for _ in range(5):
            with pytest.raises(AudioError) as raised:
                render(mine)
            errors.append(raised.value)
    assert {error.code for error in errors} == {ErrorCode.MUSICGEN_MEMORY}
    assert live_tensor_bytes() == before
    assert sound_of(render(mine)) == sound


def test_every_attempt_after_a_lack_of_memory_is_reported(tiny, monkeypatch):
    monkeypatch.setattr(Decoder, "generate", out_of_memory)
    seen, mine = [], engine(tiny, arrangement="stems")
    with pytest.raises(AudioError, match="not enough memory") as raised:
        render(mine, plan(1.0, ["piano", "flute", "cello", "drums"]), progress=seen.append)
    failures = [p for p in seen if p.failure is not None]
    assert [p.status for p in failures] == [
        "Memory ran out: trying again with what could be freed...",
        "Memory ran out: 2 at a time...",
        "Memory ran out: 1 at a time...",
        "Memory ran out: windows of 15 s...",
    ]
    assert {p.failure.code for p in failures} == {ErrorCode.MUSICGEN_MEMORY}
    assert raised.value.recoverable
    assert "smaller model" in raised.value.hint


def test_a_smaller_batch_or_a_shorter_window_makes_the_song_after_all(tiny, monkeypatch):
    generate = Decoder.generate

    def too_big(self, prompt, conditions, **options):
        if len(conditions) > 1 or options["max_gen_len"] > 800:
            out_of_memory(self)
        return generate(self, prompt, conditions, **options)

    monkeypatch.setattr(Decoder, "generate", too_big)
    mine, seen = engine(tiny, arrangement="stems"), []
    stems = render(mine, plan(20.0, ["piano", "drums"]), progress=seen.append)
    assert [stem.audio.shape[1] for stem in stems] == [640_000, 640_000]
    record = mine.record()
    assert record["windowSeconds"] == 15
    assert len(record["recovered"]) == 3
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)


def test_what_cannot_fit_is_refused_before_it_is_tried(tiny, monkeypatch):
    monkeypatch.setattr(rendering, "available_bytes", lambda _: 1000)
    with pytest.raises(AudioError, match="GiB are free") as raised:
        render(engine(tiny))
    assert raised.value.code == ErrorCode.MUSICGEN_MEMORY
    assert raised.value.details["needed_bytes"] > 1000


def test_any_other_failure_has_its_own_code_and_keeps_nothing(tiny, monkeypatch):
    mine = engine(tiny)
    render(mine)
    before = live_tensor_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "generate", lambda *_, **__: torch.zeros(1000).view(3, 5))
        with pytest.raises(AudioError, match="RuntimeError") as raised:
            render(mine)
    assert raised.value.code == ErrorCode.MUSICGEN_ERROR
    assert live_tensor_bytes() == before
    assert render(mine)


def test_the_record_says_that_the_weights_are_random_and_what_was_asked(tiny):
    mine = engine(tiny, top_k=100)
    render(mine)
    record = mine.record()
    assert record["weights"] == "random"
    assert record["licence"] == "none: the weights are random"
    assert record["randomWeights"]["size"] == "tiny"
    assert record["prompts"] == {"mix": "A nostalgic folk song with piano, flute and drums. bpm: 96. key: A minor"}
    assert record["settings"]["top_k"] == 100
    assert set(record["digest"]) == {"state_dict.bin", "compression_state_dict.bin"}
    assert (record["device"], record["dtype"], record["decoderRunning"]) == ("cpu", "float32", "fast")


def test_all_decoders_make_the_song_and_the_fast_one_the_reference_tokens(tiny):
    sounds = {mode: render(engine(tiny, decoder=mode, temperature=0), plan(2.0))[0].audio for mode in DECODERS}
    np.testing.assert_allclose(sounds["fast"], sounds["reference"], atol=1e-5)
    assert sounds["int8"].shape == sounds["fast"].shape
    MODELS.unload()


def test_preparing_loads_in_the_background(tiny):
    MODELS.unload()
    mine = engine(tiny)
    mine.prepare()
    (stem,) = render(mine)
    assert stem.audio.any()
    mine.close()
    assert mine._choice not in MODELS.loaded()


def test_sampling_parameters_matter(tiny):
    sounds = [
        render(engine(tiny, **settings))[0].audio.tobytes()
        for settings in (
            {},
            {"top_k": 5},
            {"top_p": 0.5},
            {"temperature": 2.0},
            {"cfg_coef": 8.0},
            {"use_sampling": False},
        )
    ]
    assert len(set(sounds)) == len(sounds)


def test_an_error_of_ours_gets_through_as_it_is(tiny, monkeypatch):
    with pytest.raises(HarmoniaError) as raised:
        render(engine(tiny), replace(plan(), metadata=None))
    assert "metadata" in raised.value.message


def test_a_prompt_of_ones_own_for_the_whole_mix_holds_nothing_of_the_plan(checkpoint):
    own = "rain on a tin roof"
    assert engine(checkpoint("tiny"), prompt=own).follows == frozenset()
    assert engine(checkpoint("tiny"), prompt=own, arrangement="stems").follows == {"prompt", "tempo", "key"}
