"""Folders of songs to listen to, made in a moment: tones of two engines and several seeds, and a study's folder."""

import json

import numpy as np
import soundfile

RATE = 8000


def tone(path, seconds, pitch, level=0.3, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    wave = level * (np.sin(2 * np.pi * pitch * t) + 0.3 * np.sin(2 * np.pi * 3.1 * pitch * t)) / 1.3
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate, format="FLAC", subtype="PCM_16")


def make_song(folder, *, engine="sketch", seed=7, seconds=1.0, story="A boat goes home.", level=0.3, pitch=440.0,
              options=None, extra=None, rate=RATE, channels=1):  # fmt: skip
    tone(folder / "song.flac", seconds, pitch, level, rate, channels)
    request = {"narrative": story, "seconds": round(seconds), "seed": seed}
    record = {
        "recordVersion": 2,
        "generationId": folder.name,
        "request": request | ({"audioOptions": options} if options else {}),
        "engines": {"metadata": {"engine": "embedded", "model": "small"}, "audio": {"engine": engine, **(extra or {})}},
        "files": {"song.flac": {"sha256": "0" * 64, "bytes": 1}},
        "seconds": {},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def make_batch(folder, engines=("sketch", "musicgen"), seeds=(1, 2, 3), **fields):
    """Songs of every engine and seed, each engine of a loudness and a pitch of its own."""
    for number, engine in enumerate(engines):
        for seed in seeds:
            at = {"level": 0.3 / (1 + number), "pitch": 220 * (1 + number) + 10 * seed} | fields
            make_song(folder / f"{engine}-{seed}", engine=engine, seed=seed, **at)
    return folder


def make_study(folder, configurations=("fast", "int8"), blocks=4):
    """A study's folder as `harmonia study` leaves it, as far as it says which song is which."""
    rows, told = [], []
    for block in range(1, blocks + 1):
        told.append({"number": block, "story": 1, "seed": block, "seconds": 1.0, "order": list(configurations)})
        for number, name in enumerate(configurations):
            place = f"songs/{block:04}-{number}-{name}"
            make_song(folder / place, seed=block, pitch=300 + 50 * number + block)
            rows.append({"status": "completed", "block": block, "configuration": name, "directory": place})
    study = {"studyVersion": 1, "design": {"configurations": {name: {} for name in configurations}}, "blocks": told}
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def answered(design, listener, choose, *, seed=1, complete=True, rate=None, passes=True):
    """An answer set as the page writes it.

    choose(conditions as shown): the number of the preferred one. rate(condition, treatment): a rating. passes: whether
    the checks are answered rightly.
    """
    from harmonia_lab.listening.answers import ANSWERS_VERSION
    from harmonia_lab.listening.design import listener_order

    trials = {trial.id: trial for trial in design.trials}
    answers = []
    for name, order in listener_order([(trial.id, trial.stimuli) for trial in design.trials], seed):
        trial = trials[name]
        if design.kind == "pairs":
            if trial.role == "check":
                choice = trial.better if passes else trial.worse
            else:
                choice = order[choose([design.stimulus(each).condition for each in order])]
            given = {"choice": choice}
        else:
            found = {each: design.stimulus(each) for each in order}
            ratings = {each: rate(s.condition, s.treatment) for each, s in found.items()}
            if trial.role == "check":
                ratings = {trial.better: 95 if passes else 5, trial.worse: 10}
            given = {"ratings": ratings}
        answers.append({"trial": name, "order": order, **given, "heard": dict.fromkeys(order, 2.0), "seconds": 6.5})
    return {
        "harmoniaAnswers": ANSWERS_VERSION, "test": design.id, "kind": design.kind, "attempt": f"{seed:024x}",
        "listener": listener, "seed": seed, "startedAt": "2026-11-28T10:00:00Z",
        "finishedAt": f"2026-11-28T10:{seed % 60:02}:00Z", "complete": complete,
        "answers": answers if complete else answers[:-1],
    }  # fmt: skip
