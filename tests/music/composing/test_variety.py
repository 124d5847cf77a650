"""Songs of one genre differ by seed and story; a song that is edited stays the song that it was."""

import itertools
import random
import statistics
from collections import Counter

import pytest

from benchmarks.songs.plans import different_grooves
from harmonia_lab.music.composing import compose
from harmonia_lab.music.composing.feel import choose_feel
from harmonia_lab.music.composing.form import choose_shape, lay_out
from harmonia_lab.music.composing.grooves import GROOVES
from harmonia_lab.music.composing.harmony import Key, harmonise
from harmonia_lab.music.composing.ranges import PITCH_RANGES
from harmonia_lab.music.genres import GENRE_STYLES
from harmonia_lab.music.progressions import PROGRESSIONS
from harmonia_lab.music.seeds import narrative_digest
from harmonia_lab.protocol.models import Instrument
from harmonia_lab.protocol.vocabulary import GENRES
from tests.music.composing.variety import STORIES, degrees, drum_bar, entries, four_grams, lead_of, shared, song

UNDRUMMED = ("ambient", "classical")


@pytest.mark.parametrize("genre", GENRES)
def test_24_seeds_of_one_mood_have_six_progressions_and_three_grooves(genre):
    style = GENRE_STYLES[genre]
    form = lay_out((), style.beats_per_bar * 0.5, 30.0)
    final = float(form.final_bar * style.beats_per_bar)
    chorus = next(section for section in form.sections if section.kind == "chorus")
    start, end = chorus.bar * style.beats_per_bar, (chorus.bar + chorus.bars) * style.beats_per_bar
    for minor in (False, True):
        found = set()
        for seed in range(24):
            chords = harmonise(form, style, Key(0, minor), final=final, beats=60.0, rng=random.Random(seed))
            found.add(tuple(chord.symbol for chord in chords if start <= chord.start < end))
        assert len(found) >= 6
    grooves = {id(choose_feel(style, seed).groove) for seed in range(24)}
    assert len(grooves) >= (1 if genre in UNDRUMMED else 3)


def test_every_genre_has_six_progressions_of_each_mode_and_grooves_that_differ():
    assert set(PROGRESSIONS) == set(GENRES)
    for genre, style in GENRE_STYLES.items():
        assert min(len(set(style.progressions.major)), len(set(style.progressions.minor))) >= 6
        assert len({str(GROOVES[name].full) for name in style.grooves}) == len(style.grooves)
        assert genre in UNDRUMMED or len(style.grooves) >= 3
        # Grooves of these three are told apart by toms, cymbals and shakers.
        if genre not in (*UNDRUMMED, "bossa nova", "waltz", "cinematic"):
            assert different_grooves(_hits(GROOVES[name].full) for name in style.grooves) >= 3, genre
        for name in style.grooves:
            for pattern in (GROOVES[name].light, GROOVES[name].full):
                assert all(len(marks) % (4 * style.beats_per_bar) == 0 for marks in pattern.values()), name


def _hits(pattern):
    """Return the hits by which listeners tell grooves apart, as `benchmarks.songs.plans.groove` reads them."""
    drums = ("kick", "stick", "snare", "clap")
    return [f"{d} {i}" for d in drums for i, mark in enumerate(pattern.get(d, "")) if mark in "Xxo"]


@pytest.mark.parametrize("genre", ["pop", "blues", "ambient"])
def test_leads_of_two_stories_with_one_seed_share_few_figures(genre):
    assert shared([compose(song(genre, 7, story=story), 60, 7) for story in range(len(STORIES))]) <= 0.08


@pytest.mark.parametrize("genre", ["metal", "jazz"])
def test_another_story_with_the_same_seed_and_lyrics_is_another_song(genre):
    plans = [
        compose(song(genre, 7, narrative_digest=narrative_digest(text)), 40, 7)
        for text in ("A fox and a crow.", "夜の森で", "ليلة طويلة", "One more story", "And another")
    ]
    assert len({degrees(plan) for plan in plans}) >= 3
    assert len({drum_bar(plan) for plan in plans}) >= 2
    assert all(four_grams(a) != four_grams(b) for a, b in itertools.combinations(plans, 2))


def test_metadata_without_a_digest_is_composed_from_the_seed_alone():
    bare = song("pop", 1, narrative_digest=None)
    assert compose(bare, 30, 1) == compose(bare, 30, 1) != compose(song("pop", 1), 30, 1)


