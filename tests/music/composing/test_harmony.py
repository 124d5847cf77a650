import itertools
import random

import pytest

from harmonia_lab.music.composing.form import lay_out
from harmonia_lab.music.composing.harmony import Key, harmonise, scale_over
from harmonia_lab.music.composing.voicing import voice_lead
from harmonia_lab.music.genres import GENRE_STYLES
from harmonia_lab.protocol.vocabulary import GENRES

C_MAJOR = Key(0, minor=False)


def chords_of(genre="pop", *, key=C_MAJOR, seconds=60.0, seed=1):
    style = GENRE_STYLES[genre]
    bar_seconds = style.beats_per_bar * 0.5
    form = lay_out((), bar_seconds, seconds)
    final = float(form.final_bar * style.beats_per_bar)
    return form, harmonise(form, style, key, final=final, beats=seconds * 2, rng=random.Random(seed))


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize("minor", [True, False])
def test_chords_follow_each_other_without_gaps_and_end_on_the_plain_tonic(genre, minor):
    for seed in range(5):
        _, chords = chords_of(genre, key=Key(9, minor), seed=seed)
        assert chords[0].start == 0
        assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(chords))
        assert chords[-1].end == 120
        assert chords[-1].pitch_classes == ((9, 0, 4) if minor else (9, 1, 4))
        assert chords[-1].symbol == ("Am" if minor else "A")


def test_a_verse_opens_into_the_chorus_and_a_chorus_closes():
    form, chords = chords_of("pop")
    for section in form.sections[:-1]:
        end = (section.bar + section.bars) * 4
        inside = [chord for chord in chords if section.bar * 4 <= chord.start < end]
        if section.kind == "verse":
            assert inside[-1].symbol == "G7"
        if section.kind == "chorus":
            assert [chord.symbol for chord in inside[-2:]] == ["G7", "C"]


def test_verse_and_chorus_have_different_progressions():
    form, chords = chords_of("rock")
    symbols = {
        section.kind: tuple(c.symbol for c in chords if section.bar * 4 <= c.start < (section.bar + 3) * 4)
        for section in form.sections
    }
    assert symbols["verse"] != symbols["chorus"]


def test_seeds_choose_different_progressions():
    assert len({tuple(chord.symbol for chord in chords_of("pop", seed=seed)[1]) for seed in range(12)}) >= 4


def test_the_scale_bends_to_the_dominant_in_minor_and_to_blue_sevenths_in_major():
    _, chords = chords_of("classical", key=Key(9, minor=True))
    dominant = next(chord for chord in chords if chord.symbol == "E7")
    assert scale_over(dominant, Key(9, minor=True)) == {9, 11, 0, 2, 4, 5, 8}
    _, chords = chords_of("blues")
    assert scale_over(chords[0], C_MAJOR) == {0, 2, 4, 5, 7, 9, 10}


@pytest.mark.parametrize("genre", ["pop", "jazz", "classical", "waltz", "soul"])
def test_voices_move_little_and_outer_voices_avoid_parallel_fifths(genre):
    parallel = moves = 0
    for seed in range(8):
        _, chords = chords_of(genre, seed=seed)
        voicings = voice_lead(chords, 52, 72, 4)
        for (chord, voicing), (following, after) in itertools.pairwise(zip(chords, voicings, strict=True)):
            assert set(chord.pitch_classes[:2]) <= {pitch % 12 for pitch in voicing}
            assert all(52 <= pitch <= 72 for pitch in voicing)
            assert sum(abs(a - b) for a, b in zip(voicing, after, strict=True)) <= 16
            intervals = [(v[-1] - c.root) % 12 for c, v in ((chord, voicing), (following, after))]
            moves += 1
            moved = chord.root != following.root and voicing[-1] != after[-1]
            parallel += moved and intervals[0] == intervals[1] and intervals[0] in (0, 7)
    assert parallel <= 0.06 * moves
