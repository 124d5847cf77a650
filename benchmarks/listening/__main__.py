"""`python -m benchmarks.listening simulate | scripted`: the figures of docs/listening.md.

Owns the commands and the files that they write.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.listening.scripted import take_test
from benchmarks.listening.simulations import PLANTED, tally
from harmonia_lab.listening.make import make_test


def main(given: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listening")
    commands = parser.add_subparsers(dest="what", required=True)
    simulate = commands.add_parser("simulate", help="how often no preference is called one, and intervals hold")
    simulate.add_argument("out", type=Path, help="a .json file")
    simulate.add_argument("--studies", type=int, default=1000)
    scripted = commands.add_parser("scripted", help="listeners with a planted preference, in Chromium")
    scripted.add_argument("songs", type=Path, help="a study's folder with ten blocks of two configurations")
    scripted.add_argument(
        "out", type=Path, help="a folder for page, key and answers.jsonl; goes on where it was stopped"
    )
    scripted.add_argument("--listeners", type=int, default=30)
    scripted.add_argument("--browser", help="Chromium's executable (default: Playwright's own)")
    options = parser.parse_args(given)
    return _simulate(options) if options.what == "simulate" else _scripted(options)


def _simulate(options: argparse.Namespace) -> int:
    began = time.process_time()
    found = tally(options.studies)
    options.out.write_text(
        json.dumps({"cpuSeconds": round(time.process_time() - began), "kinds": found}, indent=1) + "\n",
        encoding="utf-8",
    )
    print(json.dumps(found, indent=1))
    return 0


def _scripted(options: argparse.Namespace) -> int:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - for this alone

    options.out.mkdir(parents=True, exist_ok=True)
    test = make_test(options.songs, options.out / "test.html", seconds=0.6, listen_s=0.05, seed=1)
    assert test.page is not None
    kept = options.out / "answers.jsonl"
    first = len(kept.read_text("utf-8").splitlines()) if kept.exists() else 0
    with sync_playwright() as playwright, kept.open("a", encoding="utf-8") as answers:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        for number in range(first, options.listeners):
            context = browser.new_context(accept_downloads=True)
            page, name = context.new_page(), f"listener {number + 1}"
            given = take_test(page, test.page.as_uri(), test.design, name, PLANTED, number)
            answers.write(json.dumps(given) + "\n")
            answers.flush()
            context.close()
        browser.close()
    print(test.result(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
