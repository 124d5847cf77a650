"""`measure`: makes songs of all genres and moods with one version, and measures each; and plans alone, for variety.

Owns which songs are made, the file of results, and how it is continued. `heard.py` measures a song, `table.py` reads
the file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.songs import plans, table
from benchmarks.songs.children import ROOT, SONG_S, song_maker
from benchmarks.songs.clicks import click_and_chords
from benchmarks.songs.heard import hear, key_text, read_plan
from benchmarks.songs.lyrics import LYRICS
from harmonia_lab.audio_engines.listening.key import estimate_key
from harmonia_lab.audio_engines.listening.tempo import estimate_tempo
from harmonia_lab.bench.report import check_range, circumstances
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.vocabulary import GENRES, MOODS, TONICS

__all__ = ["configure", "run", "songs_asked"]

RATE = 24_000
"""Hz, of clicks and chords: enough for all that the meters listen to."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="a JSON-lines file; one that exists is continued")
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="FOLDER", help="of the version (default: this)")
    parser.add_argument("--songs", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument("--first-seed", type=int, default=1000, metavar="SEED", help="default 1000")
    parser.add_argument("--seconds", type=float, default=22.0, help="length of the songs (default 22)")
    parser.add_argument(
        "--plans", type=int, default=24, metavar="N", help="plans of each genre, for variety (default 24)"
    )
    parser.add_argument("--for", dest="for_s", type=float, metavar="S", help="start no song after S seconds")


def run(options: argparse.Namespace) -> int:
    check_range("songs", options.songs, 10_000)
    check_range("seconds", options.seconds, 600)
    rows = table.read_rows([options.out]) if options.out.exists() else []
    done = {_identity(row) for row in rows}
    wanted = list(songs_asked(options.songs, options.first_seed, options.seconds))
    left = [one for one in wanted if _identity(one) not in done]
    variety = [one for one in _plans_asked(options.plans, options.seconds) if _identity(one) not in done]
    print(f"{len(left)} of {len(wanted)} songs to make, {len(variety)} plans", file=sys.stderr)
    if left or variety:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + options.for_s if options.for_s else float("inf")
        with song_maker(options.checkout) as (maker, version), options.out.open("a", encoding="utf-8") as file:
            about = circumstances()
            about["host"].pop("host", None)  # figures are published: no names of machines
            _write(file, {"kind": "about", "circumstances": about, "version": version})
            for one in variety:
                if time.monotonic() < until:
                    _write(file, _plan_row(one, maker.request(SONG_S, **_request("plan", one))))
            for number, one in enumerate(left, 1):
                if time.monotonic() > until:
                    print(f"stopped after {number - 1} songs; the same command continues", file=sys.stderr)
                    break
                row = _song_row(one, maker.request(SONG_S, **_request("song", one)))
                _write(file, row)
                heard = f"{row['bpm']} bpm, heard {row['heard']['bpm']}; {row['key']}, heard {row['heard']['key']}"
                print(f"{number} of {len(left)}, {one['genre']}, {one['mood']}: {heard}", file=sys.stderr)
    print(table.report(table.read_rows([options.out])))
    return 0


def songs_asked(count: int, first_seed: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what songs are made of: genres in turn, each with the moods in turn, another seed and text for each song.

    Genres and moods have a common divisor, so that a genre moves on by one mood in each round.
    """
    for number in range(count):
        turn, place = divmod(number, len(GENRES))
        yield {
            "kind": "song",
            "genre": GENRES[place],
            "mood": MOODS[(number + turn) % len(MOODS)],
            "seed": first_seed + number,
            "text": number % len(LYRICS),
            "seconds": seconds,
        }


def _plans_asked(seeds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the plans for the measures of variety, all of one mood.

    In each genre: one text with so many seeds ("plan"), and, if there are any, one seed with all texts ("story").
    """
    for genre in GENRES:
        own = {"genre": genre, "mood": "hopeful", "seconds": seconds}
        yield from ({"kind": "plan", **own, "seed": seed, "text": 0} for seed in range(seeds))
        if seeds:
            yield from ({"kind": "story", **own, "seed": 7, "text": text} for text in range(len(LYRICS)))


def _request(what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: asked[name] for name in ("genre", "mood", "seed", "seconds")}
    return {"what": what, "lyrics": LYRICS[asked["text"]], **known}


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("kind", "genre", "mood", "seed", "text", "seconds"))


def _plan_row(asked: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise HarmoniaError(f"{asked['genre']}, seed {asked['seed']}: {answer['error']}")
    return {**asked, **_planned(answer["plan"])}


def _song_row(asked: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked, planned and heard, and what the meters hear of the same plan as clicks and chords."""
    if "error" in answer:
        raise HarmoniaError(f"{asked['genre']}, seed {asked['seed']}: {answer['error']}")
    folder = Path(answer["song"])
    plan = read_plan(folder)
    clicks = click_and_chords(plan, RATE)
    row = {
        **asked,
        "bpm": plan["bpm"],
        "key": key_text(plan["tonic"], plan["mode"]),
        **_planned(plan),
        "heard": hear(folder),
        "clicks": {"bpm": round(estimate_tempo(clicks, RATE), 2), "key": key_text(*estimate_key(clicks, RATE))},
        "stage_2_s": answer["stage_2_s"],
        "cpu_s": answer["cpu_s"],
        "load": psutil.getloadavg()[0],
    }
    shutil.rmtree(folder)
    return row


def _planned(plan: Mapping[str, Any]) -> dict[str, Any]:
    """tune: [[sixteenths since the note before, pitch], …] of the melody."""
    before, tune = 0, []
    for at, pitch in plans.melody(plan):
        tune.append([at - before, pitch])
        before = at
    return {
        "tonic": TONICS[plan["tonic"]],
        "progressions": plans.progressions(plan),
        "groove": plans.groove(plan),
        "entries": plans.entries(plan),
        "tune": tune,
    }


def _write(file: Any, row: Mapping[str, Any]) -> None:
    print(json.dumps(row, ensure_ascii=False, separators=(",", ":")), file=file, flush=True)