def feel_of(plan):
    """Return what an edit should leave alone: chords as degrees, drum bar, lead, form (another tempo has other numbers
    of bars, which intro and outro take up), and who plays."""
    sections = [section.name for section in plan.sections if section.name not in ("intro", "outro")]
    chords = [degrees(plan, kind) for kind in ("verse", "chorus")]
    return chords, drum_bar(plan), lead_of(plan).name, sections, [part.name for part in plan.parts]


def contours(plan):
    """Return each sung line's intervals, by its text."""
    found = {}
    for line in plan.sung:
        first, last = (seconds / plan.seconds_per_beat for seconds in (line.start, line.end))
        pitches = [note.pitch for note in lead_of(plan).notes if first - 0.1 <= note.start < last - 0.1]
        found.setdefault(line.text, [b - a for a, b in itertools.pairwise(pitches)])
    return found


@pytest.mark.parametrize(("genre", "seed"), [("pop", 1), ("electronic", 4), ("waltz", 5)])
def test_editing_a_word_leaves_the_plan_and_the_other_lines_as_they_were(genre, seed):
    metadata = song(genre, seed, bpm=110)
    plan = compose(metadata, 60, seed)
    edited = compose(metadata.model_copy(update={"lyrics": STORIES[0].replace("candle", "lantern up")}), 60, seed)
    assert feel_of(edited) == feel_of(plan)
    before, after = contours(plan), contours(edited)
    kept = before.keys() & after.keys()
    assert len(kept) >= len(before) - 2
    assert {text: after[text] for text in kept} == {text: before[text] for text in kept}
    assert edited.chords == plan.chords


@pytest.mark.parametrize(("genre", "seed"), [("pop", 1), ("electronic", 4), ("waltz", 5)])
def test_editing_tempo_or_key_leaves_the_plan_as_it_was(genre, seed):
    mode = "minor" if seed % 2 else "major"
    metadata = song(genre, seed, bpm=110, key=f"D {mode}")
    plan = compose(metadata, 60, seed)
    moved = compose(metadata.model_copy(update={"key": f"F {mode}"}), 60, seed)
    assert feel_of(moved) == feel_of(plan)
    before, after = contours(plan), contours(moved)
    assert before.keys() == after.keys()
    # An instrument's range ends somewhere: over all genres 97 % of the lines keep each interval.
    assert sum(before[text] == after[text] for text in before) >= 0.6 * len(before)
    faster = compose(metadata.model_copy(update={"bpm": 112}), 60, seed)
    assert feel_of(faster) == feel_of(plan)


def test_lines_begin_before_on_and_after_the_first_beat():
    plans = [compose(song(genre, 7, story=story % 4), 60, 7) for story, genre in enumerate(GENRES)]
    begun = Counter((beat > 0) - (beat < 0) for plan in plans for beat in entries(plan))
    total = sum(begun.values())
    assert begun[-1] >= 0.2 * total
    assert begun[1] >= 0.1 * total
    assert begun[0] >= 0.25 * total


def section_notes(plan, part, section):
    start = section.bar * plan.beats_per_bar - 0.2
    return [note for note in part.notes if start <= note.start < start + section.bars * plan.beats_per_bar]


@pytest.mark.parametrize("genre", ["pop", "reggae", "electronic"])
def test_a_verse_and_a_chorus_that_return_are_played_differently(genre):
    plan = compose(song(genre, 5, story=1), 90, 5)
    for kind in ("verse", "chorus"):
        first, second = [section for section in plan.sections if section.name == kind][:2]
        changed = 0
        for part in plan.parts:
            if part.instrument.role != "lead":
                patterns = [
                    {(note.pitch % 12, round(4 * note.start) - 4 * s.bar * plan.beats_per_bar) for note in notes}
                    for s, notes in ((s, section_notes(plan, part, s)) for s in (first, second))
                ]
                changed += patterns[0] != patterns[1]
        assert changed >= 2


def seed_where(style, wanted):
    """Return the first seed whose feel the function accepts."""
    return next(seed for seed in range(200) if wanted(choose_feel(style, seed)))


def test_the_last_chorus_doubles_its_hook():
    band = [Instrument(name=n, role=r) for n, r in (("flute", "lead"), ("piano", "chords"), ("strings", "pad"))]
    for voice, intervals in (("octave", {0}), ("harmony", {3, 4, 5, 8, 9, 0})):
        seed = seed_where(GENRE_STYLES["pop"], lambda feel, voice=voice: feel.last_chorus == voice)
        plan = compose(song("pop", seed, instruments=band, narrative_digest=None), 60, seed)
        last = [section for section in plan.sections if section.name == "chorus"][-1]
        tune = section_notes(plan, plan.parts[0], last)
        strings = section_notes(plan, plan.parts[2], last)
        doubled = sum(
            any(abs(n.start - note.start) < 0.15 and (note.pitch - n.pitch) % 12 in intervals for n in strings)
            for note in tune
        )
        assert doubled >= 0.9 * len(tune)


