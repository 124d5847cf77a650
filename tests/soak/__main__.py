"""`make soak`: half an hour of mixed load; writes `benchmarks/soak.json` and `docs/soak.md`, and prints the table."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from harmonia_lab.engines.probes import git_commit, host
from tests.soak.measure import measure
from tests.soak.page import COMMITTED, PAGE, committed_caches, page, summary, table, verdicts

WHOLE_MINUTES = 30


def main(given):
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A server under load, for a while.")
    parser.add_argument(
        "--minutes", type=float, default=WHOLE_MINUTES, help="how long (default 30); fewer write no page"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what the users do (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(given)
    data = {
        "date": time.strftime("%Y-%m-%d"),
        "host": {name: host()[name] for name in ("cpu", "cores", "python", "platform")},
        "commit": git_commit(),
        **asyncio.run(measure(options.minutes, options.seed)),
    }
    print(table(data), summary(data), *verdicts(data), sep="\n")
    files = [options.json] if options.json else []
    if options.minutes >= WHOLE_MINUTES:
        PAGE.write_text(page(data, committed_caches()))
        files.append(COMMITTED)
    for file in files:
        lines = (f' "{name}": {json.dumps(value)}' for name, value in data.items())
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return int(bool(verdicts(data)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
