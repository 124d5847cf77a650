"""A plan's lyrics as the texts of MIDI lyric events, whose concatenation reads as the lyrics do.

Owns spaces, ends of lines and syllables, after the recommended practice RP-017, "SMF Lyric Meta Event Definition" (MMA
and AMEI, 1997): an event for each syllable; a space ends a word, after its punctuation; a hyphen only where the word is
written with one; carriage return, alone in its event, ends a line, and line feed a section; an empty event goes on with
the syllable before. Its other letters than ASCII are ours, in UTF-8 (`midi.CHARSET`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harmonia_lab.languages.word_parts import divide
from harmonia_lab.music.plan import Note, Plan, SungLine

__all__ = ["LyricEvent", "lyric_events"]

_RESERVED = str.maketrans(dict.fromkeys("\\[]{}\r\n", ""))
"""Characters that the practice keeps for control codes."""

_EARLY_S = 0.5
"""A line may begin that much before its written time, as it is played."""


class LyricEvent(NamedTuple):
    """beat: when, in quarter notes. text: what is to be written."""

    beat: float
    text: str


class _PlacedWord(NamedTuple):
    """A word under its notes. text: as in the lyrics, with what stands before and after it. line: index of its line."""

    notes: Sequence[Note]
    before: str
    text: str
    after: str
    line: int | None


def lyric_events(plan: Plan, notes: Sequence[Note]) -> list[LyricEvent]:
    """Return the events of one part, by time; none for a part without lyrics. notes: by start."""
    if not (sung := list(_words(notes))):
        return []
    words = _with_text(plan, sung)
    events: list[LyricEvent] = []
    for word, following in zip(words, [*words[1:], None], strict=True):
        parts = list(divide(word.text, len(word.notes)))
        parts[max(at for at, part in enumerate(parts) if part)] += word.after  # an empty event doesn't end the word
        parts[0] = word.before + parts[0]
        events += [LyricEvent(n.start, part.translate(_RESERVED)) for n, part in zip(word.notes, parts, strict=True)]
        if following is None or following.line != word.line:
            end = word.notes[-1].start + word.notes[-1].duration
            end = end if following is None else min(end, following.notes[0].start)
            events.append(LyricEvent(end, "\r"))
            if following is None or _section(plan, following.line) != _section(plan, word.line):
                events.append(LyricEvent(end, "\n"))
    return events


def _words(notes: Sequence[Note]) -> Iterator[list[Note]]:
    """Yield the notes of each word: "-" goes on with the word before."""
    word: list[Note] = []
    for note in notes:
        if note.lyric and note.lyric != "-" and word:
            yield word
            word = []
        if note.lyric:
            word.append(note)
    if word:
        yield word


def _with_text(plan: Plan, words: list[list[Note]]) -> list[_PlacedWord]:
    """Find each word in its sung line, and with it the spaces and signs around it.

    A word that isn't found, such as one that was cut at the start, is written with a space.
    """
    places = _places(plan, [(word[0].lyric, word[0].start * plan.seconds_per_beat) for word in words])
    found = []
    for word, place, following in zip(words, places, [*places[1:], None], strict=True):
        if place is None:
            found.append(_PlacedWord(word, "", word[0].lyric.strip("-") or "~", " ", None))
            continue
        line, start, end = place
        text = plan.sung[line].text
        same_line = following is not None and following[0] == line
        gap = text[end : following[1]] if following is not None and same_line else text[end:]
        after, space, _ = gap.partition(" ")
        if not same_line:
            after, space = gap.strip(), " "
        found.append(_PlacedWord(word, _before(text, start, places, line), text[start:end], after + space, line))
    return found


def _before(text: str, start: int, places: Sequence[tuple[int, int, int] | None], line: int) -> str:
    """Return what stands between the last space and the word, or since the start of the line: ¿, “ or a figure."""
    earlier = max((place[2] for place in places if place and place[0] == line and place[2] <= start), default=0)
    gap = text[earlier:start]
    return gap.lstrip() if not earlier else gap.partition(" ")[2].lstrip()


def _places(plan: Plan, words: Sequence[tuple[str, float]]) -> list[tuple[int, int, int] | None]:
    """Return for each word (lyric, second) its line's index, and its start and end in the line's text."""
    places: list[tuple[int, int, int] | None] = []
    line, at = 0, 0
    for lyric, second in words:
        place = None
        for candidate in range(line, len(plan.sung)):
            if candidate > line and not _begun(plan.sung[candidate], second):
                break
            start = plan.sung[candidate].text.find(lyric, at if candidate == line else 0)
            if start >= 0:
                place = (candidate, start, start + len(lyric))
                line, at = candidate, start + len(lyric)
                break
        places.append(place)
    return places


def _begun(line: SungLine, second: float) -> bool:
    return line.start <= second + _EARLY_S


def _section(plan: Plan, line: int | None) -> str | None:
    return None if line is None else plan.sung[line].section
