"""`table`: turns measured songs into the figures of a version, or of several beside each other.

Owns how the measures of single songs are put together, and the layout of the tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.songs import plans
from harmonia_lab.protocol.vocabulary import GENRES

__all__ = ["configure", "read_rows", "report", "run", "summary"]

Row = Mapping[str, Any]

TEMPO_TOLERANCE = 0.02
"""Relative. Half and double tempo are wrong."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", help="files that `measure` wrote, one for each version")
    parser.add_argument("--genres", action="store_true", help="also a row for each genre, of the last file")
    parser.add_argument("--wrong", action="store_true", help="also list the songs that are not heard as planned")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")


def run(options: argparse.Namespace) -> int:
    versions = {file.stem: read_rows([file]) for file in options.files}
    print(report(*versions.values(), names=list(versions)))
    last = versions[options.files[-1].stem]
    if options.genres:
        print("\n" + "\n".join(_by_genre(last)))
    if options.wrong:
        print("\n" + "\n".join(_wrong(last)))
    if options.json:
        options.json.write_text(
            json.dumps({name: summary(rows) for name, rows in versions.items()}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


def read_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the rows of songs and plans, without those that describe the machine."""
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["kind"] != "about"]


def tempo_right(planned: float, heard: float) -> bool:
    return abs(heard / planned - 1) <= TEMPO_TOLERANCE


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of one version; shares are of 1, levels in dB."""
    songs = [row for row in rows if row["kind"] == "song"]
    variety = [row for row in rows if row["kind"] == "plan"]
    leads = [row["heard"]["lead_db"] for row in songs if row["heard"]["lead_db"] is not None]
    crests = _medians(songs, "crest")
    entries = [entry for row in songs for entry in row["entries"]]
    by_genre, stories = _groups(rows, "plan"), _groups(rows, "story")
    grooves = [found for group in by_genre if (found := plans.different_grooves(row["groove"] for row in group))]
    return {
        "n_songs": len(songs),
        "tempo_clicks": _share(tempo_right(row["bpm"], row["clicks"]["bpm"]) for row in songs),
        "tempo_songs": _share(tempo_right(row["bpm"], row["heard"]["bpm"]) for row in songs),
        "key_clicks": _share(row["key"] == row["clicks"]["key"] for row in songs),
        "key_songs": _share(row["key"] == row["heard"]["key"] for row in songs),
        "lufs": _median(row["heard"]["lufs"] for row in songs),
        "lufs_apart": max((abs(row["heard"]["lufs"] + 14) for row in songs), default=None),
        "true_peak": max((row["heard"]["true_peak"] for row in songs), default=None),
        "crest": _median(row["heard"]["crest"] for row in songs),
        "crest_spread": round(max(crests.values()) - min(crests.values()), 2) if crests else None,
        "lead_db": _median(leads),
        "lead_low_genre": min(_medians(songs, "lead_db").values(), default=None),
        "lead_reached": _share(lead >= -2 for lead in leads),
        "entries_on_the_bar": _share(entry < 1 for entry in entries),
        "cpu_s": _median(row["cpu_s"] for row in songs),
        "stage_2_s": _median(row["stage_2_s"] for row in songs),
        "n_plans": len(variety),
        "progressions_least": min((_different(group, "progressions") for group in by_genre), default=None),
        "progressions": _median(_different(group, "progressions") for group in by_genre),
        "grooves_least": min(grooves, default=None),
        "grooves": _median(grooves),
        "shared_seeds": _shared(by_genre),
        "shared_stories": _shared(stories),
        "story_progressions": _median(_different(group, "progressions") for group in stories),
    }


def _groups(rows: Sequence[Row], kind: str) -> list[list[Row]]:
    """Return the rows of a kind, genre by genre."""
    found = [[row for row in rows if row["kind"] == kind and row["genre"] == genre] for genre in GENRES]
    return [group for group in found if group]


def _different(rows: Sequence[Row], what: str) -> int:
    """Return how many different progressions (of verse and chorus together) the songs of a genre have."""
    return len({json.dumps(row[what], sort_keys=True) for row in rows})


def _shared(by_genre: Sequence[Sequence[Row]]) -> float | None:
    """Return the mean share of figures that the melodies of two songs of one genre have in common."""
    found = []
    for group in by_genre:
        sets = [plans.figures(_tune(row)) for row in group]
        found += [plans.shared_figures(one, other) for one, other in itertools.combinations(sets, 2)]
    known = [share for share in found if share is not None]
    return round(statistics.mean(known), 4) if known else None


def _tune(row: Row) -> list[tuple[int, int]]:
    onsets = itertools.accumulate(gap for gap, _ in row["tune"])
    return [(at, pitch) for at, (_, pitch) in zip(onsets, row["tune"], strict=True)]


def _medians(songs: Sequence[Row], what: str) -> dict[str, float]:
    """Return {genre: median} of a measure of the songs' sound."""
    found = {g: [r["heard"][what] for r in songs if r["genre"] == g and r["heard"][what] is not None] for g in GENRES}
    return {genre: round(statistics.median(values), 2) for genre, values in found.items() if values}


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(statistics.median(found), 3) if found else None


def _share(right: Iterable[bool]) -> float | None:
    found = list(right)
    return round(sum(found) / len(found), 4) if found else None


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _decimal(value: float) -> str:
    return f"{value:.2f}"


LAYOUT: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("songs", "n_songs", "200", str),
    ("tempo within 2 %: clicks and chords", "tempo_clicks", "≥ 95 %", _percent),
    ("tempo within 2 %: songs", "tempo_songs", "within 3 points", _percent),
    ("key: clicks and chords", "key_clicks", "≥ 90 %", _percent),
    ("key: songs", "key_songs", "within 3 points", _percent),
    ("loudness, LUFS (median)", "lufs", "−14", _decimal),
    ("farthest from −14 LUFS, LU", "lufs_apart", "", _decimal),
    ("highest true peak, dBTP", "true_peak", "≤ −1", _decimal),
    ("crest, dB (median)", "crest", "", _decimal),
    ("crest: spread of the genres' medians, dB", "crest_spread", "≥ 5", _decimal),
    ("lead against band, dB (median)", "lead_db", "≥ −2", _decimal),
    ("the same, median of the lowest genre", "lead_low_genre", "≥ −2", _decimal),
    ("songs with a lead of −2 dB or more", "lead_reached", "", _percent),
    ("lines that begin on a bar's first beat", "entries_on_the_bar", "", _percent),
    ("stage 2, processor s (median)", "cpu_s", "≤ 1.3 ×", _decimal),
    ("stage 2, s (median)", "stage_2_s", "", _decimal),
    ("plans: one mood, 24 seeds a genre", "n_plans", "432", str),
    ("progressions of the genre with the fewest", "progressions_least", "≥ 6", str),
    ("progressions of a genre (median)", "progressions", "", str),
    ("grooves of the genre with the fewest", "grooves_least", "≥ 3", str),
    ("grooves of a genre (median)", "grooves", "", str),
    ("figures of 4 notes shared by melodies of 2 seeds", "shared_seeds", "≤ 8 %", _percent),
    ("the same, of 2 stories with one seed", "shared_stories", "≤ 8 %", _percent),
    ("progressions of 6 stories with one seed (median)", "story_progressions", "", str),
)
"""Rows of the table: label, figure, what issue 12 asks for, format."""


def report(*versions: Sequence[Row], names: Sequence[str] = ("",)) -> str:
    """Return the table, in Markdown, with a column for each version."""
    found = [summary(rows) for rows in versions]
    text = [f"| | {' | '.join(names)} | wanted |", f"|---|{'---|' * len(found)}---|"]
    for label, name, wanted, form in LAYOUT:
        cells = ["" if one[name] is None else form(one[name]) for one in found]
        text.append(f"| {label} | {' | '.join(cells)} | {wanted} |")
    return "\n".join(text)


def _by_genre(rows: Sequence[Row]) -> Iterable[str]:
    songs = [row for row in rows if row["kind"] == "song"]
    crests, leads = _medians(songs, "crest"), _medians(songs, "lead_db")
    yield "| genre | songs | tempo | key | crest | lead | progressions | grooves |"
    yield "|---|---|---|---|---|---|---|---|"
    for genre in GENRES:
        own = [row for row in songs if row["genre"] == genre]
        group = [row for row in rows if row["kind"] == "plan" and row["genre"] == genre]
        tempo = sum(tempo_right(row["bpm"], row["heard"]["bpm"]) for row in own)
        key = sum(row["key"] == row["heard"]["key"] for row in own)
        cells = (
            genre, len(own), tempo, key, crests.get(genre, ""), leads.get(genre, ""), _different(group, "progressions"),
            plans.different_grooves(row["groove"] for row in group),
        )  # fmt: skip
        yield f"| {' | '.join(map(str, cells))} |"


def _wrong(rows: Sequence[Row]) -> Iterable[str]:
    for row in rows:
        if row["kind"] != "song":
            continue
        for what in ("heard", "clicks"):
            of = f"- {row['genre']}, {row['mood']}, seed {row['seed']}, {what}"
            if not tempo_right(row["bpm"], row[what]["bpm"]):
                ratio = row[what]["bpm"] / row["bpm"]
                yield f"{of}: {row['bpm']:g} bpm as {row[what]['bpm']:g} (× {ratio:.2f})"
            if row["key"] != row[what]["key"]:
                yield f"{of}: {row['key']} as {row[what]['key']}"
