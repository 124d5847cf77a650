"""What a narrative wishes for: `read` finds words of music and decides which of them are wishes and which are story.

Owns that decision (not the words: `words.py` and `figures.py`, nor what follows from a wish: `following.py`). Rules
without a model, pure functions.

A text is read by sentences, and a sentence by segments (between commas, colons, brackets, slashes). A segment is a wish
if nothing but words of music stand in it ("slow", "no drums", "in D minor"), or as far as they go if it asks for
something ("make it …") or names what is asked for ("a slow waltz with cello | about …"). A sentence that tells what
somebody did or said is story, whatever music it names.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harmonia_lab.metadata_engines.wishes.audience import child_words
from harmonia_lab.metadata_engines.wishes.figures import Candidate, figures
from harmonia_lab.metadata_engines.wishes.sentences import (
    BOUNDARY,
    DETERMINERS,
    ERRANDS,
    NEGATORS,
    NOT_PAST,
    ONLY,
    OWNERS,
    PAST,
    PLEASE,
    REQUEST,
    SEGMENT,
    SENTENCE,
    SOMEBODY,
    SPEECH,
    TOPIC,
    TOPIC_WORDS,
    UNNEGATED,
    WORD,
)
from harmonia_lab.metadata_engines.wishes.words import (
    FILLERS,
    FOREIGN_GLUE,
    GLUE,
    HEADS,
    LULLABY,
    PHRASES,
    SLOW_SONGS,
    Meaning,
)

__all__ = ["Found", "Reading", "read"]


class Found(NamedTuple):
    """A wish as it was read. value: as in `tests/metadata_engines/wishes/README.md`."""

    field: str
    value: str
    text: str


@dataclass(frozen=True)
class Reading:
    """found: in the text's order, each once. story: the narrative without the wishes; empty if it is nothing else."""

    found: tuple[Found, ...]
    story: str


WORDY = ("genre", "instruments", "mood", "tempo")
"""Fields of which one everyday word by itself, in a story, is no wish."""


@dataclass
class _Word:
    """A word of a segment. kind: T a term, H a head, F a filler, G glue, O another word."""

    start: int
    end: int
    text: str
    kind: str = "O"
    candidates: list[Candidate] = field(default_factory=list)


@dataclass
class _Segment:
    """words from `start` to `end`. run: how many of its words, from its first, are words of music. asks: it begins as
    a request."""

    start: int
    end: int
    words: list[_Word]
    asks: bool = False
    run: int = 0

    @property
    def whole(self) -> bool:
        return self.run == len(self.words)

    @property
    def candidates(self) -> list[Candidate]:
        return _unique(term for word in self.words[: self.run] for term in word.candidates)


def _unique(candidates: Iterator[Candidate]) -> list[Candidate]:
    return list(dict.fromkeys(candidates))


def _phrase_index() -> dict[str, list[tuple[tuple[str, ...], Meaning]]]:
    index: dict[str, list[tuple[tuple[str, ...], Meaning]]] = {}
    for phrase, meaning in PHRASES.items():
        words = tuple(match[0] for match in WORD.finditer(phrase.replace("-", " ")))
        index.setdefault(words[0], []).append((words, meaning))
    for entries in index.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return index


_INDEX = _phrase_index()


def _candidates(text: str, words: Sequence[_Word]) -> list[Candidate]:
    """Return the candidates of a text, longest first where they overlap."""
    found = list(figures(text))
    for i, word in enumerate(words):
        for phrase, meaning in _INDEX.get(word.text, ()):
            there = words[i : i + len(phrase)]
            if tuple(w.text for w in there) == phrase and not any(
                text[a.end : b.start].strip(" -’'\t") for a, b in itertools.pairwise(there)
            ):
                found.append(Candidate(word.start, there[-1].end, *meaning))
                break
    found.sort(key=lambda term: (-(term.end - term.start), term.plain))
    chosen: list[Candidate] = []
    for term in found:
        if not any(term.start < other.end and other.start < term.end for other in chosen):
            chosen.append(term)
    return sorted(chosen)


