"""Every kind of folder and cache is what `docs/checkpoints.md` says: it loads, or ends with the error in its row."""

import json
import re

import pytest

from benchmarks.checkpoints.__main__ import FIGURES, PAGE, page, trials
from benchmarks.checkpoints.kinds import KINDS
from harmonia_lab.audio_engines.musicgen.models import MODELS

pytestmark = pytest.mark.usefixtures("one_thread")

MANY = [kind for number, kind in enumerate(KINDS) if number % 4 == 0]
"""For every run; `make stress` tries all."""


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


def rows(text):
    """The table's rows without the seconds."""
    return [re.sub(r"\| [\d.]* \|$", "|", line) for line in text.splitlines() if line.startswith("| ")]


def check(outcomes):
    assert not [kind.name for kind, outcome in outcomes.items() if outcome.ran]
    assert not [kind.name for kind, outcome in outcomes.items() if not outcome.loads and not outcome.hint]
    told = " ".join(f"{outcome.said} {outcome.hint}" for outcome in outcomes.values())
    assert "weights_only" not in told
    said, here = rows(PAGE.read_text()), page(outcomes, json.loads(FIGURES.read_text()))
    assert [row for row in rows(here) if row not in said] == []


def test_a_quarter_of_the_kinds_are_what_the_page_says(folders):
    check(trials(MANY, folders))


@pytest.mark.stress
def test_all_kinds_are_what_the_page_says(folders):
    outcomes = trials(KINDS, folders)
    check(outcomes)
    assert rows(page(outcomes, json.loads(FIGURES.read_text()))) == rows(PAGE.read_text())


def test_the_page_has_every_kind_with_its_seconds():
    text = PAGE.read_text()
    assert len(KINDS) > 40
    for kind in KINDS:
        assert re.search(rf"\| {re.escape(kind.name)} \| .* \| \d+\.\d\d \|", text), kind.name
    assert json.loads(FIGURES.read_text())["seconds"].keys() == {f"{kind.group}: {kind.name}" for kind in KINDS}
