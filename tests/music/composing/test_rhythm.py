import random

import pytest

from harmonia_lab.music.composing.prosody import syllabify
from harmonia_lab.music.composing.rhythm import metric_weight, place_syllables


def place(count, beats=8.0, *, stressed=None, seed=1, syncopation=0.0, pace=0.55, bar=4):
    flags = stressed or [True] * count
    rng = random.Random(seed)
    return place_syllables(flags, beats, beats_per_bar=bar, beat_s=pace, syncopation=syncopation, rng=rng)


@pytest.mark.parametrize("beats", [3.0, 4.0, 6.0, 8.0, 16.0])
def test_onsets_grow_and_leave_a_breath(beats):
    for count in range(1, int(beats * 2)):
        onsets = place(count, beats)
        assert len(onsets) == count
        assert onsets == sorted(set(onsets))
        assert onsets[0] >= 0
        assert onsets[-1] <= beats - 0.5


def test_stressed_syllables_fall_on_stronger_beats_than_unstressed_ones():
    weights = {True: [], False: []}
    for seed in range(20):
        for text in ("The lighthouse keeper counts the waves tonight", "And every boat is calling out to him"):
            flags = [syllable.stressed for syllable in syllabify(text).syllables]
            for flag, onset in zip(flags, place(len(flags), stressed=flags, seed=seed, pace=0.4), strict=True):
                weights[flag].append(metric_weight(onset, 4))
    assert sum(weights[True]) / len(weights[True]) > sum(weights[False]) / len(weights[False]) + 0.1


def test_a_theme_repeats_its_rhythm_and_seeds_differ():
    flags = [syllable.stressed for syllable in syllabify("Hold on to the light we know").syllables]
    assert place(7, seed=3) == place(7, seed=3)
    assert len({tuple(place(7, stressed=flags, seed=seed, syncopation=0.6)) for seed in range(12)}) >= 4


def test_the_metre_is_weighed_from_its_first_beat():
    assert [metric_weight(beat, 4) for beat in (0, 1, 2, 3)] == [1.0, 0.55, 0.8, 0.55]
    assert [metric_weight(beat, 3) for beat in (0, 1, 2, 3)] == [1.0, 0.55, 0.55, 1.0]


def test_function_words_are_unstressed_and_long_words_keep_their_dictionary_stress():
    line = syllabify("The forgotten sailor’s song")
    assert [(s.text, s.stressed) for s in line.syllables] == [
        ("The", False), ("forgotten", False), ("-", True), ("-", False), ("sailor’s", True), ("-", False),
        ("song", True),
    ]  # fmt: skip


def test_a_line_without_words_has_no_syllables():
    assert syllabify("1999 — ♪♪").syllables == ()
