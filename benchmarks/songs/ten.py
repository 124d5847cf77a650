"""`ten`: ten songs of ten kinds, from narratives with wishes, through the whole product; what was asked, what is heard.

Owns the ten narratives with what they ask for, and the table. The songs are made by the embedded model and the sketch
engine; `heard.py` measures them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.songs.children import ROOT, SONG_S, song_maker
from benchmarks.songs.heard import hear, key_text, read_plan
from benchmarks.songs.table import tempo_right
from harmonia_lab.bench.report import circumstances

__all__ = ["TEN", "Asked", "configure", "kept", "report", "run"]


class Asked(NamedTuple):
    """kind: for the table. bpm: (least, most). key: as "D minor", or a mode alone. genre: those that fit.
    with_, without: instruments or families (`_FAMILIES`). only: nothing else may play. What is None or empty was not
    asked for.
    """

    kind: str
    narrative: str
    bpm: tuple[float, float] | None = None
    key: str | None = None
    genre: tuple[str, ...] = ()
    beats_per_bar: int | None = None
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    only: bool = False
    seconds: float = 30.0


_FAMILIES = {
    "guitar": ("acoustic guitar", "nylon guitar", "electric guitar", "distorted guitar"),
    "strings": ("strings", "violin", "cello"),
    "brass": ("brass", "trumpet", "trombone", "french horn"),
    "drums": ("drums", "brush kit", "drum machine"),
    "bass": ("double bass", "bass guitar", "synth bass"),
    "synth": ("synth lead", "synth pad", "synth bass"),
    "piano": ("piano", "electric piano"),
}

TEN = (
    Asked(
        "slow waltz",
        "A slow waltz in D minor with solo cello and piano, 80 bpm, about an old ballroom that will be torn down "
        "tomorrow.",
        (80, 80), "D minor", ("waltz",), 3, ("cello", "piano"),
    ),
    Asked(
        "reggae without drums",
        "Write a reggae song in G major at 75 bpm with no drums, about a fisherman who gives half of his catch away.",
        (75, 75), "G major", ("reggae",), without=("drums",),
    ),
    Asked(
        "thrash metal",
        "Fast thrash metal, 180 bpm, E minor, distorted guitars. A soldier refuses to fire on his own people.",
        (180, 180), "E minor", ("metal",), with_=("distorted guitar",),
    ),
    Asked("lofi", "lofi, slow bpm, chill electronic with organic samples", (60, 95), None, ("hip hop", "electronic")),
    Asked(
        "bedtime",
        "A lullaby for my little girl Noor, three years old, only music box and harp, very quiet and slow. "
        "The fishing boats come in one by one and put out their lamps.",
        (40, 90), None, (), None, ("music box", "harp"), (), only=True,
    ),
    Asked(
        "birthday",
        "Happy 60th birthday to my dad Frank, who fixes bikes and cries at football! A funny, fast country song with "
        "banjo and harmonica in A major.",
        (110, 220), "A major", ("country",), with_=("banjo", "harmonica"),
    ),
    Asked(
        "synthwave",
        "upbeat 80s synthwave at 118 bpm in F# minor about driving through the city at night, no guitars please",
        (118, 118), "F# minor", ("electronic",), with_=("synth",), without=("guitar",),
    ),
    Asked(
        "news, no wish but a mood",
        "A bakery in Leeds baked through the night after the power cut and gave away nine hundred loaves by "
        "candlelight. Make it a hopeful folk song with acoustic guitar and violin, andante.",
        (72, 108), "major", ("folk",), with_=("acoustic guitar", "violin"),
    ),
    Asked(
        "bossa",
        "Bossa nova, 126 bpm, C major, nylon guitar and flute but without strings: two people share an umbrella and "
        "miss the tram on purpose.",
        (126, 126), "C major", ("bossa nova",), with_=("nylon guitar", "flute"), without=("strings",),
    ),
    Asked(
        "traps",
        "The cradle rocked in the old house of soul and swing. She found the key to the minor door, and the major "
        "waltzed past the metal gate at 90 kilometres an hour.",
    ),
)  # fmt: skip
"""The first four were made wrong before wishes were read. The last one holds no wish: nothing is asked for."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="a JSON file for what was asked and heard; one that exists is continued")
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="FOLDER", help="of the version (default: this)")
    parser.add_argument("--seed", type=int, default=7, help="default 7")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="also keep the songs there, to listen to")
    parser.add_argument("--stage-1", default="embedded", metavar="ENGINE", help="default embedded")