def test_every_instrument_stays_in_its_range_with_counter_lines_and_doubled_hooks_too():
    for number, genre in enumerate(GENRES):
        plan = compose(song(genre, number, story=number % 4), 45, number)
        for part in plan.parts:
            if part.instrument.role != "drums":
                low, high = PITCH_RANGES[part.instrument.name]
                assert all(low <= note.pitch <= high for note in part.notes), (genre, part.name)


def test_the_band_stops_before_the_last_chorus_and_the_tune_goes_on():
    style = GENRE_STYLES["pop"]
    seed = seed_where(style, lambda feel: feel.pause == "stop")
    plan = compose(song("pop", seed, bpm=110, narrative_digest=None), 60, seed)
    last = [section for section in plan.sections if section.name == "chorus"][-1]
    start = last.bar * plan.beats_per_bar
    for part in plan.parts:
        if part.instrument.role in ("chords", "bass", "pad"):
            assert not [note for note in part.notes if start - 3.4 < note.start < start - 0.2]
            assert all(n.start + n.duration < start - 3 for n in part.notes if start - 8 < n.start < start - 3.4)


def test_a_breakdown_leaves_drums_and_bass_out_of_the_last_choruss_first_line():
    seed = seed_where(GENRE_STYLES["house"], lambda feel: feel.pause == "breakdown")
    plan = compose(song("house", seed, narrative_digest=None), 60, seed)
    last = [section for section in plan.sections if section.name == "chorus"][-1]
    start = last.bar * plan.beats_per_bar
    for part in plan.parts:
        if part.instrument.role in ("drums", "bass"):
            assert not [note for note in part.notes if start - 0.1 < note.start < start + plan.beats_per_bar - 0.2]


def test_songs_end_in_three_ways():
    style, held = GENRE_STYLES["pop"], {}
    for ending in ("hold", "stop", "tag"):
        seed = seed_where(style, lambda feel, ending=ending: feel.ending == ending)
        plan = compose(song("pop", seed, bpm=110, narrative_digest=None), 60, seed)
        last = plan.chords[-1]
        chords = next(part for part in plan.parts if part.instrument.role == "chords")
        ended = max(note.start + note.duration for note in chords.notes if note.start > last.start - 0.2)
        held[ending] = (last.start + last.duration - ended) * plan.seconds_per_beat
        outro = plan.sections[-1]
        sung = [note.velocity for note in section_notes(plan, lead_of(plan), outro) if note.start < last.start - 0.2]
        if ending == "tag":
            quarter = max(1, len(sung) // 4)
            assert statistics.mean(sung[:quarter]) > statistics.mean(sung[-quarter:]) + 6
    assert held["stop"] > 1.0  # seconds of silence
    assert held["hold"] == pytest.approx(held["tag"], abs=0.1)
    assert held["hold"] < 0.5
    endings = {genre: {choose_feel(GENRE_STYLES[genre], seed).ending for seed in range(24)} for genre in GENRES}
    assert all(len(found) >= 2 for found in endings.values())
    assert sum(len(found) == 3 for found in endings.values()) >= 10


@pytest.mark.parametrize("bar_seconds", [1.0, 1.6, 2.2, 3.4])
def test_a_song_of_more_than_64_seconds_has_a_bridge_before_its_last_chorus(bar_seconds):
    for seconds, seed in itertools.product((65, 72, 80, 100, 120), range(4)):
        kinds = [section.kind for section in lay_out((), bar_seconds, seconds, choose_shape(seed)).sections]
        assert "chorus" in kinds[kinds.index("bridge") :]


def test_lyrics_without_a_bridge_get_a_played_one_where_no_line_is_lost_to_it():
    for seconds in (60, 90):
        plan = compose(song("pop", 3, bpm=110), seconds, 3)
        bridges = [section for section in plan.sections if section.name == "bridge"]
        assert bool(bridges) == (seconds > 64)
        assert all(section.lyric_section is None for section in bridges)
        if seconds > 64:
            assert len({line.text for line in plan.sung}) == len(set(STORIES[0].split("\n")) - {""}) - 3
