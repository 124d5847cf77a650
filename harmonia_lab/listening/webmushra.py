"""A listening test and its results in webMUSHRA's formats, for those who go on there, or have scripts for them.

Owns the files: `mushra.csv` or `paired_comparison.csv` with the columns that webMUSHRA's `service/write.php` writes
(github.com/audiolabs/webMUSHRA, version 1.4), and of scales with a reference also `config.yaml` with a `mushra` page
for each trial and the sounds as WAV (`doc/experimenter.md` there). Its `mushra` and `paired_comparison` pages need a
reference that the listener knows as such (issue 88 there), so of pairs, and of scales without one, there is no config.

In `paired_comparison.csv`, choice_reference and choice_non_reference are the two conditions, and choice_answer is
"correct" where the former was preferred, "incorrect" where the latter was: webMUSHRA has no other words.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from harmonia_lab.listening.analysis import ListeningResult
from harmonia_lab.listening.answers import AnswerSet
from harmonia_lab.listening.design import ListeningDesign, Stimulus, Trial
from harmonia_lab.listening.loudness import Excerpt, read_excerpt
from harmonia_lab.storage import absolute, replace_bytes, storage_errors

__all__ = ["WebMushraFiles", "config_yaml", "export_webmushra", "results_csv"]

MUSHRA_COLUMNS = ("session_test_id", "email", "session_uuid", "trial_id", "rating_stimulus", "rating_score",
                  "rating_time", "rating_comment")  # fmt: skip
PAIRS_COLUMNS = ("session_test_id", "email", "trial_id", "choice_reference", "choice_non_reference", "choice_answer",
                 "choice_time", "choice_comment")  # fmt: skip
"""`email` is the participant's field of webMUSHRA's own examples; here it holds the listener's name or code."""


class WebMushraFiles(NamedTuple):
    files: list[Path]
    notes: list[str]


def export_webmushra(result: ListeningResult, base: Path, out: Path | str) -> WebMushraFiles:
    """Write results and config into the folder `out`. base: what the key's folders of songs are relative to.

    Only the sets that count are written, and no checks. Raises StorageError, and InvalidRequest for a sound that can't
    be read.
    """
    folder = absolute(out)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    design, notes = result.design, []
    table = folder / ("paired_comparison.csv" if design.kind == "pairs" else "mushra.csv")
    replace_bytes(table, results_csv(result).encode())
    files = [table]
    if result.excluded:
        notes.append(f"{len(result.excluded)} answer sets that don't count were left out.")
    if design.reference is None:
        notes.append("No config: webMUSHRA's pages need a reference, and this test has none.")
        return WebMushraFiles(files, notes)
    replace_bytes(folder / "config.yaml", config_yaml(design).encode())
    files.append(folder / "config.yaml")
    for stimulus in _needed(design):
        path = folder / _sound_name(stimulus)
        replace_bytes(path, _wav(design, stimulus, base))
        files.append(path)
    return WebMushraFiles(files, notes)


def results_csv(result: ListeningResult) -> str:
    """Return the answers that count as webMUSHRA's results, checks left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    pairs = result.design.kind == "pairs"
    writer.writerow(PAIRS_COLUMNS if pairs else MUSHRA_COLUMNS)
    for answers in result.kept:
        writer.writerows(_pair_rows(result.design, answers) if pairs else _rating_rows(result.design, answers))
    return buffer.getvalue()


def _pair_rows(design: ListeningDesign, answers: AnswerSet) -> Iterator[list[str]]:
    for trial in _compared(design, answers):
        answer = answers.by_trial[trial.id]
        a, b = sorted(trial.stimuli, key=lambda each: design.conditions.index(design.stimulus(each).condition))
        chosen = "correct" if answer.choice == a else "incorrect"
        names = [_called(design.stimulus(each)) for each in (a, b)]
        yield [_test_id(design), _who(answers), trial.id, *names, chosen, str(round(answer.seconds * 1000)), ""]


def _rating_rows(design: ListeningDesign, answers: AnswerSet) -> Iterator[list[str]]:
    for trial in _compared(design, answers):
        answer = answers.by_trial[trial.id]
        for stimulus, rating in answer.ratings.items():
            found = design.stimulus(stimulus)
            name = "reference" if found.condition == design.reference and not found.treatment else _called(found)
            yield [_test_id(design), _who(answers), answers.attempt, trial.id, name, f"{rating:g}",
                   str(round(answer.seconds * 1000)), ""]  # fmt: skip


def _compared(design: ListeningDesign, answers: AnswerSet) -> Iterator[Trial]:
    return (trial for trial in design.trials if trial.role == "compare" and trial.id in answers.by_trial)


def _test_id(design: ListeningDesign) -> str:
    return f"harmonia_{design.id}"


def _who(answers: AnswerSet) -> str:
    return answers.listener or answers.attempt


def _called(stimulus: Stimulus) -> str:
    """Return webMUSHRA's name of a stimulus: its anchor is called anchor35."""
    return "anchor35" if stimulus.treatment == "anchor" else stimulus.condition


