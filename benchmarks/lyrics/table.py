"""`table`: turns the songs of a comparison into medians and shares, version by version.

Owns how the metrics of single songs are put together, and the layout of the table. The metrics are in `metrics.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lyrics import metrics
from harmonia_lab.protocol.models import SongMetadata

__all__ = ["configure", "read_rows", "report", "run", "summary"]

Row = Mapping[str, Any]

VERSIONS = ("before", "after")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", help="files that `compare` wrote")
    parser.add_argument("--json", metavar="FILE", help="also write the figures")
    parser.add_argument("--list", action="store_true", help="also list broken titles, shared lines and unsung lines")


def run(options: argparse.Namespace) -> int:
    rows = read_rows(options.files)
    print(report(rows))
    if options.list:
        print("\n".join(_listed(rows)))
    if options.json:
        Path(options.json).write_text(json.dumps(figures(rows), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if rows else 1


def read_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the blocks of the files, without the lines that describe the machine."""
    found = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [row for row in found if "songs" in row]


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Return {version: {figure: value}}."""
    names = [name for name in VERSIONS if any(name in row["songs"] for row in rows)]
    return {name: summary(rows, name) for name in names}


def summary(rows: Sequence[Row], version: str) -> dict[str, Any]:
    """Return one version's figures: medians, and shares of 1 with what they are shares of (`n_…`)."""
    made = [(row, row["songs"][version]) for row in rows if version in row["songs"]]
    songs = [(row, song, SongMetadata.model_validate(song["metadata"])) for row, song in made if "metadata" in song]
    words = [[list(section.lines) for section in metadata.sections] for _, _, metadata in songs]
    lines = [list(dict.fromkeys(line for section in each for line in section)) for each in words]
    english = [number for number, (row, _, _) in enumerate(songs) if _language(row) == "en"]
    pairs = [pair for each in words for pair in metrics.couplets(each)]
    kinds = Counter(map(metrics.rhyme_kind, pairs))
    shares = [metrics.story_share(lines[number], songs[number][0]["narrative"]) for number in english]
    named = [(row, metadata) for row, _, metadata in songs if _names(row)]
    common = _common_openings(lines)
    return {
        "n_songs": len(made),
        "failed": len(made) - len(songs),
        "stage_1_s": _median(song["stage_1_s"] for _, song, _ in songs),
        "cpu_s": _median(song["cpu_s"] for _, song, _ in songs),
        "first_token_s": _median(s["first_token_s"] for _, s, _ in songs if s["first_token_s"] is not None),
        "tokens": _median(song["tokens"] for _, song, _ in songs),
        "load": _median(row["load"] for row, _ in made),
        "n_couplets": len(pairs),
        "rhyme_perfect": _share(kinds["perfect"], len(pairs)),
        "rhyme_near": _share(kinds["near"], len(pairs)),
        "rhyme_none": _share(kinds["none"], len(pairs)),
        "syllables_3_apart": _share(sum(metrics.syllable_difference(pair) >= 3 for pair in pairs), len(pairs)),
        "n_lines": sum(map(len, lines)),
        "story_word": _share(sum(hits for hits, _ in shares), sum(number for _, number in shares)),
        "stock_songs": _share(sum(any(map(metrics.is_stock, each)) for each in lines), len(lines)),
        "common_opening_songs": _share(sum(any(metrics.opening(x) in common for x in y) for y in lines), len(lines)),
        "lines_shared": len(metrics.shared_lines(lines)),
        "titles_broken": sum(bool(metrics.title_faults(m.title, row["narrative"])) for row, _, m in songs),
        "titles_shared": len(songs) - len({metadata.title for _, _, metadata in songs}),
        "n_named": len(named),
        "names": _share(sum(bool(_sung_names(row, metadata)) for row, metadata in named), len(named)),
        "unsung": _share(
            sum(len(metrics.unsung(each, song["sung"])) for each, (_, song, _) in zip(lines, songs, strict=True)),
            sum(map(len, lines)),
        ),
    }  # fmt: skip


def _language(row: Row) -> str:
    return row.get("language") or ("en" if metrics.is_english(row["narrative"]) else "")


def _names(row: Row) -> list[str]:
    return row["names"] if "names" in row else metrics.names_of(row["narrative"])


