"""How much songs of one genre differ, measured in their plans; `python -m tests.music.composing.variety` prints it.

Owns the measures, and the lyrics that they are taken on. Counted for each genre:

progressions, grooves: over 24 seeds of one mood (hopeful) without lyrics; a progression is the chords of the first
chorus, root relative to the tonic and quality, a groove the hits that at least 70 % of the first chorus's bars have.
shared 4-grams: of the leads of four songs with one seed and four stories. A 4-gram is four notes, that is three pairs
of (interval in semitones, ratio of durations, which are rounded to sixteenths). The share is that of the distinct
4-grams of the song that has fewer; the mean over the six pairs of songs.
entries: phrases with words of the same songs that begin before the bar line, on it, and after it.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections import Counter
from fractions import Fraction

from harmonia_lab.music.composing import compose
from harmonia_lab.music.moods import suggest_features
from harmonia_lab.music.seeds import derive_seed, narrative_digest
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.vocabulary import GENRES

CHORUSES = (
    """Hold on to the light
Hold on to the light we know
The river runs wild and the wind is cold
But I will carry you home""",
    """Sweet is the summer, sweet is the rain
Everything leaves us and comes back again
Ring the old bell at the end of the lane
Sweet is the summer, sweet is the rain""",
    """Oh, we were electric
Oh, we were alive
Two hearts on the highway
Doing ninety-five""",
    """Carry him down, carry him down
Past the red river and into the town
Sing for the brother the mountain has drowned
Carry him down, carry him down""",
)
VERSES = (
    """The lighthouse keeper counts the waves tonight
And every boat is calling out to him
He holds a candle up against the dark
He knows the sea will bring his daughter in""",
    """My grandmother planted a pear tree in May
She watered it Sundays and went on her way
The branches grew heavy, the garden grew small
We picked up the windfalls that lay by the wall""",
    """Midnight train is running late
Neon rain across the gate
Nobody looks up anymore
I've got your number in my coat""",
    """The miners came up from the mountain at dawn
With coal in their pockets and songs in their lungs
The foreman had counted and one was gone
The whistle kept blowing till morning had come""",
)
STORIES = tuple(
    f"[Verse 1]\n{verse}\n\n[Chorus]\n{chorus}\n\n[Verse 2]\n{verse}\n\n[Chorus]\n{chorus}\n"
    for verse, chorus in zip(VERSES, CHORUSES, strict=True)
)


def song(genre, seed, *, story=0, lyrics=None, mood="hopeful", **fields):
    """Return the metadata of a song with the lyrics and the digest of a story."""
    digest = narrative_digest(STORIES[story])
    found = suggest_features(genre, [mood], derive_seed(seed, "style", digest))
    values = {"bpm": found.bpm, "key": found.key, "instruments": list(found.instruments), "narrative_digest": digest}
    words = STORIES[story] if lyrics is None else lyrics
    return SongMetadata(title="x", lyrics=words, genre=genre, mood=[mood], **values | fields)


def lead_of(plan):
    return next(part for part in plan.parts if part.instrument.role == "lead")


def section_of(plan, kind):
    return next(section for section in plan.sections if section.name == kind)


def degrees(plan, kind="chorus"):
    """Return the first section's chords as (semitones above the tonic, intervals), whatever the key."""
    section = section_of(plan, kind)
    start, end = (bar * plan.beats_per_bar for bar in (section.bar, section.bar + section.bars))
    return tuple(
        ((chord.root - plan.tonic) % 12, tuple((tone - chord.root) % 12 for tone in chord.pitch_classes))
        for chord in plan.chords
        if start <= chord.start < end
    )


def drum_bar(plan):
    """Return the (key, sixteenth) hits of the first chorus's usual bar; none without a kit."""
    kit = next((part for part in plan.parts if part.instrument.role == "drums"), None)
    section = next((s for s in plan.sections if s.name == "chorus"), None)
    if kit is None or section is None:
        return frozenset()
    beats = plan.beats_per_bar
    hits = Counter(
        (note.pitch, round(note.start * 4) % (4 * beats))
        for note in kit.notes
        if section.bar <= (note.start + 0.1) / beats < section.bar + section.bars
    )
    return frozenset(hit for hit, count in hits.items() if count >= 0.7 * section.bars)


def four_grams(plan):
    notes = [(note.pitch, max(1, round(note.duration * 4))) for note in lead_of(plan).notes]
    steps = [(b - a, Fraction(longer, long)) for (a, long), (b, longer) in itertools.pairwise(notes)]
    return set(zip(steps, steps[1:], steps[2:], strict=False))


def shared(plans):
    """Return the mean share of 4-grams that two of the songs have in common, 0…1."""
    pairs = itertools.combinations([four_grams(plan) for plan in plans], 2)
    return statistics.mean(len(a & b) / min(len(a), len(b)) for a, b in pairs)


def entries(plan):
    """Return for each sung line its first note's distance from the nearest first beat of two bars, in beats, rounded
    to halves: negative before it."""
    found = []
    for line in plan.sung:
        beat = round(2 * line.start / plan.seconds_per_beat) / 2
        found.append((beat + plan.beats_per_bar / 2) % plan.beats_per_bar - plan.beats_per_bar / 2)
    return found


def measure(genre, seed=7, seconds=60.0):
    """Return the genre's (progressions, grooves, shared 4-grams, entries) as the head of this file says."""
    seeds = [compose(song(genre, number, lyrics=""), 30, number) for number in range(24)]
    stories = [compose(song(genre, seed, story=story), seconds, seed) for story in range(len(STORIES))]
    begun = Counter((beat > 0) - (beat < 0) for plan in stories for beat in entries(plan))
    progressions, grooves = {degrees(plan) for plan in seeds}, {drum_bar(plan) for plan in seeds} - {frozenset()}
    return len(progressions), len(grooves), shared(stories), begun


def main() -> None:
    rows = [(genre, *measure(genre)) for genre in GENRES]
    lines = ["genre        progressions grooves shared before on after"]
    for genre, progressions, grooves, share, begun in rows:
        lines.append(f"{genre:12} {progressions:12} {grooves:7} {share:6.1%} {begun[-1]:6} {begun[0]:2} {begun[1]:5}")
    lines.append(f"mean share {statistics.mean(row[3] for row in rows):.1%}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