def _words(text: str) -> list[_Word]:
    return [_Word(*match.span(), match[0].lower().replace("’", "'")) for match in WORD.finditer(text)]


def _between(words: Sequence[_Word], start: int, end: int) -> list[_Word]:
    """Return the words that begin in text[start:end]."""
    first, last = (bisect.bisect_left(words, at, key=lambda word: word.start) for at in (start, end))
    return list(words[first:last])


def _classify(text: str) -> list[_Word]:
    """Return the words of the text with their kinds and candidates."""
    words = _words(text)
    for term in _candidates(text, words):
        for word in _between(words, term.start, term.end) if term.field else ():
            word.kind = "T"
            word.candidates.append(term)
    foreign = sum(w.text in FOREIGN_GLUE and w.text not in GLUE for w in words) > len(words) * 0.15
    glue = GLUE | FOREIGN_GLUE if foreign else GLUE
    for word in words:
        if word.kind != "T":
            number = word.text.isdigit() and len(word.text) <= 2
            joins = word.text in glue or not word.text[0].isalnum()
            described = word.text in FILLERS or number
            word.kind = "H" if word.text in HEADS else "F" if described else "G" if joins else "O"
    for before, word, after in zip(words, words[1:], [*words[2:], _Word(0, 0, "")], strict=False):
        things = [term for term in word.candidates if term.plain and term.field == "genre"]
        if things and before.text in DETERMINERS and after.kind in "GO":  # "the house", "her soul"
            word.kind, word.candidates = "O", []
    return words


