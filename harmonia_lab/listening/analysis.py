"""What the listeners said: who counts, which condition they prefer and how surely, as tables.

Owns `ListeningResult`, and what its tables say. The arithmetic is in `statistics.py`, who counts in `exclusions.py`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonia_lab.analysis.intervals import Floats
from harmonia_lab.analysis.tables import Table
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.answers import AnswerSet
from harmonia_lab.listening.design import ListeningDesign
from harmonia_lab.listening.exclusions import Exclusion, screen
from harmonia_lab.listening.statistics import (
    MIN_LISTENERS,
    bootstrap,
    bradley_terry,
    flip_tests,
    interval,
    is_connected,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ANCHOR", "ListeningResult", "analyse"]

LEVEL = 0.95
ANCHOR = "anchor (3.5 kHz)"
"""The condition of low anchors."""


def analyse(
    design: ListeningDesign,
    sets: Sequence[AnswerSet],
    *,
    unread: Sequence[str] = (),
    allow_failed: int = 0,
    keep_incomplete: bool = False,
    seed: int = 0,
) -> ListeningResult:
    """Return what the answers say. unread: what could not be read, for the notes. allow_failed, keep_incomplete: as
    `exclusions.screen`. seed: of resampling and flips. Raises InvalidRequest if there are no answers at all."""
    if not sets:
        why = f" {len(unread)} could not be read: {unread[0]}" if unread else ""
        raise InvalidRequest(f"There are no answers.{why}", hint="Name the files that listeners sent, or their folder.")
    kept, excluded = screen(design, sets, allow_failed=allow_failed, keep_incomplete=keep_incomplete)
    return ListeningResult(design, tuple(kept), tuple(excluded), tuple(unread), seed)


@dataclass(frozen=True, eq=False)
class ListeningResult:
    """kept: the answer sets that count, a listener each. excluded: the others, with the reason. It prints as tables."""

    design: ListeningDesign
    kept: tuple[AnswerSet, ...]
    excluded: tuple[Exclusion, ...] = ()
    unread: tuple[str, ...] = ()
    seed: int = 0

    @cached_property
    def conditions(self) -> list[str]:
        """What is compared, the anchor last."""
        anchored = any(each.treatment == "anchor" for each in self.design.stimuli)
        return [*self.design.conditions, *([ANCHOR] if anchored else [])]

    @cached_property
    def scores(self) -> Floats:
        """Of pairs, choices [listeners, winner, loser]; on scales, mean ratings [listeners, conditions]."""
        return self._choices() if self.design.kind == "pairs" else self._ratings()

    @property
    def p_no_preference(self) -> float | None:
        """How probable answers as extreme are if no condition is preferred; None with too few listeners."""
        return self._tests[0] if len(self.kept) >= MIN_LISTENERS else None

    @cached_property
    def table(self) -> Table:
        """Each two conditions: which share prefers the second to the first, or how much better it is rated."""
        import pandas as pd  # noqa: PLC0415 - takes a third of a second

        pairs = self.design.kind == "pairs"
        value, head = ("share", "preferred") if pairs else ("difference", "rated higher by")
        rows, shown = [], []
        for at, (i, j) in enumerate(self._twos):
            estimate, low, high = (None if each is None else float(each[at]) for each in self._estimates)
            p = float(self._tests[1][at]) if self.p_no_preference is not None else None
            compared = int(self.scores[:, i, j].sum() + self.scores[:, j, i].sum()) if pairs else len(self.kept)
            rows.append({"a": self.conditions[i], "b": self.conditions[j], value: estimate, "low": low, "high": high,
                         "p": p, "n": compared, "differs": p is not None and p <= 1 - LEVEL})  # fmt: skip
            shown.append([f"{self.conditions[j]} over {self.conditions[i]}", _figure(estimate, pairs),
                          "–" if low is None else f"{_figure(low, pairs)} to {_figure(high, pairs)}",
                          "–" if p is None else f"{p:.4f}", str(compared)])  # fmt: skip
        heads = ["", head, "95 % interval", "p", "choices" if pairs else "listeners"]
        names = ["a", "b", value, "low", "high", "p", "n", "differs"]
        return Table(pd.DataFrame(rows, columns=names), pd.DataFrame(shown, columns=heads), tuple(self.notes))

    @cached_property
    def levels(self) -> Table:
        """Each condition: Bradley–Terry's strength in log-odds against the first one, or the mean rating."""
        import pandas as pd  # noqa: PLC0415 - as above

        pairs = self.design.kind == "pairs"
        rows, shown = [], []
        means, low, high = self._levels
        for at, name in enumerate(self.conditions):
            value, ends = float(means[at]), None if low is None or high is None else (float(low[at]), float(high[at]))
            rows.append({"condition": name, "value": value, "low": ends and ends[0], "high": ends and ends[1]})
            digits = 2 if pairs else 1
            told = "–" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
            shown.append([name, f"{value:.{digits}f}", "–" if pairs and at == 0 else told])
        heads = ["", "strength (log-odds)" if pairs else "mean rating", "95 % interval"]
        return Table(pd.DataFrame(rows), pd.DataFrame(shown, columns=heads))

    @cached_property
    def notes(self) -> list[str]:
        """Who counts and who doesn't, what was tested and how."""
        design, total = self.design, len(self.kept) + len(self.excluded)
        reasons = Counter(each.reason for each in self.excluded)
        left = "; ".join(f"{number}: {reason}" for reason, number in reasons.items())
        found = [
            f"{len(self.kept)} of {total} answer sets count."
            + (f" Left out: {left}." if left else " None was left out.")
        ]
        found += [f"Not read: {each}" for each in self.unread]
        p = self.p_no_preference
        if p is None:
            found.append(f"Intervals and tests take {MIN_LISTENERS} listeners or more.")
        else:
            found.append(
                f"No preference at all would give answers as extreme with p = {p:.4f} (choices reversed by listener)."
            )
            found.append("Intervals: bootstrap over listeners; they hold for other listeners and these songs.")
        if len(self._twos) > 1 and p is not None:
            found.append(f"p of {len(self._twos)} comparisons together (max-T): each claim may be made at 0.05.")
        if design.kind == "pairs" and self.kept:
            first = [a.choice == a.order[0] for s in self.kept for a in s.answers]
            found.append(
                f"The sound called A was chosen in {100 * np.mean(first):.0f} % of all trials; its place was drawn."
            )
        found.append(
            f"Loudness matched by ITU-R BS.1770; {design.checks} attention checks; order drawn for each listener."
        )
        return found

    def frame(self) -> pd.DataFrame:
        """Return a row for each sound of each answer, excluded sets and checks included.

        Columns: listener, attempt, counts (whether the set does), excluded (why it doesn't), trial, block, role,
        position, condition, treatment, chosen or rating, heard_s, seconds (of the trial)."""
        import pandas as pd  # noqa: PLC0415 - as above

        reasons = {id(each.answers): each.reason for each in self.excluded}
        rows = []
        for answers in (*self.kept, *(each.answers for each in self.excluded)):
            rows += self._rows(answers, reasons.get(id(answers), ""))
        return pd.DataFrame(rows)

    def to_markdown(self) -> str:
        """Return both tables in GitHub's Markdown, with the notes beneath."""
        return f"{self.levels.to_markdown()}\n{self.table.to_markdown()}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        tables = {"comparisons": self.table.frame, "conditions": self.levels.frame}
        plain = {
            name: frame.astype(object).where(frame.notna(), None).to_dict("records") for name, frame in tables.items()
        }
        return {
            "test": self.design.id,
            "kind": self.design.kind,
            "listeners": len(self.kept),
            "excluded": [
                {"listener": e.answers.listener, "attempt": e.answers.attempt, "reason": e.reason, "detail": e.detail}
                for e in self.excluded
            ],
            "unread": list(self.unread),
            "pNoPreference": self.p_no_preference,
            **plain,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        return f"{self.design.title}\n\n{self.levels}\n\n{self.table}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{self.levels.to_html()}{self.table.to_html()}"

    @cached_property
    def _twos(self) -> list[tuple[int, int]]:
        """The conditions that are compared, by number; of pairs, those that stood side by side, or all if there are
        chains of comparisons between them."""
        return list(itertools.combinations(range(len(self.conditions)), 2))

    @cached_property
    def _tests(self) -> tuple[float, Floats]:
        columns = [
            (self.scores[:, j, i] - self.scores[:, i, j])
            if self.design.kind == "pairs"
            else (self.scores[:, j] - self.scores[:, i])
            for i, j in self._twos
        ]
        scores = np.stack(columns, axis=1)
        together, found = flip_tests(scores, self.seed)
        each = np.ones(len(self._twos))
        each[np.square(scores).sum(axis=0) > 0] = found
        return together, each

    @cached_property
    def _fitted(self) -> tuple[Floats, Floats | None]:
        """Return the conditions' levels, [conditions], and those of resampled listeners, [resamples, conditions]."""
        listeners = len(self.kept)
        resample = listeners >= MIN_LISTENERS
        if self.design.kind == "scales":
            means = self.scores.mean(axis=0)
            return means, bootstrap(self.scores, self.seed) / listeners if resample else None
        sums = self.scores.sum(axis=0)
        if not is_connected(sums):
            raise InvalidRequest(
                "The conditions of this test fall into groups that were never compared with each other.",
                hint="Make a test of the conditions of one group.",
            )
        return bradley_terry(sums), bradley_terry(bootstrap(self.scores, self.seed)) if resample else None

    @cached_property
    def _levels(self) -> tuple[Floats, Floats | None, Floats | None]:
        means, resampled = self._need()
        if self.design.kind == "pairs":  # against the first condition
            means = means - means[0]
            resampled = None if resampled is None else resampled - resampled[:, :1]
        if resampled is None:
            return means, None, None
        low, high = interval(resampled, len(self.kept), LEVEL)
        return means, low, high

    @cached_property
    def _estimates(self) -> tuple[Floats, Floats | None, Floats | None]:
        means, resampled = self._need()

        def differences(levels: Floats) -> Floats:
            found: Floats = np.stack([levels[..., j] - levels[..., i] for i, j in self._twos], axis=-1)
            return 1 / (1 + np.exp(-found)) if self.design.kind == "pairs" else found

        if resampled is None:
            return differences(means), None, None
        low, high = interval(differences(resampled), len(self.kept), LEVEL)
        return differences(means), low, high

    def _need(self) -> tuple[Floats, Floats | None]:
        if not self.kept:
            raise InvalidRequest(
                f"None of the {len(self.excluded)} answer sets counts: {self.excluded[0].reason}.",
                hint="See `result.excluded`.",
            )
        return self._fitted

    def _choices(self) -> Floats:
        number = {name: at for at, name in enumerate(self.conditions)}
        wins = np.zeros((len(self.kept), len(number), len(number)))
        compared = {trial.id for trial in self.design.trials if trial.role == "compare"}
        for listener, answers in enumerate(self.kept):
            for answer in answers.answers:
                if answer.trial in compared:
                    winner = answer.choice or ""
                    loser = next(each for each in answer.order if each != winner)
                    wins[listener, number[self._condition(winner)], number[self._condition(loser)]] += 1
        return wins

    def _ratings(self) -> Floats:
        """Return each listener's mean rating of each condition; of what a listener has not rated, that of all."""
        number = {name: at for at, name in enumerate(self.conditions)}
        sums, counts = np.zeros((2, len(self.kept), len(number)))
        compared = {trial.id for trial in self.design.trials if trial.role == "compare"}
        for listener, answers in enumerate(self.kept):
            for answer in answers.answers:
                for stimulus, rating in answer.ratings.items() if answer.trial in compared else ():
                    at = listener, number[self._condition(stimulus)]
                    sums[at] += rating
                    counts[at] += 1
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return np.where(np.isnan(means), np.nanmean(means, axis=0), means) if len(means) else means

    def _condition(self, stimulus: str) -> str:
        found = self.design.stimulus(stimulus)
        return ANCHOR if found.treatment == "anchor" else found.condition

    def _rows(self, answers: AnswerSet, reason: str) -> list[dict[str, Any]]:
        trials = {trial.id: trial for trial in self.design.trials}
        known = {each.id: each for each in self.design.stimuli}
        rows = []
        for answer in answers.answers:
            for position, stimulus in enumerate(answer.order, 1):
                if answer.trial not in trials or stimulus not in known:
                    continue  # of another test
                treatment = known[stimulus].treatment
                rows.append({
                    "listener": answers.listener, "attempt": answers.attempt, "counts": not reason, "excluded": reason,
                    "trial": answer.trial, "block": trials[answer.trial].block, "role": trials[answer.trial].role,
                    "position": position, "condition": known[stimulus].condition, "treatment": treatment,
                    "chosen": None if answer.choice is None else answer.choice == stimulus,
                    "rating": answer.ratings.get(stimulus), "heard_s": answer.heard.get(stimulus),
                    "seconds": answer.seconds,
                })  # fmt: skip
        return rows


def _figure(value: float | None, share: bool) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if share else f"{value:+.1f}"
