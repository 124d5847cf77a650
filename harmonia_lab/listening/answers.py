"""What listeners answered: one set for each attempt, as the page writes it, read and checked.

Owns the form of an answer set, its limits, and where sets are read from: JSON files, a folder of them, or the lines
that a server collected. Whether a set counts is `exclusions.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.design import ListeningDesign, listener_order
from harmonia_lab.protocol.text import printable
from harmonia_lab.storage import absolute

__all__ = ["ANSWERS_VERSION", "MAX_BYTES", "AnswerSet", "TrialAnswer", "parse_answers", "read_answers"]

ANSWERS_VERSION = 1

MAX_BYTES = 256 * 1024
"""Of one answer set: 500 trials on scales of 12 sounds are 200 kB."""

MAX_LISTENER = 128
_ATTEMPT = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True)
class TrialAnswer:
    """choice: the preferred stimulus, of pairs. ratings: 0 to 100 by stimulus, of scales. order: as shown. heard:
    seconds by stimulus. seconds: spent on the trial."""

    trial: str
    order: tuple[str, ...]
    choice: str | None
    ratings: Mapping[str, float]
    heard: Mapping[str, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        chosen = {"ratings": dict(self.ratings)} if self.choice is None else {"choice": self.choice}
        rest = {"heard": dict(self.heard), "seconds": self.seconds}
        return {"trial": self.trial, "order": list(self.order), **chosen, **rest}


@dataclass(frozen=True)
class AnswerSet:
    """One attempt of one listener. seed: drew its order. where: the file, or the place in it."""

    test: str
    kind: str
    attempt: str
    listener: str
    seed: int
    complete: bool
    answers: tuple[TrialAnswer, ...]
    finished_at: str = ""
    where: str = ""

    @property
    def by_trial(self) -> dict[str, TrialAnswer]:
        return {each.trial: each for each in self.answers}

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, as `parse_answers` reads them."""
        return {
            "harmoniaAnswers": ANSWERS_VERSION, "test": self.test, "kind": self.kind, "attempt": self.attempt,
            "listener": self.listener, "seed": self.seed, "complete": self.complete, "finishedAt": self.finished_at,
            "answers": [each.to_json() for each in self.answers],
        }  # fmt: skip

    def in_drawn_order(self, design: ListeningDesign) -> bool:
        """Return whether trials and sounds came in the order that the recorded seed draws."""
        drawn = listener_order([(trial.id, trial.stimuli) for trial in design.trials], self.seed)
        answered = {each.trial for each in self.answers}
        return [(each.trial, list(each.order)) for each in self.answers] == [d for d in drawn if d[0] in answered]


def parse_answers(plain: Any, where: str = "") -> AnswerSet:
    """Return the answer set in JSON values. Raises InvalidRequest that says what is wrong with it."""
    try:
        return _answer_set(plain, where)
    except KeyError as error:
        why = f"{error.args[0]} is missing"
    except (TypeError, ValueError, AttributeError) as error:
        why = str(error)
    raise InvalidRequest(
        f"{where or 'This'} is no answer set of a listening test: {why}.",
        hint="Take the file that the listener's page saved, unchanged.",
        details={"fields": ["answers"]},
    )


def _answer_set(plain: Any, where: str) -> AnswerSet:
    version, seed = plain["harmoniaAnswers"], plain["seed"]
    if not isinstance(version, int) or version > ANSWERS_VERSION:
        raise ValueError(f"its version is {version!r}; this Harmonia Lab reads {ANSWERS_VERSION}")
    attempt = _text(plain, "attempt", 24)
    if not _ATTEMPT.fullmatch(attempt):
        raise ValueError("attempt is no 24 hex digits")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError("seed is no whole number of 32 bits")
    if not isinstance(plain["complete"], bool) or not isinstance(plain["answers"], list):
        raise ValueError("complete is no boolean, or answers no list")  # noqa: TRY004 - as above
    answers = tuple(_answer(each) for each in plain["answers"])
    if len({each.trial for each in answers}) < len(answers):
        raise ValueError("a trial is answered twice")
    return AnswerSet(
        test=_text(plain, "test", 64), kind=_text(plain, "kind", 16), attempt=attempt,
        listener=printable(_text(plain, "listener", MAX_LISTENER)).strip(), seed=seed, complete=plain["complete"],
        answers=answers, finished_at=_text(plain, "finishedAt", 40), where=where,
    )  # fmt: skip


def _answer(plain: Any) -> TrialAnswer:
    order = tuple(_text({"order": each}, "order", 16) for each in plain["order"])
    choice, ratings = plain.get("choice"), plain.get("ratings") or {}
    if choice is not None and choice not in order:
        raise ValueError("a choice is none of the sounds of its trial")
    if not isinstance(ratings, dict) or (ratings and ratings.keys() != set(order)):
        raise ValueError("ratings are not those of the sounds of their trial")
    if (choice is None) == (not ratings):
        raise ValueError("an answer is a choice or ratings")
    numbers = {name: _number(value, 0, 100) for name, value in ratings.items()}
    heard = {str(name)[:16]: _number(value, 0, 1e6) for name, value in dict(plain["heard"]).items()}
    seconds = _number(plain["seconds"], 0, 1e7)
    return TrialAnswer(_text(plain, "trial", 16), order, choice, numbers, heard, seconds)


def _text(plain: Any, name: str, longest: int) -> str:
    value = plain[name]
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name} is no text of at most {longest} characters")
    return value


def _number(value: Any, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"a number isn't between {low:g} and {high:g}")
    return float(value)


def read_answers(sources: Path | str | Iterable[Path | str]) -> tuple[list[AnswerSet], list[str]]:
    """Return the answer sets of files and folders, and what could not be read, a sentence each.

    A `.jsonl` file has a set in each line, any other one. A folder's `.json` and `.jsonl` files are read, by name.
    Raises InvalidRequest for a source that isn't there.
    """
    paths: list[Path] = []
    for given in [sources] if isinstance(sources, Path | str) else sources:
        path = absolute(given)
        if not path.exists():
            raise InvalidRequest(f"{path} isn't there.", hint="Name the files that listeners sent, or their folder.")
        found = (
            sorted(each for each in path.iterdir() if each.suffix in (".json", ".jsonl")) if path.is_dir() else [path]
        )
        paths += found
    sets: list[AnswerSet] = []
    unread: list[str] = []
    for path in paths:
        for where, text in _texts(path, unread):
            try:
                sets.append(_parsed(text, where))
            except InvalidRequest as error:
                unread.append(error.message)
    return sets, unread


def _texts(path: Path, unread: list[str]) -> Sequence[tuple[str, bytes]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        unread.append(f"{path.name} can't be read: {error.strerror}.")
        return []
    if path.suffix != ".jsonl":
        return [(path.name, data)]
    return [(f"{path.name}, line {n}", line) for n, line in enumerate(data.splitlines(), 1) if line.strip()]


def _parsed(text: bytes, where: str) -> AnswerSet:
    if len(text) > MAX_BYTES:
        raise InvalidRequest(f"{where} has {len(text):,} bytes, more than any answer set.")
    try:
        plain = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where} is no JSON: {error}.") from None
    return parse_answers(plain, where)
