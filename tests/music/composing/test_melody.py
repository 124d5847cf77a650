import itertools

import pytest

from harmonia_lab.music.composing import compose
from harmonia_lab.music.composing.ranges import melody_range
from harmonia_lab.protocol.vocabulary import GENRES

SEEDS = range(3)


def tune_of(plan):
    return next(part for part in plan.parts if part.instrument.role == "lead").notes


def in_section(plan, notes, section):
    start = section.bar * plan.beats_per_bar - 0.2
    return [note for note in notes if start <= note.start < start + section.bars * plan.beats_per_bar]


def in_line(plan, line):
    start, end = line.start / plan.seconds_per_beat, line.end / plan.seconds_per_beat
    return [note for note in tune_of(plan) if start - 0.1 <= note.start < end - 0.1]


def chord_at(plan, beat):
    return next(chord for chord in reversed(plan.chords) if chord.start <= beat + 1e-6)


@pytest.mark.parametrize("genre", GENRES)
def test_the_tune_has_chord_tones_on_strong_beats_and_stays_in_the_instruments_range(genre, describe):
    for seed in SEEDS:
        metadata = describe(genre, seed=seed)
        plan = compose(metadata, 40, seed)
        lead = next(part for part in plan.parts if part.instrument.role == "lead")
        low, high = melody_range(lead.instrument.name)
        for note in lead.notes:
            assert low <= note.pitch <= high
            beat = round(note.start)
            on_strong_beat = beat % plan.beats_per_bar == 0 or (plan.beats_per_bar == 4 and beat % 2 == 0)
            if on_strong_beat and abs(note.start - beat) < 0.06:
                assert note.pitch % 12 in chord_at(plan, beat).pitch_classes


def test_the_chorus_returns_as_the_same_hook(describe):
    for genre, seed in zip(("pop", "folk", "jazz", "electronic"), itertools.cycle(SEEDS), strict=False):
        plan = compose(describe(genre, seed=seed), 90, seed)
        lines = [line for line in plan.sung if line.section == "Chorus"]
        count = len({line.text for line in lines})
        assert len(lines) >= 2 * count
        first, *others = [
            [note for line in lines[i : i + count] for note in in_line(plan, line)] for i in range(0, len(lines), count)
        ]
        for other in others:
            assert [(note.pitch, note.lyric) for note in other] == [(note.pitch, note.lyric) for note in first]
            moved = [b.start - a.start for a, b in zip(first, other, strict=True)]
            assert max(moved) - min(moved) < 0.2


def test_the_chorus_lies_higher_than_the_verse(describe):
    for genre, seed in zip(GENRES, itertools.cycle(SEEDS), strict=False):
        plan = compose(describe(genre, seed=seed), 40, seed)
        means = {
            name: [n.pitch for s in plan.sections if s.name == name for n in in_section(plan, tune_of(plan), s)]
            for name in ("verse", "chorus")
        }
        assert sum(means["chorus"]) / len(means["chorus"]) > sum(means["verse"]) / len(means["verse"])


def test_the_tune_mostly_steps_and_turns_back_after_leaps(describe):
    steps = leaps = recovered = total = 0
    for seed, genre in itertools.product(SEEDS, ("pop", "folk", "waltz", "rock", "classical")):
        plan = compose(describe(genre, seed=seed), 60, seed)
        for line in plan.sung:
            first, last = line.start / plan.seconds_per_beat - 0.1, line.end / plan.seconds_per_beat
            notes = [note for note in tune_of(plan) if first <= note.start < last]
            for a, b, c in zip(notes, notes[1:], notes[2:], strict=False):
                move, following = b.pitch - a.pitch, c.pitch - b.pitch
                assert abs(move) <= 12
                total += 1
                steps += abs(move) <= 2
                if abs(move) >= 5:
                    leaps += 1
                    recovered += 0 < -following * move / abs(move) <= 4
    assert steps > 0.6 * total
    assert leaps
    assert recovered > 0.8 * leaps


def test_there_is_a_breath_after_each_line(describe):
    for genre in ("pop", "waltz", "ambient"):
        plan = compose(describe(genre), 60, 1)
        for line, following in itertools.pairwise(plan.sung):
            assert following.start - line.end >= 0.15


def test_seeds_make_different_tunes(describe):
    metadata = describe("pop")
    tunes = {tuple(note.pitch for note in tune_of(compose(metadata, 30, seed))) for seed in range(8)}
    assert len(tunes) >= 7
