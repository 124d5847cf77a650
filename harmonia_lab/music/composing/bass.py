"""The bass: the root at each chord change, the genre's figure between changes, a step into the next chord.

Owns the figures by name (`GenreStyle.bass`).
"""

from __future__ import annotations

from collections.abc import Sequence

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.harmony import scale_over
from harmonia_lab.music.composing.ranges import bass_range, nearest_pitch
from harmonia_lab.music.plan import Chord

__all__ = ["bass_ending", "bass_section"]

BassHit = tuple[float, float, str]
"""Beat in the bar, length in beats, tone: R root, 3 third, 5 fifth, 8 octave, 6 sixth, A approach to the next root."""

_FIGURES: dict[str, tuple[tuple[BassHit, ...], tuple[BassHit, ...]]] = {
    "eighths": (
        ((0, 1.9, "R"), (2, 1.4, "R"), (3.5, 0.45, "A")),
        (*((i * 0.5, 0.42, "R") for i in range(7)), (3.5, 0.45, "A")),
    ),
    "syncopated": (
        ((0, 1.4, "R"), (1.5, 1.4, "R"), (3, 0.9, "5")),
        ((0, 1.3, "R"), (1.5, 0.4, "R"), (2, 0.9, "5"), (3, 0.4, "8"), (3.5, 0.45, "A")),
    ),
    "root fifth": (((0, 1.7, "R"), (2, 1.7, "5")), ((0, 0.9, "R"), (1, 0.9, "R"), (2, 0.9, "5"), (3, 0.9, "A"))),
    "walking": (
        ((0, 1.9, "R"), (2, 0.95, "5"), (3, 0.95, "A")),
        ((0, 0.95, "R"), (1, 0.95, "3"), (2, 0.95, "5"), (3, 0.95, "A")),
    ),
    "boogie": (
        ((0, 0.9, "R"), (1, 0.9, "5"), (2, 0.9, "6"), (3, 0.9, "5")),
        ((0, 0.45, "R"), (0.5, 0.4, "R"), (1, 0.45, "3"), (1.5, 0.4, "5"), (2, 0.45, "6"), (2.5, 0.4, "5"),
         (3, 0.45, "3"), (3.5, 0.4, "A")),
    ),
    "offbeat": (
        ((0.5, 0.45, "R"), (1.5, 0.45, "R"), (2.5, 0.45, "R"), (3.5, 0.45, "5")),
        ((0.5, 0.45, "R"), (1.5, 0.45, "R"), (1.75, 0.2, "8"), (2.5, 0.45, "R"), (3.5, 0.3, "8"), (3.75, 0.2, "A")),
    ),
    "long": (((0, 3.9, "R"),), ((0, 1.95, "R"), (2, 1.95, "5"))),
    "half notes": (((0, 1.9, "R"), (2, 1.9, "5")), ((0, 1.9, "R"), (2, 0.95, "3"), (3, 0.95, "A"))),
    "bossa": (((0, 1.9, "R"), (2, 1.9, "5")), ((0, 1.4, "R"), (1.5, 0.45, "5"), (2, 1.4, "5"), (3.5, 0.45, "A"))),
    "reggae": (
        ((0, 0.9, "R"), (1, 0.9, "3"), (2, 1.4, "5")),
        ((0, 0.6, "R"), (0.75, 0.6, "R"), (1.5, 0.45, "3"), (2, 0.9, "5"), (3, 0.45, "R"), (3.5, 0.4, "A")),
    ),
    "pulse": (
        ((0, 1.9, "R"), (2, 1.9, "R")),
        ((0, 0.95, "R"), (1, 0.95, "R"), (2, 0.95, "R"), (3, 0.95, "A")),
    ),
    "tresillo": (
        ((0, 1.4, "R"), (1.5, 1.4, "R"), (3, 0.9, "5")),
        ((0, 1.4, "R"), (1.5, 1.4, "5"), (3, 0.45, "8"), (3.5, 0.45, "A")),
    ),
    "octaves": (
        ((0, 0.9, "R"), (1.5, 0.4, "8"), (2, 0.9, "R"), (3.5, 0.4, "8")),
        (*((i * 0.5, 0.42, "8" if i % 2 else "R") for i in range(7)), (3.5, 0.42, "A")),
    ),
    "two feel": (((0, 1.9, "R"), (2, 1.9, "5")), ((0, 1.4, "R"), (1.5, 0.4, "R"), (2, 0.95, "5"), (3, 0.95, "A"))),
    "gallop": (
        ((0, 1.9, "R"), (2, 0.9, "R"), (3, 0.9, "A")),
        tuple((beat + at, length, "R") for beat in range(4) for at, length in ((0, 0.45), (0.5, 0.22), (0.75, 0.22))),
    ),
    "roots": (
        ((0, 0.9, "R"), (1.5, 0.4, "5"), (2, 1.4, "8")),
        ((0, 0.6, "R"), (1, 0.4, "R"), (1.5, 0.4, "5"), (2.5, 0.45, "8"), (3, 0.45, "5"), (3.5, 0.45, "A")),
    ),
    "downbeat": (((0, 2.8, "R"),), ((0, 1.9, "R"), (2, 0.9, "A"))),
    "waltz walk": (((0, 1.9, "R"), (2, 0.9, "5")), ((0, 0.95, "R"), (1, 0.95, "3"), (2, 0.95, "A"))),
}  # fmt: skip
"""Name → (light, full)."""


