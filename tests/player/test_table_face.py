"""The batch panel's front end in a browser, without a kernel: keys, focus, narrow pages, both themes."""

from pathlib import Path

import pytest

import harmonia_lab.widgets
from tests.player.test_axe import axe, violations  # noqa: F401 - a fixture
from tests.player.test_panel_face import MODEL
from tests.widgets.lab import picture

FOLDER = Path(harmonia_lab.widgets.__file__).parent
COLUMNS = ["Song", "Status", "Progress", "Step", "Took", "Memory at most"]
STORY = "An old lighthouse keeper spends his last night at the tower, and keeps the lamp burning for a ship."


def row(number, status, **values):
    common = {
        "id": str(number),
        "title": "Harbour Light" if status in ("made", "kept") else STORY,
        "detail": f"row {number} · seed {number} · {STORY}",
        "status": status,
        "percent": 0.0,
        "step": "",
        "cells": ["", ""],
        "actions": ["cancel"] if status in ("waiting", "running") else ["play"] if status == "made" else [],
    }
    return common | values


ROWS = [
    row(1, "made", percent=100, cells=["12.3 s", "0.45 GB · GPU 3.21 GB"]),
    row(2, "failed", step="[AUDIO_ERROR] The flute broke in the middle of the song. Buy another flute."),
    row(3, "running", percent=40, step="Rendering the double bass…"),
    row(4, "waiting"),
]
HEAD = {
    "headline": "2 of 4 rows, 1 without a song",
    "state": "running",
    "percent": 60,
    "left": "12 min left, until 05:12",
    "canCancel": True,
    "memory": {"points": [1, 3, 2, 4], "text": "Memory of this process: 0.45 GB, at most 0.50 GB"},
    "gpu": {"points": [], "text": "No GPU memory: no engine on this machine uses torch; NVML: driver not loaded"},
}


@pytest.fixture
def table(serve):
    """table(width): a page with the panel of a batch of four rows."""

    def table(width=1000, head=HEAD, rows=ROWS):
        page = serve(
            FOLDER / "song_table.js",
            names="render",
            css=f"{(FOLDER / 'song_table.css').read_text()} :root {{ color-scheme: light dark; }}",
            body="<main><h1>Notebook</h1><div></div></main>",
            values={"view": {"columns": COLUMNS, "rows": rows, "notice": ""}, "head": head, "now": {}},
        )
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate(MODEL.replace("'main'", "'main > div'").replace("globalThis.model = new Model();", (
            "globalThis.model = new Model(); Object.assign(model.values, given.values);"
        )))  # fmt: skip
        return page

    return table


def assert_nothing_is_cut(page):
    """No word is broken, or hangs over its cell, and nothing hangs over the page."""
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    cut = "(nodes) => nodes.filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.textContent)"
    assert page.locator(".hl-songs :is(th, td), .hl-batch *, .hl-songs").evaluate_all(cut) == []


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (560, "dark"),
        pytest.param(1000, "dark", marks=pytest.mark.stress),
        pytest.param(1000, "light", marks=pytest.mark.stress),
        pytest.param(560, "light", marks=pytest.mark.stress),
        pytest.param(320, "light", marks=pytest.mark.stress),
    ],
)
def test_it_has_no_violations_and_cuts_nothing(table, axe, tmp_path, width, scheme):  # noqa: F811 - the fixture
    page = table(width)
    page.emulate_media(color_scheme=scheme)
    assert violations(page, axe) == {}
    assert_nothing_is_cut(page)
    picture(page, f"batch-{scheme}-{width}.png", tmp_path)
    page.evaluate("(head) => model.set({ head })", HEAD | {"state": "stopped", "canCancel": False, "left": ""})
    page.wait_for_selector(".hl-batch[data-state=stopped]")
    assert violations(page, axe) == {}


@pytest.mark.stress
def test_it_stands_a_zoom_of_200_percent(browser, table, tmp_path):
    page = table(1120)
    page.evaluate("() => { document.body.style.zoom = 2 }")
    assert_nothing_is_cut(page)
    picture(page, "batch-zoom.png", tmp_path)


def test_keys_alone_cancel_one_all_and_play_and_a_row_that_changes_keeps_the_focus(table):
    page = table()
    sent = "() => model.sent"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith(
        "Cancel An old lighthouse"
    )
    page.keyboard.press("Enter")
    page.evaluate("(now) => model.set({ now })", {"id": "3", "title": "Harbour Light", "percent": 55, "step": "Mixing"})
    page.wait_for_selector("[aria-label^='Cancel Harbour Light']")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith("Cancel Harbour Light")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    asked = [{"ask": "cancel", "id": "3"}, {"ask": "play", "id": "1"}, {"ask": "cancelAll", "id": ""}]
    assert page.evaluate(sent) == asked


def test_words_are_no_markup(table):
    evil = "<img src=x onerror=alert(1)>"
    page = table(rows=[row(1, "failed", title=evil, detail=evil, step=evil, cells=[evil, evil])])
    assert page.locator(".hl-songs img").count() == 0
    assert page.get_by_text(evil).count() >= 4
