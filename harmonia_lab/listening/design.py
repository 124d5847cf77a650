"""What a listening test asks: which songs are heard together, in which trials, and which trials check attention.

Owns `ListeningDesign`, the drawing of trials, the order in which a listener gets them, and the two forms in which a
test is written: the key, which says what each sound is, and what the listener's page may know, which doesn't. Sounds
and trials have numbers that were drawn, so that no name and no order reveals a condition.

The order is drawn in the listener's browser from a seed that its answers record (`page.js`); `listener_order` draws the
same one, so that the analysis can check it.
"""

from __future__ import annotations

import functools
import itertools
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.sources import ComparedSong, blocks_of
from harmonia_lab.music.seeds import derive_rng

__all__ = ["KEY_VERSION", "KINDS", "ListeningDesign", "Stimulus", "TestKind", "Trial", "design_test", "listener_order"]

KEY_VERSION = 1

TestKind = Literal["pairs", "scales"]
KINDS: tuple[TestKind, ...] = ("pairs", "scales")
"""pairs: which of two is preferred (2AFC). scales: each of several gets 0 to 100, as in MUSHRA (ITU-R BS.1534)."""

Treatment = Literal["", "anchor", "degraded"]
"""What was done to a song beside its loudness: nothing; the low anchor of BS.1534, 3.5 kHz; a damage nobody misses."""

QUESTIONS = {"pairs": "Which one do you prefer?", "scales": "How good does each one sound?"}
REFERENCE_QUESTION = "How close is the sound of each one to the reference?"

MAX_TRIALS = 24
"""Trials that are drawn if no number is given, checks not counted: about a quarter of an hour of pairs of 10 s."""

MOST_SCALES = 12
"""Sounds of one trial on scales; BS.1534-3 allows no more, the hidden reference and anchors included."""


@dataclass(frozen=True)
class Stimulus:
    """A sound of the test. id: as the page knows it. folder: the song's, relative to the key where it lies below."""

    id: str
    condition: str
    block: str
    folder: str
    treatment: Treatment = ""


@dataclass(frozen=True)
class Trial:
    """What is heard together. role: what its answer counts for. stimuli: ids, sorted. reference: the id of the sound
    that the page names as the reference. better, worse: of a check, what an attentive listener doesn't confuse."""

    id: str
    block: str
    role: Literal["compare", "check"]
    stimuli: tuple[str, ...]
    reference: str | None = None
    better: str | None = None
    worse: str | None = None


