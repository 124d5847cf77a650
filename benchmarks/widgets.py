"""`python -m benchmarks.widgets [--json FILE]`: what panels cost in a real JupyterLab, with Chromium in front of it.

Owns the method and the table. One page of 1280 × 700 pixels and one kernel:

- *Load*: a song that reports 50 events a second, with a draft of its words, runs as a batch's only row. Its panel and
  the batch's are shown for some seconds and closed for as long, in turn and in alternating order. What they cost is the
  difference of the processor time of the kernel, of Chromium's renderer, and of the processes between them.
- *The floor*: in the same page, one bar whose width a script sets as often as a panel is drawn, without a kernel.
- *The end*: ten songs of 30 s by the sketch engine, in a cell each, then ten more in one cell that is run again. From
  the event that ends a song until the page has its player's button; whether that is in the window, unscrolled; by how
  much the cell's height changes. After each song, the page's JavaScript heap after a forced garbage collection.
- *The kernel*: how many of our widgets are left when the panels and the lab are closed.

`tests/widgets/lab.py` starts both programs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from harmonia_lab.bench.report import check_file, check_range, circumstances, save, spread
from harmonia_lab.widgets.throttle import RATE
from tests.widgets.lab import Notebook, chromium, jupyter_lab, write

EVENTS_PER_S = 50
GOAL_PERCENT, GOAL_S = 2.0, 1.0
"""Of a core, both panels together; and seconds from a song's end to its player."""

WIDTH, HEIGHT = 1280, 700
SETTLE_S = 2.0
"""Seconds between a change of what is shown and a measurement."""

LOAD = f"""
import gc, os, time, weakref
from harmonia_lab import Lab
from harmonia_lab.engines.base import MetadataProgress
from harmonia_lab.testing import FakeMetadataEngine

class Steady(FakeMetadataEngine):
    words = [f"The lamp is burning low, and line {{number}} is sung" for number in range(30)]

    def write(self, request, seed, report, cancel):
        began, number = time.monotonic(), 0
        while not cancel.cancelled:
            written = chr(10).join(self.words[: 1 + number // 100 % len(self.words)])
            words = {{"title": "Harbour Light", "lyrics": written}}
            report(MetadataProgress(number % 5000 / 5000, "lyrics", f"Working on word {{number}}...", number, words))
            number += 1
            cancel.wait(max(0.0, began + number / {EVENTS_PER_S} - time.monotonic()))
        cancel.raise_if_cancelled()

lab = Lab(metadata=Steady(), audio="sketch", songs="songs")
batch = lab.batch([{{"narrative": "A story.", "seconds": 30}}], "songs/load", wait=False)
while batch.running is None:
    time.sleep(0.01)
song, progress = batch.running.id, []
def hear(event):
    if event.name.endswith("-generation-progress"):
        progress.append(time.time())
lab.events.subscribe(hear)
"""
SHOW = ("lab.panel(song)", "batch")
HIDE = "lab.panel(song).close()\nbatch.panel.close()"

SONGS = """
import ipywidgets
from harmonia_lab.testing import FakeMetadataEngine
lab = Lab(metadata=FakeMetadataEngine(), audio="sketch", songs="songs")
ended, made = {}, weakref.WeakSet()
ours = lambda: [w for w in ipywidgets.widgets.widget._instances.values() if type(w).__module__.startswith("harmonia")]
def hear(event):
    if event.family == "generation" and event.ends:
        ended[event.generation_id] = time.time()
lab.events.subscribe(hear)
"""
SONG = "job = lab.submit('A story.', seconds={seconds}, seed={seed})\njob"

WATCH = """([index, earlier]) => {
    const cell = () => window.jupyterapp.shell.currentWidget.content.widgets[index].node;
    globalThis.seen = { shown: 0, before: 0 };
    const look = () => {
        const panel = [...cell().querySelectorAll('.hl-panel')].at(-1);
        const button = panel?.dataset.song === 'here' && panel !== earlier && panel.querySelector('.hp-play');
        if (!button || !button.checkVisibility()) {
            if (panel?.dataset.status === 'processing') seen.before = panel.offsetHeight;
            requestAnimationFrame(look);
            return;
        }
        const place = button.getBoundingClientRect();
        Object.assign(seen, {
            shown: Date.now(), after: panel.offsetHeight, inWindow: place.top >= 0 && place.bottom <= innerHeight,
        });
    };
    look();
}"""

BAR = """(drawings_per_s) => {
    const track = document.createElement('div');
    track.style.cssText = 'height: 10px; contain: strict; background: silver';
    const fill = track.appendChild(document.createElement('div'));
    fill.style.cssText = 'height: 100%; width: 0; background: blue';
    document.querySelector('.jp-Notebook .jp-CodeCell').append(track);
    let count = 0;
    const timer = setInterval(() => { fill.style.width = `${(count++ % 500) / 5}%`; }, 1000 / drawings_per_s);
    globalThis.stopBar = () => { clearInterval(timer); track.remove(); };
}"""

