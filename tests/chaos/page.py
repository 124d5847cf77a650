"""`docs/chaos.md` and the line in `docs/server.md`, made of the committed data."""

import statistics

from tests.chaos.data import ROOT
from tests.chaos.kinds import ITSELF, KINDS, NOT, RETRY

PAGE = ROOT / "docs" / "chaos.md"

GOAL_ALL, GOAL_KIND = 0.95, 0.9
"""Of the recoveries that should succeed: in all runs, and in those of each kind (18 of 20)."""

HEAD = """\
# Faults, and what becomes of the songs

Made by `make chaos` from `benchmarks/chaos.json`, which it writes. In each run, ann's song meets one fault at a random
moment that its seed decides, while bob's song is made in the same process. The parts are real ones: serving processes
and their clients, an HTTP server that speaks Ollama's API, small file systems, SQLite, `kill -9`. What isn't real is
said in the table's last column: no device's memory can run out in a second, and a machine's clock is everybody's. The
engines are quick ones, but for the sketch engine's renderer, and no pictures are drawn.

After each run must hold: the generation has ended exactly once for each time that it was begun, in the journal and for
each client, which has heard every event under its number, though it was cut off; journal, folder, log and clients
agree; no process, folder, room or descriptor is left over; the other user's song was made in one attempt, and its
connection stayed (but where the fault is everybody's); processes that live through all runs have no more memory (PSS)
than after three songs, but for 5 % and 20 MB; they have one malloc arena, or each abandoned thread's would count. A
recovery is a song that is made in the end: by itself, or when its owner tries it again.
"""


def recoveries(runs):
    """Return how many runs should have recovered, and how many did."""
    due = [run for run in runs if KINDS[run["kind"]].recovers != NOT]
    good = {ITSELF: (ITSELF,), RETRY: (ITSELF, RETRY)}
    return len(due), sum(run["outcome"] in good[KINDS[run["kind"]].recovers] for run in due)


def table(runs):
    lines = [
        "| fault | what happens | runs | broken | should be made | made | by itself | seconds (most) | stands in |"
    ]
    lines.append("|---" * 9 + "|")
    for kind in KINDS.values():
        own = [run for run in runs if run["kind"] == kind.name]
        if not own:
            continue
        due, made = recoveries(own)
        by_itself = sum(run["outcome"] == ITSELF for run in own)
        seconds = [run["seconds"] for run in own]
        lines.append(
            f"| {kind.name} | {kind.what} | {len(own)} | {sum(bool(run['broken']) for run in own)}"
            f" | {kind.recovers if due else 'no'} | {f'{made} of {due}' if due else '–'} | {by_itself}"
            f" | {statistics.median(seconds):.1f} ({max(seconds):.1f}) | {kind.stands_in} |"
        )
    return "\n".join(lines)


def summary(data):
    runs, points, kills = data["runs"], data["points"], data["kills"]
    due, made = recoveries(runs)
    broken = sum(bool(run["broken"]) for run in runs)
    kinds = len({run["kind"] for run in runs})
    return (
        f"{kinds} kinds of fault, {len(runs)} runs: {broken} with a broken invariant; {made} of {due} songs that should"
        f" be made were. {points['count']:,} crash points, {kills['count']} processes killed at a write:"
        f" {len(points['broken']) + len(kills['broken'])} broken invariants."
    )


def page(data):
    crash = (
        "## Crash points\n\n"
        "One process makes songs with quick engines (faults, cancels and retries among them), and copies home and\n"
        "songs before each write of journal, folders and log, and with the last write half done; each copy is then\n"
        "opened as after a crash, and of one in twenty the songs that it cut off are made. Other processes kill\n"
        "themselves at a random write.\n\n"
        "| | how many | broken | seconds |\n|---|---|---|---|\n"
        f"| copies | {data['points']['count']:,} | {len(data['points']['broken'])} | {data['points']['seconds']} |\n"
        f"| kills | {data['kills']['count']} | {len(data['kills']['broken'])} | {data['kills']['seconds']} |\n"
    )
    found = [f"- {run['kind']} {run['run']}: {fault}" for run in data["runs"] for fault in run["broken"]]
    found += [f"- {fault}" for part in ("points", "kills") for fault in data[part]["broken"]]
    broken = "\n## Broken invariants\n\n" + "\n".join(found[:50]) + "\n" if found else ""
    host = data["host"]
    commits = ", ".join(commit[:7] for commit in data["commits"])
    made = f"{host['cpu']}, cores used: {host['cores']}; Python {host['python']}; commits {commits}; {data['date']}."
    return f"{HEAD}\n{table(data['runs'])}\n\n{summary(data)}\n\n{crash}{broken}\n{made}\n"