@dataclass(frozen=True)
class ListeningDesign:
    """A test. seed: drew trials and numbers. listen_s: how long each sound must have been heard before the next trial.
    conditions: in the order of the source; reference: the one that the others are compared with, if one is."""

    id: str
    kind: TestKind
    title: str
    question: str
    intro: str
    seed: int
    listen_s: float
    conditions: tuple[str, ...]
    reference: str | None
    stimuli: tuple[Stimulus, ...]
    trials: tuple[Trial, ...]
    left_out: int = 0
    """Trials that there could have been beside these."""
    excerpt: dict[str, Any] = field(default_factory=dict)
    """What is heard of each song: start, seconds (None: all), and the sounds' format."""
    sounds: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of each stimulus by id, once they were made: start and seconds of its excerpt, lufs as it was, gain_db."""

    def stimulus(self, stimulus_id: str) -> Stimulus:
        return self._by_id[stimulus_id]

    @functools.cached_property
    def _by_id(self) -> dict[str, Stimulus]:
        return {each.id: each for each in self.stimuli}

    @property
    def checks(self) -> int:
        return sum(trial.role == "check" for trial in self.trials)

    def with_sounds(self, sounds: dict[str, dict[str, float]]) -> ListeningDesign:
        return replace(self, sounds=sounds)

    def key(self) -> dict[str, Any]:
        """Return plain JSON values: all of the test. Not for listeners."""
        return {"listeningKey": KEY_VERSION, **asdict(self)}

    def for_listeners(self) -> dict[str, Any]:
        """Return plain JSON values: what the page may know."""
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "question": self.question,
            "intro": self.intro,
            "listenS": self.listen_s,
            "seconds": {each.id: round(self.sounds[each.id]["seconds"], 3) for each in self.stimuli},
            "trials": [
                {"id": trial.id, "stimuli": list(trial.stimuli), "reference": trial.reference} for trial in self.trials
            ],
        }

    @classmethod
    def from_key(cls, plain: Mapping[str, Any]) -> ListeningDesign:
        """Raises KeyError, TypeError or ValueError for a damaged key."""
        if int(plain["listeningKey"]) > KEY_VERSION:
            raise ValueError("it was written by a newer Harmonia Lab")
        values = {name: value for name, value in plain.items() if name != "listeningKey"}
        values["stimuli"] = tuple(Stimulus(**each) for each in values["stimuli"])
        values["trials"] = tuple(Trial(**{**each, "stimuli": tuple(each["stimuli"])}) for each in values["trials"])
        design = cls(**{**values, "conditions": tuple(values["conditions"])})
        for trial in design.trials:  # raises KeyError for a stimulus that isn't there
            for one in filter(None, (*trial.stimuli, trial.reference, trial.better, trial.worse)):
                design.stimulus(one)
        return design


def design_test(
    candidates: Sequence[ComparedSong],
    kind: TestKind = "pairs",
    *,
    title: str = "Listening test",
    question: str | None = None,
    intro: str = "",
    trials: int | None = None,
    checks: int = 2,
    reference: str | None = None,
    listen_s: float = 2.0,
    seed: int | None = None,
) -> ListeningDesign:
    """Return a test of these songs. trials: how many comparisons at most, drawn if there are more (MAX_TRIALS if not
    given). checks: attention checks among them. reference: of scales, the condition that is named as the reference.
    seed: draws trials and numbers.

    Raises InvalidRequest if no two conditions share a block, or for a value that can't be.
    """
    _check(kind, trials, checks, listen_s)
    blocks = blocks_of(candidates)
    conditions = tuple(dict.fromkeys(each.condition for each in candidates if each.block in blocks))
    if not blocks:
        raise InvalidRequest(
            "No two of these songs have the story, the seed and the length in common, so there is nothing to compare.",
            hint="Make a study, or a batch in which the same narrative and seed come with several engines or settings. "
            'Seeds themselves are compared by --by seed (by="seed").',
        )
    if reference is not None and (kind == "pairs" or reference not in conditions):
        raise InvalidRequest(
            f"{reference!r} can't be the reference: {'pairs have none' if kind == 'pairs' else 'no condition is it'}.",
            hint=f"The conditions are {', '.join(conditions)}; a reference goes with scales.",
        )
    seed = secrets.randbelow(2**32) if seed is None else seed
    rng = derive_rng(seed, "listening", kind)
    make = _pairs if kind == "pairs" else _scales
    all_groups = list(make(blocks, reference, rng))
    groups = all_groups[: trials or MAX_TRIALS]
    drawn = _Drawing(rng)
    for block, songs in groups:
        drawn.compare(block, songs, kind, reference)
    heard = [song for _, songs in groups for song in songs]
    for song in rng.sample(heard, checks) if checks <= len(heard) else rng.choices(heard, k=checks):
        drawn.check(song, open_reference=reference is not None)
    stimuli, made = drawn.numbered()
    if question is None:
        question = REFERENCE_QUESTION if reference else QUESTIONS[kind]
    names = {song.condition for song in heard}
    return ListeningDesign(
        id=secrets.token_hex(6), kind=kind, title=title, question=question, intro=intro, seed=seed, listen_s=listen_s,
        conditions=tuple(name for name in conditions if name in names), reference=reference, stimuli=stimuli,
        trials=made, left_out=len(all_groups) - len(groups),
    )  # fmt: skip


def _check(kind: str, trials: int | None, checks: int, listen_s: float) -> None:
    wrong = {
        "kind": kind not in KINDS,
        "trials": trials is not None and not 1 <= trials <= 500,
        "checks": not 0 <= checks <= 20,
        "listen_s": not 0 <= listen_s <= 600,
    }
    allowed = {"kind": " or ".join(KINDS), "trials": "1 to 500", "checks": "0 to 20", "listen_s": "0 to 600"}
    for name in (name for name, found in wrong.items() if found):
        raise InvalidRequest(f"{name} must be {allowed[name]}.", details={"fields": [name]})


_Blocks = Mapping[str, Mapping[str, ComparedSong]]


def _pairs(
    blocks: _Blocks, _reference: str | None, rng: random.Random
) -> Iterator[tuple[str, tuple[ComparedSong, ...]]]:
    """Yield all pairs of two conditions in a block, so that any beginning of them has each two about equally often."""
    of_two: dict[frozenset[str], list[tuple[str, tuple[ComparedSong, ...]]]] = {}
    for block, songs in blocks.items():
        for a, b in itertools.combinations(songs.values(), 2):
            of_two.setdefault(frozenset((a.condition, b.condition)), []).append((block, (a, b)))
    lists = list(of_two.values())
    rng.shuffle(lists)
    for each in lists:
        rng.shuffle(each)
    for row in itertools.zip_longest(*lists):
        yield from (found for found in row if found is not None)


def _scales(
    blocks: _Blocks, reference: str | None, rng: random.Random
) -> Iterator[tuple[str, tuple[ComparedSong, ...]]]:
    """Yield the songs of each block; with a reference, of those that have it."""
    found = [
        (block, tuple(songs.values())) for block, songs in blocks.items() if reference is None or reference in songs
    ]
    most = MOST_SCALES - (1 if reference else 0)
    if any(len(songs) > most for _, songs in found):
        raise InvalidRequest(
            f"More than {most} conditions in one block can't be rated side by side.", hint="Take pairs."
        )
    rng.shuffle(found)
    yield from found


class _Drawing:
    """Collects stimuli and trials under provisional numbers; `numbered` gives them drawn ones."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._stimuli: dict[tuple[ComparedSong, Treatment, int], Stimulus] = {}
        self._trials: list[Trial] = []

    def _add(self, song: ComparedSong, treatment: Treatment = "", copy: int = 0) -> str:
        number = str(len(self._stimuli))
        made = Stimulus(number, song.condition, song.block, str(song.folder), treatment)
        return self._stimuli.setdefault((song, treatment, copy), made).id

    def compare(self, block: str, songs: Sequence[ComparedSong], kind: TestKind, reference: str | None) -> None:
        named = next((song for song in songs if song.condition == reference), None)
        stimuli = [self._add(song) for song in songs]
        open_reference = None
        if kind == "scales" and named is not None:
            open_reference = self._add(named, copy=1)  # numbered apart from the hidden one
            stimuli.append(self._add(named, "anchor"))
        self._trials.append(Trial("", block, "compare", tuple(stimuli), open_reference))

    def check(self, song: ComparedSong, *, open_reference: bool) -> None:
        """Add a trial of a song beside the same one, damaged."""
        better, worse = self._add(song), self._add(song, "degraded")
        reference = self._add(song, copy=1) if open_reference else None
        self._trials.append(Trial("", song.block, "check", (better, worse), reference, better, worse))

    def numbered(self) -> tuple[tuple[Stimulus, ...], tuple[Trial, ...]]:
        names = [f"s{number:03}" for number in range(1, len(self._stimuli) + 1)]
        self._rng.shuffle(names)
        renamed = {each.id: name for each, name in zip(self._stimuli.values(), names, strict=True)}
        stimuli = sorted((replace(each, id=renamed[each.id]) for each in self._stimuli.values()), key=lambda s: s.id)
        self._rng.shuffle(self._trials)
        trials = [
            replace(
                trial,
                id=f"t{number:03}",
                stimuli=tuple(sorted(renamed[each] for each in trial.stimuli)),
                reference=renamed.get(trial.reference or ""),
                better=renamed.get(trial.better or ""),
                worse=renamed.get(trial.worse or ""),
            )
            for number, trial in enumerate(self._trials, 1)
        ]
        return tuple(stimuli), tuple(trials)