def config_yaml(design: ListeningDesign) -> str:
    """Return an experiment of webMUSHRA with a page for each trial: it adds hidden reference and anchor itself."""
    lines = [
        f"testname: {_quoted(design.title)}",
        f"testId: {_test_id(design)}",
        "bufferSize: 2048",
        "stopOnErrors: true",
        "showButtonPreviousPage: false",
        "remoteService: service/write.php",
        "pages:",
        "  -",
        "    - random",
    ]
    for trial in (each for each in design.trials if each.role == "compare"):
        stimuli = [design.stimulus(each) for each in trial.stimuli]
        lines += [
            "    - type: mushra",
            f"      id: {trial.id}",
            f"      name: {_quoted(design.title)}",
            f"      content: {_quoted(_html(design.question))}",
            "      showWaveform: false",
            "      enableLooping: true",
            f"      strict: {'true' if _seconds(design, trial) <= 12 else 'false'}",
            f"      reference: {_place(design.stimulus(trial.reference or ''))}",
            "      createAnchor35: true",
            "      createAnchor70: false",
            "      randomize: true",
            "      showConditionNames: false",
            "      stimuli:",
        ]
        rated = [each for each in stimuli if each.condition != design.reference and not each.treatment]
        lines += [f"        {_quoted(each.condition)}: {_place(each)}" for each in rated]
    lines += [
        "  - type: finish",
        "    name: Thank you",
        "    content: Thank you for attending.",
        "    showResults: false",
        "    writeResults: true",
        "    questionnaire:",
        "      - type: text",
        "        label: Your name or a code for you",
        "        name: email",
    ]
    return "\n".join([*lines, ""])


def _seconds(design: ListeningDesign, trial: Trial) -> float:
    return max(design.sounds[each]["seconds"] for each in trial.stimuli)


def _needed(design: ListeningDesign) -> list[Stimulus]:
    trials = [trial for trial in design.trials if trial.role == "compare"]
    found = {trial.reference or "" for trial in trials}
    for trial in trials:
        found |= {e for e in trial.stimuli if design.stimulus(e).condition != design.reference}
    return [each for each in design.stimuli if each.id in found and not each.treatment]


def _wav(design: ListeningDesign, stimulus: Stimulus, base: Path) -> bytes:
    """Return a sound as listeners heard it, as WAV; webMUSHRA reads no other, and wants one length and rate for all."""
    facts = design.sounds[stimulus.id]
    place = Excerpt(facts.get("start", 0.0), facts["seconds"])
    audio, rate = read_excerpt(base / stimulus.folder / "song.flac", place)
    audio = audio if len(audio) == 2 else np.repeat(audio, 2, axis=0)
    buffer = io.BytesIO()
    soundfile.write(buffer, (audio * 10 ** (facts["gain_db"] / 20)).T, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _sound_name(stimulus: Stimulus) -> str:
    return f"{stimulus.id}.wav"


def _place(stimulus: Stimulus) -> str:
    """Return where a sound is in webMUSHRA's folder, to which this one's files are copied."""
    return f"configs/resources/audio/{_sound_name(stimulus)}"


def _quoted(text: str) -> str:
    """Return a text as YAML's double-quoted scalar, of which JSON's strings are a part."""
    return json.dumps(text, ensure_ascii=False)


def _html(text: str) -> str:
    return re.sub(r"[<>&]", lambda found: f"&#{ord(found[0])};", text)