CENTRE = """(index) => {
    const content = window.jupyterapp.shell.currentWidget.content;
    content.activeCellIndex = index;
    return content.scrollToItem(index, 'start');
}"""


class Processes:
    """The processor time of the kernel, the page's renderer, Jupyter's server, and the rest of the browser."""

    def __init__(self, kernel: int, browser: Any) -> None:
        self._kernel = psutil.Process(kernel)
        self._server = self._kernel.parent()
        self._session = browser.new_browser_cdp_session()

    def seconds(self) -> dict[str, float]:
        found = {
            "kernel": _cpu_s(self._kernel),
            "jupyter_server": _cpu_s(self._server),
            "renderer": 0.0,
            "browser": 0.0,
        }
        for process in self._session.send("SystemInfo.getProcessInfo")["processInfo"]:
            share = "renderer" if process["type"] == "renderer" else "browser"
            found[share] += _cpu_s(psutil.Process(int(process["id"])))
        return found


def _cpu_s(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def measure_load(notebook: Any, browser: Any, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure what panel and batch panel cost while events come. seconds: of each turn."""
    notebook.run_cell(0)
    pid = int(notebook.execute("print(os.getpid())"))
    processes = Processes(pid, browser)
    costs: dict[str, list[float]] = {}
    hidden: dict[str, list[float]] = {}
    floor: dict[str, list[float]] = {}
    shown = False

    def turn(show: bool) -> dict[str, float]:
        nonlocal shown
        if show and not shown:
            for index in (1, 2):
                notebook.run_cell(index)
            notebook.page.wait_for_selector(".hl-panel[data-status=processing]")
            notebook.page.wait_for_selector(".hl-batch[data-state=running]")
        if shown and not show:
            notebook.execute(HIDE)
            notebook.page.wait_for_function("() => !document.querySelector('.hl-panel, .hl-batch')")
        shown = show
        time.sleep(SETTLE_S)
        before, began = processes.seconds(), time.monotonic()
        time.sleep(seconds)
        after, took = processes.seconds(), time.monotonic() - began
        return {name: 100 * (after[name] - before[name]) / took for name in before}

    def bar() -> dict[str, float]:
        notebook.page.evaluate(BAR, RATE)
        cost = turn(False)
        notebook.page.evaluate("() => stopBar()")
        return cost

    first = float(notebook.execute("print(len(progress), time.time())").split()[1])
    for number in range(rounds):
        turns = {show: turn(show) for show in ((False, True) if number % 2 == 0 else (True, False))}
        for name in turns[True]:
            costs.setdefault(name, []).append(turns[True][name] - turns[False][name])
            hidden.setdefault(name, []).append(turns[False][name])
        for name, percent in bar().items():
            floor.setdefault(name, []).append(percent - turns[False][name])
    count, last = notebook.execute(f"print(sum(at > {first} for at in progress), time.time())").split()
    notebook.execute("batch.cancel(); batch.wait(); lab.close()")
    return {
        "rounds": rounds,
        "seconds_of_a_turn": seconds,
        "events_per_s": int(count) / (float(last) - first),
        "percent_of_a_core": {name: spread(values) | {"of_rounds": values} for name, values in costs.items()},
        "one_bar": {name: spread(values) | {"of_rounds": values} for name, values in floor.items()},
        "without_panels": {name: spread(values) for name, values in hidden.items()},
    }


def measure_songs(notebook: Any, cells: Sequence[int], *, seconds: int) -> dict[str, Any]:
    """Make a song in each of these cells. seconds: of each song."""
    page = notebook.page
    session = page.context.new_cdp_session(page)
    rows = []
    for number, index in enumerate(cells):
        page.evaluate(CENTRE, index)
        panel = page.evaluate_handle(
            "(index) => [...window.jupyterapp.shell.currentWidget.content.widgets[index].node"
            ".querySelectorAll('.hl-panel')].at(-1)",
            index,
        )
        page.evaluate(WATCH, [index, panel])
        notebook.run_cell(index)
        page.wait_for_function("() => seen.shown")
        seen = page.evaluate("() => seen")
        panel.dispose()
        notebook.execute("job.panel().settle(60); made.update(ours())")
        page.wait_for_timeout(500)
        ended = float(notebook.execute("print(ended[job.id])"))
        jump = page.evaluate(
            "([index, before]) => [...window.jupyterapp.shell.currentWidget.content.widgets[index].node"
            ".querySelectorAll('.hl-panel')].at(-1).offsetHeight - before",
            [index, seen["before"]],
        )
        rows.append({
            "song": number + 1,
            "until_player_s": seen["shown"] / 1000 - ended,
            "in_window": seen["inWindow"],
            "jump_px": jump,
            "heap_mb": _heap_mb(session),
        })  # fmt: skip
    late = rows[3:]  # the first ones load code, and fill the three places of panels that hold a sound
    return {
        "seconds_of_song": seconds,
        "until_player_s": spread([row["until_player_s"] for row in rows]),
        "in_window": sum(row["in_window"] for row in rows),
        "jump_px": spread([row["jump_px"] for row in rows]),
        "heap_growth_mb_a_song": statistics.linear_regression(
            [row["song"] for row in late], [row["heap_mb"] for row in late]
        ).slope,
        "rows": rows,
    }


def _heap_mb(session: Any) -> float:
    """Return the page's JavaScript heap with its array buffers after two forced garbage collections, in MB."""
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    usage = session.send("Runtime.getHeapUsage")
    return float(usage["usedSize"] + usage.get("backingStorageSize", 0)) / 1e6


def measure(*, rounds: int, seconds: float, songs: int, song_seconds: int) -> dict[str, Any]:
    """Measure everything. Raises what a program that doesn't start raises."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "notebooks"
        folder.mkdir()
        write(folder / "load.ipynb", [LOAD, *SHOW])
        each = [SONG.format(seconds=song_seconds, seed=seed) for seed in range(songs)]
        write(folder / "songs.ipynb", [LOAD.partition("class")[0] + SONGS, *each])
        with jupyter_lab(Path(place) / "jupyter", folder) as address, chromium() as browser:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            notebook = Notebook(page, address, "load.ipynb")
            figures: dict[str, Any] = {"load": measure_load(notebook, browser, rounds=rounds, seconds=seconds)}
            page.close()
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            notebook = Notebook(page, address, "songs.ipynb")
            notebook.run_cell(0)
            figures["cells"] = measure_songs(notebook, range(1, songs + 1), seconds=song_seconds)
            notebook.save()
            figures["cells"]["file_mb"] = (folder / "songs.ipynb").stat().st_size / 1e6
            figures["one_cell"] = measure_songs(notebook, [songs] * songs, seconds=song_seconds)
            figures["widgets_made"] = int(notebook.execute("print(len(made))"))
            notebook.execute("for each in list(ended): lab.panel(each).close()")
            left = "del job, each; Out.clear(); _ = __ = ___ = None; lab.close(); gc.collect(); print(len(made))"
            figures["widgets_left"] = int(notebook.execute(left))
            version = browser.version
            page.close()
    figures["goal"] = {"percent_of_a_core": GOAL_PERCENT, "until_player_s": GOAL_S}
    return figures | {"chromium": version, "window": [WIDTH, HEIGHT]}


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    load = figures["load"]
    lines = [
        f"Panel and batch panel, {load['events_per_s']:.1f} events/s: % of a core, median of {load['rounds']} (range)"
    ]
    for name, cost in load["percent_of_a_core"].items():
        without = load["without_panels"][name]["median"]
        lines.append(
            f"  {name:15} {cost['median']:5.2f} ({cost['min']:.2f} to {cost['max']:.2f}), without them {without:.2f},"
            f" one bar {load['one_bar'][name]['median']:.2f}"
        )
    for name, words in (("cells", "in a cell each"), ("one_cell", "in one cell, again and again")):
        found = figures[name]
        until, jump = found["until_player_s"], found["jump_px"]
        lines.append(
            f"{len(found['rows'])} songs of {found['seconds_of_song']} s {words}: player after {until['median']:.2f} s"
            f" ({until['min']:.2f} to {until['max']:.2f}); in the window {found['in_window']};"
            f" height changes by {jump['min']:g} to {jump['max']:g} px;"
            f" heap {found['heap_growth_mb_a_song']:+.3f} MB a song"
        )
    lines.append(f"The notebook's file: {figures['cells']['file_mb']:.2f} MB")
    lines.append(f"Widgets in the kernel: {figures['widgets_made']} made, {figures['widgets_left']} left")
    return "\n".join(lines)


def main(given: Sequence[str]) -> int:
    """Measure, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.widgets")
    parser.add_argument("--rounds", type=int, default=5, help="of the load")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn of a round")
    parser.add_argument("--songs", type=int, default=10)
    parser.add_argument("--song-seconds", type=int, default=30)
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args(given)
    check_range("rounds", options.rounds, 50)
    check_range("songs", options.songs - 4, 20)  # a slope needs two songs after the first three
    check_file(options.json)
    load = psutil.getloadavg()
    figures = measure(
        rounds=options.rounds, seconds=options.seconds, songs=options.songs, song_seconds=options.song_seconds
    )
    figures |= {"date": datetime.now(UTC).date().isoformat(), "load_before": load} | circumstances()
    print(table(figures))
    save(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
