"""`table`: the figures that are kept in `results/`, and those of them that docs/batches.md quotes.

Owns the layout. A test compares that page with `quoted_rows`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparisons.studies import PRIMARY

__all__ = ["RESULTS", "configure", "quoted_rows", "read_simulations", "read_studies", "report", "run"]

RESULTS = Path(__file__).parent / "results"

Row = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quoted", action="store_true", help="only the rows that docs/batches.md quotes")


def run(options: argparse.Namespace) -> int:
    simulated, studies = read_simulations(), read_studies()
    print("\n".join(quoted_rows(simulated, studies)) if options.quoted else report(simulated, studies))
    return 0


def read_simulations(folder: Path = RESULTS) -> list[Row]:
    return [json.loads(line) for line in (folder / "simulations.jsonl").read_text(encoding="utf-8").splitlines()]


def read_studies(folder: Path = RESULTS) -> Row:
    found: Row = json.loads((folder / "studies.json").read_text(encoding="utf-8"))
    return found


def report(simulated: Sequence[Row], studies: Row) -> str:
    """Return all figures as tables in Markdown."""
    parts = [
        ("Coverage of 95 % intervals, %: equal sides", _matrix(simulated, "coverage", "covered")),
        ("Coverage where the machine changes, %", _matrix(simulated, "blocks", "covered")),
        ("A planted 1.1 × in the primary column, found in %", _matrix(simulated, "planted", "found")),
        ("Sixteen equal columns, any false claim in %", _matrix(simulated, "columns", "false")),
        ("The same where each column has its own 5 %", _matrix(simulated, "columns", "false_each")),
        ("Real runs of one configuration", _real(studies)),
    ]
    return "\n".join(f"{title}\n\n{chr(10).join(lines)}\n" for title, lines in parts)


def quoted_rows(simulated: Sequence[Row], studies: Row) -> list[str]:
    """Return the rows of that page's table."""

    def cells(part: str, method: str, figure: str, **where: Any) -> list[float]:
        chosen = [row for row in simulated if row["part"] == part and row["method"] == method]
        return [row[figure] for row in chosen if all(row[name] == value for name, value in where.items())]

    covered, course = cells("coverage", "sign flips", "covered"), cells("blocks", "sign flips", "covered")
    typical = [*cells("coverage", "typical runs", "covered"), *cells("blocks", "typical runs", "covered")]
    welch, in_turn = cells("coverage", "Welch", "covered"), cells("blocks", "A, then B: Welch", "covered")
    [plain] = cells("planted", "sign flips", "found", n=10, noise="spread .05")
    [loaded] = cells("planted", "sign flips", "found", n=10, noise="spread .15")
    [spiking] = cells("planted", "typical runs", "found", n=20, noise="spread .05, spikes")
    false, each = (cells("columns", "primary 4 %, max-T 1 %", name) for name in ("false", "false_each"))
    real = [study for study in studies["relabelled"] if study["claim"] == "mean"]
    claimed = _range([study["any"] / study["studies"] for study in real])
    splits = studies["splits"]
    half, kept = splits["runs"] // 2, f"{splits['any']} (intervals without 1: {splits['without_1']})"
    return [
        f"| 95 % intervals in drawn blocks (n = 5: 93.75 %) cover, four noises | {_range(covered)} |",
        f"| the same, machine drifting by 1 % a run, or AR(1) with ρ = 0.6 | {_range(course)} |",
        f"| the same for typical runs | {_range(typical)} |",
        f"| Welch's intervals without blocks cover, steady machine | {_range(welch)} |",
        f"| the same, one side after the other on the changing machine | {_range(in_turn)} |",
        f"| 1.1 × in the primary column found, 10 blocks: spread .05; .15 | {_percent(plain)}; {_percent(loaded)} |",
        f"| the same by typical runs, 20 blocks, 5 % of runs twice as long | {_percent(spiking)} |",
        f"| any false claim over 16 columns (each at 5 %: {_range(each)}) | {_range(false)} |",
        f"| the same, {_studies(real)} relabelled from {studies['runs']} real songs on a loaded machine | {claimed} |",
        f"| any claim in {splits['splits']} splits of these songs, {half} against the next {half} | {kept} |",
    ]


def _studies(found: Sequence[Row]) -> str:
    counts = " and ".join(str(study["blocks"]) for study in found)
    return f"{sum(study['studies'] for study in found)} studies of {counts} blocks"


def _matrix(simulated: Sequence[Row], part: str, figure: str) -> list[str]:
    """Return one table: a row for each method and noise, a column for each n."""
    rows = [row for row in simulated if row["part"] == part and figure in row]
    counts = sorted({row["n"] for row in rows})
    keys = list(dict.fromkeys((row["method"], row["noise"]) for row in rows))
    found = {(row["method"], row["noise"], row["n"]): 100 * row[figure] for row in rows}
    trials = sorted({row["trials"] for row in rows})
    lines = [f"| {'–'.join(f'{t:,}' for t in trials)} trials a cell | {' | '.join(f'n = {n}' for n in counts)} |"]
    lines.append(f"|---|{'---|' * len(counts)}")
    for method, noise in sorted(keys, key=lambda key: key[0]):
        cells = [f"{found[method, noise, n]:.1f}" if (method, noise, n) in found else "" for n in counts]
        lines.append(f"| {method}; {noise} | {' | '.join(cells)} |")
    return lines


def _real(studies: Row) -> list[str]:
    spread = ", ".join(f"{name} {value:.3f}" for name, value in studies["spreads"].items())
    low, middle, high = studies["load"]
    about = (
        f"{studies['runs']} songs in {studies['blocks']} blocks, {studies['columns']} columns, load {low} to {high}"
        f" (median {middle}); spread of a run within its block: {spread}."
    )
    lines = [about, "", "| design | studies | any claim | of the primary column |", "|---|---|---|---|"]
    for study in studies["relabelled"]:
        share = study["any"] / study["studies"]
        lines.append(
            f"| {study['blocks']} blocks, claim by {study['claim']} | {study['studies']} | {study['any']}"
            f" ({_percent(share)}) | {study['primary']} |"
        )
    splits = studies["splits"]
    lines.append(
        f"| first against second half of {splits['runs']} | {splits['splits']} | {splits['any']}; without 1 in"
        f" {splits['without_1']} | {PRIMARY}'s interval without 1 in {splits['primary_without_1']} |"
    )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(shares: Sequence[float]) -> str:
    low, high = min(shares), max(shares)
    return _percent(low) if low == high else f"{100 * low:.1f} to {_percent(high)}"
