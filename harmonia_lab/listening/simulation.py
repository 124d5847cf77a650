"""Simulated listeners: what a test of pairs would show if people preferred one condition with a given probability.

Owns how they answer: as attentive people who choose each time by chance. For planning (how many listeners does it
take?) and for trying the analysis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.answers import AnswerSet, TrialAnswer
from harmonia_lab.listening.design import ListeningDesign, Trial, listener_order

__all__ = ["planted_choice", "simulated_answers"]


def planted_choice(
    design: ListeningDesign, trial: Trial, order: Sequence[str], share: float, rng: np.random.Generator
) -> str:
    """Return the choice of an attentive listener who prefers the later of two conditions with probability `share`."""
    if trial.better is not None:
        return trial.better
    first, second = sorted(order, key=lambda each: design.conditions.index(design.stimulus(each).condition))
    return second if rng.random() < share else first


def simulated_answers(design: ListeningDesign, share: float, seed: int, rng: np.random.Generator) -> AnswerSet:
    """Return one listener's answers. seed: of the order, and in the name. Raises InvalidRequest for scales."""
    if design.kind != "pairs":
        raise InvalidRequest("Only tests of pairs are simulated.", hint='Make one: kind="pairs".')
    trials = {trial.id: trial for trial in design.trials}
    answers: list[TrialAnswer] = []
    for name, order in listener_order([(trial.id, trial.stimuli) for trial in design.trials], seed):
        choice = planted_choice(design, trials[name], order, share, rng)
        answers.append(TrialAnswer(name, tuple(order), choice, {}, {}, 0.0))
    return AnswerSet(
        test=design.id, kind=design.kind, attempt=f"{seed:024x}", listener=f"simulated {seed}", seed=seed,
        complete=True, answers=tuple(answers), finished_at=f"{seed:06}",
    )  # fmt: skip
