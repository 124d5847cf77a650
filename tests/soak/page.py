"""`docs/soak.md` and the line in `docs/server.md`, made of the committed data."""

import json
import statistics
from pathlib import Path

from tests.soak.measure import WARM_UP_SHARE, slopes

ROOT = Path(__file__).parents[2]
COMMITTED, PAGE = ROOT / "benchmarks" / "soak.json", ROOT / "docs" / "soak.md"
CACHES = ROOT / "benchmarks" / "soak-caches.json"
"""Two servers under this load at once, with SQLite's page caches as they are and of 64 KiB; `sqlite` is what
`sqlite3_memory_used` said, in bytes."""

PLATEAU_S = (600.0, 1080.0)

GROWTH, ALLOWANCE = 1.05, 20e6
"""Memory is flat if its last tenth is no more than this times its first tenth after warm-up, and these bytes."""

HEAD = """\
# A server under load for half an hour

Made by `make soak` from `benchmarks/soak.json`, which it writes. Three users start songs with quick engines, each with
pauses of 1 to 6 s, cancel, share with each other and take back, lose their connection in the middle and come back, and
download; a fourth client reads 2 kB a second. A process of its own asks to join a finished song five times a second,
and times the answers. The server is a process of its own, too, on the machine that the load runs on.
"""


def committed():
    return json.loads(COMMITTED.read_text())


def committed_caches():
    return json.loads(CACHES.read_text())


def verdicts(data):
    """Return what doesn't hold."""
    first, last = ends(data, "pss")
    broken = list(data["faults"])
    if last > GROWTH * first + ALLOWANCE:
        broken.append(f"memory grew from {first / 1e6:.0f} to {last / 1e6:.0f} MB")
    first, last = ends(data, "descriptors")
    if last > first + 20:
        broken.append(f"descriptors grew from {first:g} to {last:g}")
    if data["end"]["rooms"] != data["start"]["rooms"]:
        broken.append(f"{data['end']['rooms']} rooms are left, {data['start']['rooms']} before")
    p99, drift = statistics.median(part["p99"] for part in data["ack_ms"]), slopes(data)["p99"]
    if drift is not None and drift[1] > 0 and drift[0] * len(data["ack_ms"]) > p99 / 2:
        broken.append(f"p99 drifts by {drift[0]:.2f} ms a minute")
    return broken


def ends(data, name):
    """Return the median of the first tenth after warm-up, and of the last."""
    readings = [reading[name] for reading in data["readings"]]
    tenth = max(1, round(len(readings) * WARM_UP_SHARE))
    return statistics.median(readings[tenth : 2 * tenth] or readings), statistics.median(readings[-tenth:])


def table(data):
    found, p99 = slopes(data), [part["p99"] for part in data["ack_ms"]]
    rows = [
        ("memory of the server (PSS), MB", *(f"{value / 1e6:.1f}" for value in ends(data, "pss")), found["pss"]),
        ("descriptors", *(f"{value:g}" for value in ends(data, "descriptors")), found["descriptors"]),
        ("acknowledgement, p99 of each minute, ms", f"{p99[min(len(p99) - 1, 1)]:.1f}", f"{p99[-1]:.1f}", found["p99"]),
    ]
    lines = ["| | early | late | change a minute (95 % interval) |", "|---|---|---|---|"]
    for name, early, late, line in rows:
        shown = "–" if line is None else f"{line[0]:+.3f} ({line[1]:+.3f} to {line[2]:+.3f})"
        lines.append(f"| {name} | {early} | {late} | {shown} |")
    return "\n".join(lines)


def summary(data):
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(data["counts"].items()))
    p50, p99 = (statistics.median(part[name] for part in data["ack_ms"]) for name in ("p50", "p99"))
    first, last = ends(data, "pss")
    return (
        f"{data['minutes']:g} minutes: {counts}. Memory {first / 1e6:.0f} MB early and {last / 1e6:.0f} MB late;"
        f" acknowledgements p50 {p50:.1f} ms, p99 {p99:.1f} ms (medians of the minutes); {len(verdicts(data))} faults."
    )


def memory_finding(data, caches):
    """Return what the memory's growth is and isn't."""
    arms = [(arm["readings"][0], arm["readings"][-1], arm["songs"]) for arm in caches["arms"].values()]
    held = [f"from {a['sqlite'] / 1e6:.1f} to {b['sqlite'] / 1e6:.1f} MB" for a, b, _ in arms]
    more = [(b["sqlite"] - a["sqlite"]) / 1e6 for a, b, _ in arms]
    grew = [(b["pss"] - a["pss"]) / 1e6 for a, b, _ in arms]
    flat = [r["pss"] for r in data["readings"] if PLATEAU_S[0] <= r["at_s"] <= PLATEAU_S[1]]
    moved, first, last = (max(flat) - min(flat)) / 1e6, *(round(end / 60) for end in PLATEAU_S)
    return f"""\
## Where the memory goes

Do SQLite's page caches (by default, at most 2 MB of each connection) explain the growth? Two servers ran side by side
for {caches["minutes"]:g} minutes on a crowded machine, one as it is ({arms[0][2]} songs), one with caches of 64 KiB
({arms[1][2]} songs). SQLite held {held[0]}, and {held[1]}; the processes grew by {grew[0]:.1f} and {grew[1]:.1f} MB.
So the caches explain {more[0] - more[1]:.1f} to {grew[0] - grew[1]:.1f} MB of it, in single runs. Both grew by the same
steps, which are not SQLite's; what takes them was not found. It isn't the number of songs: in the half hour above, it
moved by {moved:.1f} MB between
minutes {first} and {last}, while songs were made as before ([the data](../benchmarks/soak-caches.json)).
"""


def page(data, caches):
    broken = verdicts(data)
    listed = "\n## Faults\n\n" + "\n".join(f"- {fault}" for fault in broken[:50]) + "\n" if broken else ""
    host = data["host"]
    made = (
        f"{host['cpu']}, cores used: {host['cores']}; Python {host['python']}; commit {data['commit']}; {data['date']}."
    )
    return f"{HEAD}\n{table(data)}\n\n{summary(data)}\n{listed}\n{memory_finding(data, caches)}\n{made}\n"
