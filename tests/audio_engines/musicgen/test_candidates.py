"""Of several candidates the best is kept: by the tempo and key asked for, clipping, silence and NaN."""

import math

import numpy as np
import pytest

from harmonia_lab.audio_engines.musicgen import plan_sections, rendering
from harmonia_lab.audio_engines.musicgen.candidates import AskedSound, Selection, key_weight, score_of
from harmonia_lab.audio_engines.musicgen.memory import Effort
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode
from tests.audio_engines.musicgen.songs import engine, plan, render, sectioned

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 16000


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


def stem(audio):
    return Stem("x", "mix", np.asarray(audio, np.float32), RATE)


def song(bpm=120, seconds=6.0, level=0.3, chords=((9, 0, 4), (2, 5, 9), (4, 7, 11), (9, 0, 4))):
    """A click track with chords, those of A minor by default, each of two beats."""
    time = np.arange(round(seconds * RATE)) / RATE
    beat = (time * bpm / 60).astype(int)
    since = time - beat * 60 / bpm
    sound = np.sin(2 * np.pi * 2000 * since) * np.exp(-since * 60)
    for number, chord in enumerate(chords):
        playing = (beat // 2) % len(chords) == number
        for pitch in chord:
            frequency = 440 * 2 ** ((pitch - 9 + (-12 if pitch > 6 else 0)) / 12)
            sound += playing * 0.5 * np.sin(2 * np.pi * frequency * time) * np.exp(-since * 2)
    return stem((level * sound / np.abs(sound).max())[None])


ASKED = AskedSound(120, "A minor")


def test_the_asked_tempo_and_key_score_more_than_others():
    sound = song()
    right, foreign = score_of(sound, ASKED), score_of(sound, AskedSound(120, "Eb minor"))
    slow = score_of(song(bpm=97), ASKED)
    assert right.parts["tempo"] > 0.5
    assert right.parts["key"] > 0.2
    assert (slow.parts["tempo"], foreign.parts["key"]) == (0, 0)
    assert right.total > slow.total
    assert right.total > foreign.total
    assert right.heard.startswith("about 120 bpm (asked 120)")


def test_half_and_double_tempo_count_half():
    sound = song()
    right, double = (score_of(sound, AskedSound(bpm, None)) for bpm in (120, 60))
    assert double.parts["tempo"] == pytest.approx(right.parts["tempo"] / 2, abs=1e-3)


@pytest.mark.parametrize(
    ("heard", "asked", "weight"),
    [("A minor", "A minor", 1.0), ("E minor", "A minor", 0.5), ("D minor", "A minor", 0.5), ("C major", "A minor", 0.3),
     ("A major", "A minor", 0.2), ("A minor", "C major", 0.3), ("C minor", "C major", 0.2), ("B minor", "A minor", 0),
     ("F major", "A minor", 0), (None, "A minor", 0), ("Bb major", "Eb major", 0.5)],
)  # fmt: skip
def test_keys_count_as_in_mirex(heard, asked, weight):
    assert key_weight(heard, asked) == weight


def test_what_is_not_asked_for_does_not_count():
    sound = stem(np.zeros((1, RATE)))
    assert score_of(sound, AskedSound(None, None)).parts.keys() == {"silence", "clipping"}
    assert score_of(sound, AskedSound(120, None)).parts.keys() == {"silence", "clipping", "tempo"}


def test_silence_and_clipping_cost():
    whole = song()
    half = whole.audio.copy()
    half[:, half.shape[1] // 2 :] = 0
    assert score_of(stem(half), ASKED).parts["silence"] == pytest.approx(-0.5, abs=0.02)
    clipped = score_of(stem(np.clip(whole.audio * 20, -1, 1)), ASKED)
    assert clipped.parts["clipping"] == -1
    assert score_of(whole, ASKED).parts["clipping"] == 0


def test_a_sound_with_nan_is_never_chosen():
    broken = song().audio.copy()
    broken[0, 5] = math.nan
    selection, token = Selection("mix", ASKED), CancelToken()
    assert not selection.add(1, 11, stem(broken), token)
    assert selection.record()["chosen"] is None
    with pytest.raises(AudioError, match="not a number") as raised:
        selection.best("float16")
    assert raised.value.code == ErrorCode.MUSICGEN_ERROR
    assert raised.value.details["precision"] == "float16"
    assert selection.add(2, 12, stem(np.zeros((1, RATE))), token)
    assert selection.record()["chosen"] == 2
    assert selection.record()["scores"][0]["score"] is None
    assert selection.best("float32").audio.shape == (1, RATE)


def test_the_record_says_why_and_what_the_others_scored():
    selection, token = Selection("mix", ASKED), CancelToken()
    for number, audio in enumerate((song(bpm=97), song(), stem(np.zeros((1, RATE)))), 1):
        selection.add(number, 10 * number, audio, token)
    record = selection.record()
    assert record["chosen"] == 2
    assert record["why"].startswith("candidate 2 has the highest score of 3, ")
    assert "about 120 bpm (asked 120)" in record["why"]
    assert [each["seed"] for each in record["scores"]] == [10, 20, 30]
    assert (selection.best("float32").name, selection.best("float32").role) == ("mix", "mix")


def test_of_equal_candidates_the_first_is_taken_in_whatever_order_they_come():
    selection, token = Selection("mix", AskedSound(None, None)), CancelToken()
    for number in (3, 1, 2):
        selection.add(number, number, stem(np.zeros((1, RATE))), token)
    assert selection.record()["chosen"] == 1
    assert "the first of 3 with the highest score" in selection.record()["why"]


@pytest.fixture
def tiny(checkpoint):
    return checkpoint("tiny")


def test_the_best_candidate_is_the_song_and_the_first_has_its_usual_seed(tiny):
    alone = render(engine(tiny), plan(1.0))[0].audio
    mine, seen = engine(tiny, best_of=3), []
    (best,) = render(mine, plan(1.0), progress=seen.append)
    rendered = {p.finished.name: p.finished.audio for p in seen if p.finished}
    assert list(rendered) == ["mix candidate 1", "mix candidate 2", "mix candidate 3"]
    np.testing.assert_allclose(rendered["mix candidate 1"], alone, atol=1e-5)
    assert len({audio.tobytes() for audio in rendered.values()}) == 3
    record = mine.record()
    choice = record["candidates"]["mix"]
    scores = [each["score"] for each in choice["scores"]]
    assert choice["chosen"] == 1 + scores.index(max(scores))
    assert np.array_equal(best.audio, rendered[f"mix candidate {choice['chosen']}"])
    assert (best.name, best.role) == ("mix", "mix")
    assert record["secondsPerCandidate"] > 0
    assert record["settings"]["best_of"] == 3


def test_progress_is_over_all_candidates_and_none_is_heard_before_it_is_chosen(tiny, monkeypatch):
    monkeypatch.setattr(rendering, "CANDIDATES_AT_ONCE", 1)
    monkeypatch.setattr(rendering, "REPORT_S", 0)
    seen = []
    render(engine(tiny, best_of=3), plan(1.0), progress=seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert max(np.diff(fractions)) < 0.3
    assert not [p for p in seen if p.preview]
    assert [p.completed for p in seen if p.finished] == [0, 0, 1]
    statuses = list(dict.fromkeys(p.status.partition(",")[0] for p in seen if p.status.startswith("Generating")))
    assert [status.rstrip(".") for status in statuses] == [f"Generating candidate {n} of 3" for n in (1, 2, 3)]
    assert {p.total for p in seen} == {1}


def test_candidates_that_were_finished_before_are_taken_and_those_that_fit_are_made_together(tiny, monkeypatch):
    seen = []
    (whole,) = render(engine(tiny, best_of=3), plan(1.0), progress=seen.append)
    assert "Generating candidates 1 to 3 of 3..." in {p.status for p in seen}
    kept = {p.finished.name: p.finished for p in seen if p.finished}
    again = []
    taken = {name: kept[name] for name in ("mix candidate 1", "mix candidate 2")}
    (same,) = render(engine(tiny, best_of=3), plan(1.0), progress=again.append, finished=taken)
    assert [p.finished.name for p in again if p.finished] == ["mix candidate 3"]
    np.testing.assert_allclose(same.audio, whole.audio, atol=1e-5)
    mine = engine(tiny, best_of=3)
    render(mine, plan(1.0))
    model = MODELS.peek(mine._choice)
    monkeypatch.setattr(rendering, "available_bytes", lambda _: model.cache_bytes(2, 50) + 1)
    rows = rendering.Rendering(
        mine._takes(plan().parts, plan(), dict.fromkeys(["piano", "flute", "drums"], 1)), plan(), mine.settings,
        progress=lambda _: None, cancel=CancelToken(), finished={},
    )  # fmt: skip
    assert (rows.most_at_once, rows.batch(model, Effort(3, 30.0))) == (3, 2)


def test_a_cancel_is_heard_in_any_candidate(tiny, monkeypatch):
    monkeypatch.setattr(rendering, "CANDIDATES_AT_ONCE", 1)
    for at in (0.2, 0.3332, 0.9):
        cancel, after = CancelToken(), []

        def progress(report, at=at, cancel=cancel, after=after):
            if cancel.cancelled and report.finished is None:
                after.append(report)
            if report.fraction > at:
                cancel.cancel()

        with pytest.raises(Cancelled):
            render(engine(tiny, best_of=3), plan(1.0), progress=progress, cancel=cancel)
        assert after == []


def test_each_stem_has_its_own_best_candidate(tiny):
    mine = engine(tiny, arrangement="stems", best_of=2)
    stems = render(mine, plan(1.0))
    assert [s.name for s in stems] == ["piano", "flute", "drums"]
    choices = mine.record()["candidates"]
    assert choices.keys() == {"piano", "flute", "drums"}
    assert "key" not in choices["drums"]["scores"][0]
    assert {"key", "tempo"} <= choices["flute"]["scores"][0].keys()


@pytest.mark.stress
def test_candidates_of_a_song_by_sections_are_made_one_by_one(tiny, monkeypatch):
    monkeypatch.setattr(plan_sections, "LEAST_S", 2.5)
    monkeypatch.setattr(rendering, "WINDOW_S", 5.0)
    monkeypatch.setattr("harmonia_lab.audio_engines.musicgen.engine.WINDOW_S", 5.0)
    mine, seen = engine(tiny, best_of=2, windows="plan"), []
    render(mine, sectioned(5.0, [("intro", 1, 0.3), ("outro", 1, 0.4)]), progress=seen.append)
    assert {p.status for p in seen if "andidates" in p.status} == set()
    assert len(mine.record()["joins"]) == 1
    assert mine.record()["candidates"]["mix"]["chosen"] in (1, 2)