def _spans(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of text[start:end] between the matches."""
    at = start
    for match in pattern.finditer(text, start, end):
        yield at, match.start()
        at = match.end()
    yield at, end


def _segments(text: str, words: Sequence[_Word], start: int, end: int) -> list[_Segment]:
    found = []
    for a, b in _spans(SEGMENT, text, start, end):
        inside = _between(words, a, b)
        if inside:
            found.append(_Segment(a, b, inside))
    for segment in found:
        match = REQUEST.match(text, segment.words[0].start, segment.end)
        segment.asks = bool(match)
        begin = match.end() if match else segment.start
        segment.run = next(
            (
                i
                for i, word in enumerate(segment.words)
                if word.start >= begin and (word.kind == "O" or _is_topic(segment.words, i))
            ),
            len(segment.words),
        )
    return found


def _is_topic(words: Sequence[_Word], at: int) -> bool:
    """Return whether a topic begins here: "about a sailor", not "about 90 bpm" or "about a minute"."""
    following = words[at + 1].candidates if at + 1 < len(words) else []
    return words[at].text in TOPIC and not any(term.field in ("length", "tempo") for term in following)


def _tells(segment: _Segment) -> bool:
    """Return whether a segment tells what somebody did, as far as one sees from its verbs."""
    others = [word.text for word in segment.words[segment.run :] if word.kind == "O"]
    if segment.words[0].text in SOMEBODY and others:
        return True
    return any(w in PAST or (w.endswith("ed") and len(w) > 4 and w not in NOT_PAST) for w in others)


def _is_head(segment: _Segment) -> bool:
    """Return whether the run names what is asked for, and what follows it is a topic or a purpose."""
    run, rest = segment.words[: segment.run], segment.words[segment.run :]
    if not rest or not segment.candidates:
        return False
    topic = _is_topic(segment.words, segment.run)
    last = next((word.text for word in reversed(run) if word.text not in DETERMINERS), "")
    asked = any(word.kind == "H" for word in run)
    named = asked or len(segment.candidates) > 2 or any(t.noun and not t.plain for t in segment.candidates)
    if topic:
        return named or any(term.noun for term in segment.candidates)
    return named and (last in BOUNDARY or (last == "of" and asked))


def _accept(text: str, start: int, end: int, segments: Sequence[_Segment]) -> list[tuple[_Segment, list[Candidate]]]:
    """Return the segments of one sentence that are wishes, with their candidates."""
    heads = [segment for segment in segments if _is_head(segment)]
    # What somebody says in the song's topic is no speech about the song.
    before = heads[0].words[heads[0].run].start if heads else end
    speech = bool(SPEECH.search(text, start, before))
    polite = bool(PLEASE.search(text, start, end)) and not speech
    tags = [segment for segment in segments if segment.whole and segment.candidates]
    tagged = _unique(term for tag in tags for term in tag.candidates)
    sure = len(tagged) > 2 or (len(tagged) > 1 and any(not term.plain for term in tagged))
    later = any(_tells(segment) for segment in segments)
    accepted: list[tuple[_Segment, list[Candidate]]] = []
    asked = told = False
    for segment in segments:
        candidates = segment.candidates
        asks, head = (segment.asks or polite) and not speech, segment in heads and not speech and not told
        if (asks and candidates and not _is_errand(segment)) or head:
            accepted.append((segment, candidates))
        elif segment.whole and candidates:
            if asked or not (speech or told or (later and not sure and not accepted)):
                accepted.append((segment, candidates))
        elif not (speech or told or _tells(segment)) and (candidates := _dense(segment, bool(accepted))):
            accepted.append((segment, candidates))
        segment.asks = segment.asks or polite
        asked = asked or head or (segment.asks and not speech)
        told = told or (_tells(segment) and not asked)
    return accepted if _beside_figures(accepted) else []


def _is_errand(segment: _Segment) -> bool:
    """Return whether a segment asks for something else with everyday words: "put the drums into the shed"."""
    errand = segment.words[0].text in ERRANDS and not segment.whole and not _is_head(segment)
    return errand and all(candidate.plain for candidate in segment.candidates)


def _beside_figures(accepted: Sequence[tuple[_Segment, list[Candidate]]]) -> bool:
    """Return whether there are other wishes than bare figures, which by themselves may count anything."""
    return any(not (term.plain and term.value.endswith("bpm")) for _, candidates in accepted for term in candidates)


def _dense(segment: _Segment, among_wishes: bool) -> list[Candidate]:
    """Return the candidates of a segment in which a word or two are not of music; none if they are too many."""
    candidates = _unique(term for word in segment.words for term in word.candidates)
    others = [word for word in segment.words if word.kind == "O"]
    sure = any(not term.plain for term in candidates)
    last = segment.words[-1].candidates
    named = bool(last) and last[0].noun and not last[0].plain and not any(w.text in OWNERS for w in others)
    dense = len(candidates) > max(1, len(others)) and len(others) <= 2 and (sure or among_wishes)
    named = named or (bool(candidates) and segment.words[-1].kind == "H" and len(others) == 1)
    return candidates if dense or (named and len(others) <= 2) else []


def _is_lone(segment: _Segment) -> bool:
    """Return whether a segment has one everyday word of music, and nothing that asks for it."""
    asked = segment.asks or any(word.kind == "H" for word in segment.words)
    return segment.whole and not asked and all(term.plain for term in segment.candidates)


def read(text: str) -> Reading:
    """Return the wishes of a narrative, and the story without them."""
    words = _classify(text)
    found: list[Found] = []
    parts: list[str] = []
    single = False
    spans = list(_spans(SENTENCE, text, 0, len(text)))
    for (start, end), (following, _) in zip(spans, [*spans[1:], (len(text), 0)], strict=True):
        segments = _segments(text, words, start, end)
        accepted = _accept(text, start, end, segments)
        for segment, candidates in accepted:
            found += _understood(text, segment, candidates)
            single = single or _is_lone(segment)
        kept = _kept(text, segments, [segment for segment, _ in accepted])
        lead = " " if parts and parts[-1] and not parts[-1][-1].isspace() else ""
        parts.append(text[start:following] if not accepted else lead + kept + text[end:following] if kept else "")
    child = child_words(text, wished=bool(found))
    found += [Found("audience", "child", child)] if child else []
    if any(f.field == "genre" and f.value != LULLABY for f in found):
        found = [f for f in found if f.value != LULLABY]
    story = "".join(parts).strip()
    left = any(map(str.isalnum, story))
    if len(found) == 1 and single and left and found[0].field in WORDY and not found[0].value.startswith("no "):
        return Reading((), text)
    return Reading(tuple(dict.fromkeys(found)), story if left else "")


def _kept(text: str, segments: Sequence[_Segment], wishes: Sequence[_Segment]) -> str:
    """Return what a sentence with wishes tells beside them, with a capital letter; may be empty."""
    kept: list[tuple[int, int]] = []
    for segment in segments:
        rest = segment.words[segment.run :]
        if segment in wishes:
            tells = bool(rest) and (_is_head(segment) or not segment.asks or len(rest) > 4)
            dense = bool(rest) and not _is_head(segment) and not segment.asks
            if tells and not dense:
                begin = segment.run
                while begin and segment.words[begin - 1].text in DETERMINERS:
                    begin -= 1
                kept.append((segment.words[begin].start, segment.end))
        elif not segment.whole or any(word.candidates for word in segment.words):
            kept.append((segment.start, segment.end))
    pieces: list[str] = []
    for start, end in kept:
        joined = bool(pieces) and kept[len(pieces) - 1][1] + 1 == start
        pieces.append((text[kept[len(pieces) - 1][1]] if joined else ", " if pieces else "") + text[start:end])
    joined_text = "".join(pieces)
    topic = TOPIC_WORDS.match(joined_text)
    story = " ".join(joined_text[topic.end() if topic else 0 :].split()).strip(" ,;:-–—/|")
    return story[:1].upper() + story[1:]


def _understood(text: str, segment: _Segment, candidates: Sequence[Candidate]) -> Iterator[Found]:
    """Yield the wishes of accepted candidates, after negation and "only"."""
    for term in candidates:
        if term.field == "genre" and any(
            w.text in SLOW_SONGS for w in segment.words if term.start <= w.start < term.end
        ):
            yield Found("tempo", "slow", text[term.start : term.end])
        at = next(i for i, word in enumerate(segment.words) if word.start >= term.start)
        negated = _negated(segment.words[:at])
        words = text[term.start : term.end]
        if term.field in ("key", "meter", "length", "language") or term.value.endswith("bpm"):
            if not negated or term.field == "length":
                yield Found(term.field, term.value, words)
            continue
        after = next((word.text for word in segment.words if word.start >= term.end), "")
        if negated and (term.field == "tempo" or after in ("solo", "solos", "until")):
            continue
        if negated and term.value == "acoustic guitar" and "acoustic" not in words.lower():
            yield Found("instruments", "no guitar", words)
            continue
        if term.field == "instruments" and not negated and _only(segment.words, term):
            yield Found("instruments", "only", words)
        yield Found(term.field, f"no {term.value}" if negated else term.value, words)


def _negated(before: Sequence[_Word]) -> bool:
    for word in reversed(before[-6:]):
        if word.text in NEGATORS:
            return True
        if word.text in UNNEGATED or word.kind == "O":
            return False
    return False


def _only(words: Sequence[_Word], term: Candidate) -> bool:
    first = next(i for i, word in enumerate(words) if word.start >= term.start)
    last = max(i for i, word in enumerate(words) if word.start < term.end)
    for word in reversed(words[max(0, first - 5) : first]):
        if word.text in ONLY:
            return True
        if word.kind in ("O", "T") and not any(t.field == "mood" for t in word.candidates):
            break
    after = words[last + 1].text if last + 1 < len(words) else ""
    return after in ONLY and not (first and words[first - 1].text in ("a", "an", "the", "no"))
