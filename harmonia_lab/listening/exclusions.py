"""Which answer sets count: each that doesn't is named, with the rule that it broke. No rule looks at a preference.

Owns the rules and their order. They are fixed before the answers are seen, but for the two that `screen` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harmonia_lab.listening.answers import AnswerSet
from harmonia_lab.listening.design import ListeningDesign, Trial

__all__ = ["Exclusion", "screen"]

REFERENCE_LEAST, REFERENCE_SHARE = 90.0, 0.15
"""ITU-R BS.1534-3, 4.1.2: who rates the hidden reference below 90 in more than 15 % of the trials is left out."""


@dataclass(frozen=True)
class Exclusion:
    """An answer set that doesn't count. reason: the rule, the same words for all that broke it. detail: how."""

    answers: AnswerSet
    reason: str
    detail: str = ""


def screen(
    design: ListeningDesign, sets: Sequence[AnswerSet], *, allow_failed: int = 0, keep_incomplete: bool = False
) -> tuple[list[AnswerSet], list[Exclusion]]:
    """Return the sets that count, and the others. allow_failed: attention checks that a listener may fail.

    Of several attempts of one listener (by name, where one was given), the first complete one counts, if it passes.
    """
    kept: list[AnswerSet] = []
    excluded: list[Exclusion] = []
    attempts: set[str] = set()
    listeners: set[str] = set()
    for each in sorted(sets, key=lambda found: found.finished_at):
        reason, detail = _fault(design, each, attempts)
        if not reason and not each.complete and not keep_incomplete:
            reason, detail = "incomplete", f"{len(each.answers)} of {len(design.trials)} trials"
        attempts.add(each.attempt)
        if not reason and each.listener:
            if each.listener in listeners:
                reason = "another attempt of the same listener"
            listeners.add(each.listener)
        if not reason:
            reason, detail = _inattentive(design, each, allow_failed)
        if reason:
            excluded.append(Exclusion(each, reason, detail))
        else:
            kept.append(each)
    return kept, excluded


def _fault(design: ListeningDesign, answers: AnswerSet, attempts: set[str]) -> tuple[str, str]:
    trials = {trial.id: trial for trial in design.trials}
    if answers.test != design.id or answers.kind != design.kind:
        return "answers of another test", ""
    if answers.attempt in attempts:
        return "the same answers again", ""
    unfit = [
        a.trial for a in answers.answers if a.trial not in trials or sorted(a.order) != list(trials[a.trial].stimuli)
    ]
    if unfit or any((a.choice is None) == (design.kind == "pairs") for a in answers.answers):
        return "answers that don't fit the key", ", ".join(unfit[:3])
    if answers.complete and len(answers.answers) < len(design.trials):
        return "answers that don't fit the key", "complete, but trials are missing"
    if not answers.in_drawn_order(design):
        return "an order that the recorded seed doesn't draw", ""
    return "", ""


def _inattentive(design: ListeningDesign, answers: AnswerSet, allow_failed: int) -> tuple[str, str]:
    failed = [trial.id for trial in design.trials if trial.role == "check" and _failed(trial, answers)]
    if len(failed) > allow_failed:
        return "failed attention checks", f"{len(failed)} of {design.checks}"
    if design.reference is None or design.kind == "pairs":
        return "", ""
    rated = [
        answers.by_trial[trial.id].ratings[hidden]
        for trial in design.trials
        if trial.id in answers.by_trial and (hidden := _hidden_reference(design, trial))
    ]
    low = sum(rating < REFERENCE_LEAST for rating in rated)
    if rated and low > REFERENCE_SHARE * len(rated):
        return "rated the hidden reference below 90 too often", f"{low} of {len(rated)} trials"
    return "", ""


def _failed(trial: Trial, answers: AnswerSet) -> bool:
    answer = answers.by_trial.get(trial.id)
    if answer is None or trial.better is None or trial.worse is None:
        return False  # not reached, in a set that may be incomplete
    if answer.choice is not None:
        return answer.choice != trial.better
    return not answer.ratings[trial.better] > answer.ratings[trial.worse]


def _hidden_reference(design: ListeningDesign, trial: Trial) -> str | None:
    if trial.role != "compare":
        return None
    found = (design.stimulus(each) for each in trial.stimuli)
    return next((each.id for each in found if each.condition == design.reference and not each.treatment), None)
