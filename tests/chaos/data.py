"""The rows of a whole run, as they come and as they are committed.

Owns two files: the rows so far (`build/chaos.jsonl`), from which a run that was stopped goes on, and `benchmarks/
chaos.json`, which a whole run writes.
"""

import json
import time
from pathlib import Path

from harmonia_lab.engines.probes import git_commit, host

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "benchmarks" / "chaos.json"


class Rows:
    """Rows in a file, of one seed. Each says at which commit it was made."""

    def __init__(self, path, seed):
        self.path, self._label = path, {"commit": git_commit(), "seed": seed}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [row for row in map(json.loads, lines) if row["seed"] == seed]

    def add(self, row):
        self.rows.append(self._label | row)
        with self.path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")

    def of(self, name):
        """Return the rows that have this field."""
        return [row for row in self.rows if name in row]

    def summary(self):
        """Return what is committed: circumstances, and the rows without them."""
        runs = [
            {name: row[name] for name in ("kind", "run", "outcome", "seconds", "broken")} for row in self.of("kind")
        ]
        return {
            "date": time.strftime("%Y-%m-%d"),
            "host": {name: host()[name] for name in ("cpu", "cores", "python", "platform")},
            "seed": self._label["seed"],
            "commits": sorted({row["commit"] for row in self.rows}),
            "runs": sorted(runs, key=lambda run: (run["kind"], run["run"])),
            "points": _counted(self.of("story"), "points"),
            "kills": _counted(self.of("kill")),
        }


def _counted(rows, number=None):
    return {
        "count": sum(row[number] for row in rows) if number else len(rows),
        "seconds": round(sum(row["seconds"] for row in rows)),
        "broken": [f"{row.get('story') or row.get('kill')}: {fault}" for row in rows for fault in row["broken"]],
    }


def write(data):
    """Write what is committed, a run a line."""
    runs = ",\n  ".join(map(json.dumps, data["runs"]))
    rest = "".join(f',\n "{name}": {json.dumps(value)}' for name, value in data.items() if name != "runs")
    COMMITTED.write_text(f'{{"runs": [\n  {runs}\n ]{rest}\n}}\n')


def committed():
    return json.loads(COMMITTED.read_text())