def listener_order(trials: Sequence[tuple[str, Sequence[str]]], seed: int) -> list[tuple[str, list[str]]]:
    """Return the order in which a listener with this seed gets the trials, and in each the sounds, as `page.js` does.

    trials: (id, stimuli) as the page has them. seed: 32 bits.
    """
    drawn = _drawn_order(tuple((name, tuple(stimuli)) for name, stimuli in trials), seed)
    return [(name, list(stimuli)) for name, stimuli in drawn]


@functools.lru_cache(maxsize=256)
def _drawn_order(trials: tuple[tuple[str, tuple[str, ...]], ...], seed: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    draw = _mulberry32(seed)
    order = _shuffled(list(trials), draw)
    return tuple((name, tuple(_shuffled(list(stimuli), draw))) for name, stimuli in order)


def _shuffled(values: list[Any], draw: Iterator[float]) -> list[Any]:
    """Shuffle from the end (Fisher and Yates, as Durstenfeld wrote it in Algorithm 235, 1964)."""
    for last in range(len(values) - 1, 0, -1):
        other = int(next(draw) * (last + 1))
        values[last], values[other] = values[other], values[last]
    return values


def _mulberry32(seed: int) -> Iterator[float]:
    """Yield numbers in [0, 1): Tommy Ettinger's mulberry32, which JavaScript's 32-bit products give as well."""
    state = seed & 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        mixed = ((state ^ (state >> 15)) * (1 | state)) & 0xFFFFFFFF
        mixed ^= (mixed + (((mixed ^ (mixed >> 7)) * (61 | mixed)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        yield (mixed ^ (mixed >> 14)) / 4294967296