def run(options: argparse.Namespace) -> int:
    made = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"songs": []}
    left = [asked for asked in TEN if asked.kind not in {song["kind"] for song in made["songs"]}]
    if left:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with song_maker(options.checkout, options.stage_1) as (maker, version):
            about = circumstances()
            about["host"].pop("host", None)  # figures are published: no names of machines
            made |= {"circumstances": about, "version": version}
            for asked in left:
                print(asked.kind, file=sys.stderr)
                song = {"narrative": asked.narrative, "seed": options.seed, "seconds": asked.seconds}
                answer = maker.request(SONG_S, what="narrative", **song)
                made["songs"].append({"kind": asked.kind, **song, **_measured(answer)})
                if options.keep and "song" in answer:
                    shutil.copytree(answer["song"], options.keep / asked.kind.replace(" ", "-"), dirs_exist_ok=True)
                options.out.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(report(made["songs"]))
    return 0


def _measured(answer: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        return {"error": answer["error"]}
    plan = read_plan(Path(answer["song"]))
    planned = {
        "bpm": plan["bpm"],
        "key": key_text(plan["tonic"], plan["mode"]),
        "beats_per_bar": plan["beats_per_bar"],
        "genre": plan["genre"],
    }
    return {"metadata": answer["metadata"], "planned": planned, "heard": hear(Path(answer["song"]))}


def kept(asked: Asked, song: Mapping[str, Any]) -> dict[str, bool]:
    """Return {wish: whether it is heard}. Genre and metre, which no meter hears, are taken from the plan."""
    heard, planned = song["heard"], song["planned"]
    names = heard["instruments"]
    found: dict[str, bool] = {}
    if asked.bpm:
        least, most = asked.bpm
        found["tempo"] = least <= heard["bpm"] <= most or any(tempo_right(edge, heard["bpm"]) for edge in asked.bpm)
    if asked.key:
        found["key"] = heard["key"].endswith(asked.key)
    if asked.genre:
        found["genre"] = planned["genre"] in asked.genre
    if asked.beats_per_bar:
        found["metre"] = planned["beats_per_bar"] == asked.beats_per_bar
    for wanted in asked.with_:
        found[f"with {wanted}"] = any(_is(name, wanted) for name in names)
    for unwanted in asked.without:
        found[f"no {unwanted}"] = not any(_is(name, unwanted) for name in names)
    if asked.only:
        found["nothing else"] = all(any(_is(name, wanted) for wanted in asked.with_) for name in names)
    return found


def _is(name: str, wanted: str) -> bool:
    """Return whether a part's name ("cello", "cello 2") is that instrument, or of that family."""
    instrument = name.rstrip(" 0123456789")
    return instrument == wanted or instrument in _FAMILIES.get(wanted, ())


def report(songs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, in Markdown: what was asked, what is heard, and the wishes that are not."""
    text = [
        "| kind | asked | heard | instruments | LUFS | crest | lead | missed |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(asked, song) for asked in TEN for song in songs if song["kind"] == asked.kind),
    ]
    checks = [kept(asked, song) for asked in TEN for song in songs if song["kind"] == asked.kind and "heard" in song]
    wishes = [done for each in checks for done in each.values()]
    return "\n".join([*text, "", f"{sum(wishes)} of {len(wishes)} wishes are heard."])


def _line(asked: Asked, song: Mapping[str, Any]) -> str:
    if "heard" not in song:
        return f"| {asked.kind} | {', '.join(_asked(asked))} | {song['error']} | | | | | all |"
    heard, planned = song["heard"], song["planned"]
    missed = [wish for wish, done in kept(asked, song).items() if not done]
    lead = "" if heard["lead_db"] is None else f"{heard['lead_db']:+.1f}"
    sound = f"{heard['bpm']:.1f} bpm, {heard['key']}; {planned['genre']}, {planned['beats_per_bar']}/4"
    return (
        f"| {asked.kind} | {', '.join(_asked(asked)) or 'nothing'} | {sound} | {', '.join(heard['instruments'])} "
        f"| {heard['lufs']:.1f} | {heard['crest']:.1f} | {lead} | {', '.join(missed)} |"
    )


def _asked(asked: Asked) -> Iterable[str]:
    if asked.bpm:
        least, most = asked.bpm
        yield f"{least:g} bpm" if least == most else f"{least:g} to {most:g} bpm"
    yield from filter(None, (asked.key, "/".join(asked.genre)))
    if asked.beats_per_bar:
        yield f"{asked.beats_per_bar}/4"
    yield from asked.with_
    yield from (f"no {name}" for name in asked.without)
    if asked.only:
        yield "nothing else"
