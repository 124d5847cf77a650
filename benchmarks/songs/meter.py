"""`meter`: how right the product's meter is, on songs and on sounds whose truth is known.

Owns the comparison of what is measured with what is so: the plan of a song, which the sketch engine plays to the note,
and sounds made for the purpose (clicks and chords of a plan; noise, a held chord, random clicks and notes, syllables,
which have no beat or no key). The meter is `harmonia_lab/audio_engines/listening`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
from numpy.typing import NDArray

from benchmarks.songs.children import ROOT, SONG_S, song_maker
from benchmarks.songs.clicks import click_and_chords
from benchmarks.songs.heard import read_plan, read_stems
from benchmarks.songs.lyrics import LYRICS
from benchmarks.songs.measure import songs_asked
from harmonia_lab.audio_engines.listening import Measures, measure
from harmonia_lab.bench.report import check_range, circumstances
from harmonia_lab.protocol.vocabulary import PITCH_CLASSES

__all__ = ["configure", "key_score", "matched", "report", "run", "without_beat"]

Sound = NDArray[np.float32]

RATE = 48_000
TEMPO_TOLERANCE, BEAT_S, BORDER_S = 0.04, 0.07, 1.0
"""Relative difference of a right tempo; how far a right beat (the field's 70 ms) and a right border may lie away."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--songs", type=int, default=54, metavar="N", help="default 54, three of each genre")
    parser.add_argument("--first-seed", type=int, default=5000, metavar="SEED", help="default 5000")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the songs (default 30)")
    parser.add_argument("--sounds", type=int, default=20, metavar="N", help="of each kind without a beat (default 20)")
    parser.add_argument("--for", dest="for_s", type=float, metavar="S", help="start no song after S seconds")


def run(options: argparse.Namespace) -> int:
    check_range("songs", options.songs, 1000)
    check_range("sounds", options.sounds, 1000)
    check_range("seconds", options.seconds, 600)
    about = circumstances()
    about["host"].pop("host", None)  # figures are published: no names of machines
    rows = list(_songs(options))
    kinds = (each for seed in range(options.sounds) for each in without_beat(seed, options.seconds))
    sounds = [_heard(name, sound, {}) for name, sound in kinds]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figures = {"circumstances": about, "seconds": options.seconds, "songs": rows, "without": sounds}
    options.out.write_text(json.dumps(figures, separators=(",", ":")) + "\n", encoding="utf-8")
    print(report(rows, sounds))
    return 0


def _songs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is measured in each song, and in the clicks and chords of its plan."""
    until = time.monotonic() + options.for_s if options.for_s else float("inf")
    with song_maker(ROOT) as (maker, _):
        for one in songs_asked(options.songs, options.first_seed, options.seconds):
            if time.monotonic() > until:
                break
            asked = {name: one[name] for name in ("genre", "mood", "seed", "seconds")}
            answer = maker.request(SONG_S, what="song", lyrics=LYRICS[one["text"]], **asked)
            folder = Path(answer["song"])
            plan, stems = read_plan(folder), read_stems(folder)
            audio, rate = soundfile.read(folder / "song.wav", dtype="float32", always_2d=True)
            assert rate == RATE
            yield _heard("song", audio.T, plan, [stem.astype(np.float32) for stem in stems.values()]) | asked
            yield _heard("clicks", click_and_chords(plan, RATE)[None].astype(np.float32), plan) | asked
            shutil.rmtree(folder)
            print(f"{one['genre']}, {one['mood']}", file=sys.stderr)


def _heard(kind: str, audio: Sound, plan: Mapping[str, Any], stems: Sequence[Sound] = ()) -> dict[str, Any]:
    """Return what is measured, what it cost, and how right it is. plan: {} where there is no beat and no key."""
    began = time.process_time()
    found = measure(audio, RATE, rendered=stems)
    row: dict[str, Any] = {
        "kind": kind,
        "cpu_s": round(time.process_time() - began, 4),
        "load": psutil.getloadavg()[0],
        **{name: value for name, value in found.to_json().items() if name not in ("beats", "sections")},
    }
    return row | (_compared(found, plan) if plan else {})


def _compared(found: Measures, plan: Mapping[str, Any]) -> dict[str, Any]:
    bar = 60 / plan["bpm"] * plan["beats_per_bar"]
    true = (plan["tonic"], plan["mode"])
    return {
        "planned_bpm": plan["bpm"],
        "planned_key": list(true),
        "tempo_ratio": found.heard.bpm and round(found.heard.bpm / plan["bpm"], 4),
        "key_score": key_score(found.heard.key, *true),
        "beats_f": matched(found.beats, np.arange(0, plan["seconds"], 60 / plan["bpm"]).tolist(), BEAT_S),
        "sections_f": matched(found.sections, [s["bar"] * bar for s in plan["sections"]], BORDER_S),
    }


def key_score(heard: str | None, tonic: int, mode: str) -> float:
    """Return MIREX's score of a key, as mir_eval has it: 1 right, 0.5 a fifth above, 0.3 relative, 0.2 parallel, 0."""
    if heard is None:
        return 0.0
    name, heard_mode = heard.split()
    step = (PITCH_CLASSES[name] - tonic) % 12
    if heard_mode == mode:
        return {0: 1.0, 7: 0.5}.get(step, 0.0)
    if step == (9 if mode == "major" else 3):
        return 0.3
    return 0.2 if step == 0 else 0.0


def matched(found: Sequence[float], true: Sequence[float], within: float) -> float:
    """Return the F-measure of times that lie within so many seconds of each other, each matched once, in order."""
    hits = i = j = 0
    while i < len(found) and j < len(true):
        if abs(found[i] - true[j]) <= within:
            hits, i, j = hits + 1, i + 1, j + 1
        elif found[i] < true[j]:
            i += 1
        else:
            j += 1
    return round(2 * hits / (len(found) + len(true)), 4) if found or true else 1.0


def without_beat(seed: int, seconds: float) -> Iterator[tuple[str, Sound]]:
    """Yield sounds without a beat, most of them without a key, [1, samples] at 48 kHz: their kind, and the sound."""
    rng = np.random.default_rng(seed)
    count = round(RATE * seconds)
    t = np.arange(count) / RATE
    white = rng.normal(size=count)
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    pink = np.fft.irfft(spectrum, count)
    held = np.sum([np.sin(2 * np.pi * hertz * t) / 4 for hertz in (110.0, 164.8, 220.0, 277.2)], axis=0)
    hit = rng.normal(size=RATE // 10) * np.exp(-np.arange(RATE // 10) / 1200)
    onsets = np.cumsum(rng.exponential(0.4, round(seconds * 4)))
    clicks = _placed(count, ((at, hit * rng.uniform(0.1, 0.4)) for at in onsets))
    yield from (
        (name, np.asarray(sound[None], np.float32))
        for name, sound in (
            ("white noise", 0.1 * white),
            ("pink noise", 0.1 * pink / pink.std()),
            ("held chord", held),
            ("clicks at random", clicks),
            ("notes at random", _placed(count, _notes(rng, seconds))),
            ("syllables", _placed(count, _syllables(rng, seconds))),
        )
    )


def _placed(count: int, sounds: Iterable[tuple[float, NDArray[np.float64]]]) -> NDArray[np.float64]:
    total = np.zeros(count)
    for at, sound in sounds:
        first = round(at * RATE)
        total[first : first + len(sound)] += sound[: max(0, count - first)]
    return total


def _notes(rng: np.random.Generator, seconds: float) -> Iterator[tuple[float, NDArray[np.float64]]]:
    at = 0.0
    while at < seconds:
        length = rng.uniform(0.15, 0.9)
        t = np.arange(round(length * RATE)) / RATE
        hertz = 440 * 2 ** (rng.integers(-12, 12) / 12)
        yield at, 0.2 * np.sin(2 * np.pi * hertz * t) * np.minimum(1, t / 0.02) * np.exp(-t / 0.3)
        at += length


def _syllables(rng: np.random.Generator, seconds: float) -> Iterator[tuple[float, NDArray[np.float64]]]:
    at = 0.0
    while at < seconds:
        length = float(np.clip(rng.normal(0.22, 0.08), 0.08, 0.6))
        t = np.arange(round(0.9 * length * RATE)) / RATE
        yield (
            at,
            0.2 * np.hanning(len(t)) * (np.sin(2 * np.pi * rng.uniform(100, 180) * t) + 0.3 * rng.normal(size=len(t))),
        )
        at += length + (rng.uniform(0.3, 1.0) if rng.random() < 0.12 else 0.0)


def report(rows: Sequence[Mapping[str, Any]], without: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, in Markdown."""
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("song", "clicks")}
    text = [f"| | {' | '.join(f'{name} ({len(found)})' for name, found in kinds.items())} |", "|---|---|---|"]
    for label, figure in (
        ("tempo named", lambda row: row["bpm"] is not None),
        ("tempo within 4 %", lambda row: _near(row, (1,))),
        ("the same, or its half or double", lambda row: _near(row, (0.5, 1, 2))),
        ("key named", lambda row: row["key"] is not None),
        ("key right", lambda row: row["key_score"] == 1),
        ("key, MIREX's score", lambda row: row["key_score"]),
        ("beats within 70 ms, F", lambda row: row["beats_f"]),
        ("sections within 1 s, F", lambda row: row["sections_f"]),
    ):
        means = (f"{statistics.mean(map(figure, found)):.3f}" for found in kinds.values() if found)
        text.append(f"| {label} | {' | '.join(means)} |")
    costs = [row["cpu_s"] for row in rows if row["kind"] == "song"]
    text += [
        "",
        f"Processor time: median {statistics.median(costs):.3f} s, at most {max(costs):.3f} s, n = {len(costs)}",
    ]
    text += ["", "| without a beat | sounds | tempo named | key named |", "|---|---|---|---|"]
    for kind in dict.fromkeys(row["kind"] for row in without):
        own = [row for row in without if row["kind"] == kind]
        named = (sum(row[name] is not None for row in own) for name in ("bpm", "key"))
        text.append(f"| {kind} | {len(own)} | {' | '.join(map(str, named))} |")
    return "\n".join(text)


def _near(row: Mapping[str, Any], ratios: Sequence[float]) -> bool:
    heard = row["tempo_ratio"]
    return heard is not None and any(abs(heard / ratio - 1) <= TEMPO_TOLERANCE for ratio in ratios)