def _sung_names(row: Row, metadata: SongMetadata) -> list[str]:
    return metrics.names_in(_names(row), f"{metadata.title}\n{metadata.lyrics}")


def _common_openings(lines: Sequence[Sequence[str]]) -> set[str]:
    """Return the openings of three words that three songs or more have."""
    counted = Counter(start for each in lines for start in {metrics.opening(line) for line in each})
    return {start for start, number in counted.items() if number >= 3 and len(start.split()) == 3}


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(statistics.median(found), 3) if found else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _seconds(value: float) -> str:
    return f"{value:.2f}"


LAYOUT: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("songs", "n_songs", "", str),
    ("failed", "failed", "0", str),
    ("stage 1, s (median)", "stage_1_s", "≤ 0.5 ×", _seconds),
    ("processor time of stage 1, s (median)", "cpu_s", "", _seconds),
    ("first token, s (median)", "first_token_s", "", _seconds),
    ("tokens (median)", "tokens", "", str),
    ("load (median)", "load", "", _seconds),
    ("couplets", "n_couplets", "", str),
    ("perfect rhyme", "rhyme_perfect", "", _percent),
    ("near rhyme", "rhyme_near", "", _percent),
    ("no rhyme", "rhyme_none", "≤ 15 %", _percent),
    ("couplets 3 syllables or more apart", "syllables_3_apart", "≤ 5 %", _percent),
    ("lines", "n_lines", "", str),
    ("lines with a story word (English narratives)", "story_word", "≥ 70 %", _percent),
    ("songs with a stock opening", "stock_songs", "≤ 3 %", _percent),
    ("songs with an opening that 3 songs share", "common_opening_songs", "", _percent),
    ("lines that 2 songs share", "lines_shared", "0", str),
    ("broken titles", "titles_broken", "0", str),
    ("titles that another song has", "titles_shared", "", str),
    ("songs whose story has names", "n_named", "", str),
    ("of these, songs that name one", "names", "≥ 80 %", _percent),
    ("lines never sung", "unsung", "0 %", _percent),
)
"""Rows of the table: label, figure, what issue 12 asks for, format."""


def report(rows: Sequence[Row]) -> str:
    """Return the table, in Markdown."""
    found = figures(rows)
    text = [f"| | {' | '.join(found)} | wanted |", f"|---|{'---|' * len(found)}---|"]
    for label, name, wanted, form in LAYOUT:
        cells = ["" if one[name] is None else form(one[name]) for one in found.values()]
        text.append(f"| {label} | {' | '.join(cells)} | {wanted} |")
    ratios = _ratios(rows)
    if ratios:
        text.append(f"\nStage 1 after ÷ before, median of {len(ratios)} pairs: {statistics.median(ratios):.3f}")
    return "\n".join(text)


def _ratios(rows: Sequence[Row]) -> list[float]:
    both = [row["songs"] for row in rows if all("stage_1_s" in row["songs"].get(name, {}) for name in VERSIONS)]
    return [songs["after"]["stage_1_s"] / songs["before"]["stage_1_s"] for songs in both]


def _listed(rows: Sequence[Row]) -> Iterable[str]:
    for version in figures(rows):
        lines = []
        for row in rows:
            song = row["songs"].get(version, {})
            if "metadata" not in song:
                yield f"- {version}, {row['kind']}: {song.get('error', 'not made')}"
                continue
            metadata = SongMetadata.model_validate(song["metadata"])
            lines.append([line for section in metadata.sections for line in section.lines])
            for fault in metrics.title_faults(metadata.title, row["narrative"]):
                yield f"- {version}, {row['kind']}: title {metadata.title!r}: {fault}"
            for line in metrics.unsung(lines[-1], song["sung"]):
                yield f"- {version}, {row['kind']}: never sung: {line}"
            for line in filter(metrics.is_stock, dict.fromkeys(lines[-1])):
                yield f"- {version}, {row['kind']}: stock: {line}"
            if _names(row) and not _sung_names(row, metadata):
                yield f"- {version}, {row['kind']}: none of {', '.join(_names(row))} is named"
        yield from (f"- {version}: shared: {line}" for line in metrics.shared_lines(lines))