def bass_section(context: SongContext, section: Section, player: Player, level: int) -> list[ScoreNote]:
    """Return the bass notes of one section; in light later verses every second bar is full.

    A second bass doubles the roots an octave higher, in long notes.
    """
    start, end = context.span(section)
    long = "downbeat" if context.beats_per_bar == 3 else "long"
    light, full = _FIGURES[long if player.role_index else context.feel.bass]
    returning = section.kind == "verse" and section.occurrence > 0
    low, high = (pitch + 12 * min(player.role_index, 1) for pitch in bass_range(player.instrument.name))
    hits = [
        (bar + beat, length, tone)
        for number, bar in enumerate(range(round(start), round(end), context.beats_per_bar))
        for beat, length, tone in (full if level == 2 or (returning and number % 2) else light)
        if bar + beat < end - 1e-6
    ]
    shortening = context.cues.articulation if context.cues.articulation < 0.8 else 1.0
    notes: list[ScoreNote] = []
    root = low + (context.chord_at(start).root - low) % 12
    chord: Chord | None = None
    for at, length, written_tone in _with_changes(hits, context, start, end):
        now, tone = context.chord_at(at), written_tone
        if now is not chord:
            chord, root, tone = now, _near(now.root, root, low, high), "R"
        pitch = _approach(context, now, root, at, (low, high)) if tone == "A" else _tone(now, tone, root, high)
        accent = 4.0 if tone == "R" and at % 1 == 0 else -4.0 if tone == "A" else 0.0
        notes.append(ScoreNote(at, min(length * shortening, now.end - at, end - at), pitch, accent))
    return notes


def _with_changes(hits: Sequence[BassHit], context: SongContext, start: float, end: float) -> list[BassHit]:
    """Add a root at each chord change that no hit follows within half a beat."""
    changes = [chord.start for chord in context.chords_between(start, end)]
    missing = [change for change in changes if not any(0 <= at - change <= 0.5 for at, _, _ in hits)]
    return sorted([*hits, *((at, 0.9, "R") for at in missing)])


def _near(root: int, last: int, low: int, high: int) -> int:
    """Return the pitch of the root, in range, that is nearest to the last one."""
    return nearest_pitch(range(low + (root - low) % 12, high + 1, 12), last)


def _tone(chord: Chord, tone: str, root: int, high: int) -> int:
    third, fifth = ((chord.pitch_classes[i] - chord.root) % 12 for i in (1, 2))
    pitch = root + {"R": 0, "3": third, "5": fifth, "6": 9 if third == 4 else 7, "8": 12}[tone]
    return pitch - 12 if pitch > high else pitch  # in range, which is wider than an octave


def _approach(context: SongContext, chord: Chord, root: int, at: float, span: tuple[int, int]) -> int:
    """Return the scale step next to the coming root, on the side of the present one; if the chord stays, its fifth."""
    coming = context.next_chord(at)
    if coming.root == chord.root or coming.start - at > 1.0:
        return _tone(chord, "5", root, span[1])
    target = _near(coming.root, root, *span)
    scale = scale_over(chord, context.key)
    side = -1 if root < target or target + 2 > span[1] else 1
    pitch = next((p for p in (target + side, target + 2 * side) if p % 12 in scale), target + side)
    return pitch if pitch >= span[0] else target + 2


def bass_ending(context: SongContext, player: Player) -> list[ScoreNote]:
    """Return the lowest tonic in range, held."""
    low, _ = bass_range(player.instrument.name)
    return [ScoreNote(context.final, context.final_hold, low + (context.key.tonic - low) % 12, 4.0)]
