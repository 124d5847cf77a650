"""Scripted listeners who take a test in a browser, by keys and clicks alone, and save their answers.

Owns what a scripted listener does on the page. What each prefers is planted: with the probability given, the last
condition. The page doesn't know which sound that is; the script looks the sounds' numbers up in the key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from harmonia_lab.listening.design import ListeningDesign
from harmonia_lab.listening.simulation import planted_choice

__all__ = ["take_test"]

HEARD_MS = 80
"""How long each sound is listened to; the test must have been made with less (`listen_s`)."""

PLAYS = """(at) => document.querySelector(".play").textContent === "Pause"
  && document.querySelectorAll(".sounds button")[at].getAttribute("aria-pressed") === "true" """


def take_test(
    page: Any, address: str, design: ListeningDesign, listener: str, share: float, seed: int
) -> dict[str, Any]:
    """Open the test at `address` in a Playwright page, answer all its trials, and return the saved answers."""
    rng, trials = np.random.default_rng((seed, 7)), {trial.id: trial for trial in design.trials}
    by_sounds = {trial.stimuli: trial for trial in trials.values()}
    page.goto(address)
    if page.get_by_label("Your name").count():
        page.get_by_label("Your name").fill(listener)
    page.get_by_role("button", name="Start").click()
    for number in range(len(trials)):
        page.get_by_role("heading", name=f"{number + 1} of {len(trials)}").wait_for()
        order = page.eval_on_selector_all("input[name=choice]", "boxes => boxes.map((box) => box.value)")
        for at, letter in enumerate("ab"):
            page.keyboard.press(letter)
            page.wait_for_function(PLAYS, arg=at + 1)
            page.wait_for_timeout(HEARD_MS)
        choice = planted_choice(design, by_sounds[tuple(sorted(order))], order, share, rng)
        page.get_by_role("radio", name="AB"[order.index(choice)], exact=True).check()
        page.get_by_role("button", name="Finish" if number + 1 == len(trials) else "Next").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the answers").click()
    answers: dict[str, Any] = json.loads(Path(download.value.path()).read_text("utf-8"))
    return answers
