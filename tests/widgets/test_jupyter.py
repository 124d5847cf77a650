"""The panel where it lives: a real JupyterLab, a real kernel, a real Chromium. It outlives its page and its kernel.

HARMONIA_SCREENSHOTS=FOLDER keeps the pictures there (`docs` for the README's); else they go with the test's own folder.
"""

import os
import re
from pathlib import Path

import pytest

from tests.widgets.lab import SLOW, Notebook, picture, until_status, wait_for, write

ROOT = Path(__file__).parents[2]

OVERALL = "() => document.querySelector('.hl-panel [role=progressbar]')?.getAttribute('aria-valuenow')"
WIDTH = "() => document.querySelector('.hl-panel .hl-fill')?.style.width"
STATUS = "() => [...document.querySelectorAll('.hl-panel')].map((panel) => panel.dataset.status)"
PLAY = """async () => {
    document.querySelector('.hl-panel .hp-play').click();
    const page = globalThis[Symbol.for('harmonia.player')];
    const deadline = performance.now() + 60000;
    while (!(page.sounding?.position > 0.2) && performance.now() < deadline) {
        await new Promise((ok) => setTimeout(ok, 50));
    }
    const heard = [page.sounding.position, page.sounding.tracks[0].sound.duration];
    page.sounding.seek(0);
    page.sounding.pause();
    return heard;
}"""


def test_run_all_makes_a_song_with_bars_that_move_and_the_page_keeps_it(page, address, folder, tmp_path):
    seconds = 20 if "HARMONIA_SCREENSHOTS" in os.environ else 5
    written = (ROOT / "notebooks" / "01_compose.ipynb").read_text()
    assert "seconds, seed = 20, 7" in written
    (folder / "01_compose.ipynb").write_text(written.replace("seconds, seed = 20, 7", f"seconds, seed = {seconds}, 7"))
    notebook = Notebook(page, address, "01_compose.ipynb")
    notebook.run_all()
    page.wait_for_selector(".hl-panel")
    seen = {page.evaluate(OVERALL)}
    while "completed" not in page.evaluate(STATUS):
        wait_for(
            page,
            f"(last) => ({OVERALL})() !== last || document.querySelector('.hl-panel[data-status=completed]')",
            page.evaluate(OVERALL),
        )
        seen.add(page.evaluate(OVERALL))
    assert len(seen) > 5
    assert page.evaluate(WIDTH) == "100%"

    page.wait_for_selector(".hl-panel[data-song=here]")
    position, duration = page.evaluate(PLAY)
    assert position > 0
    assert duration == pytest.approx(seconds, abs=1)
    status = page.locator(".hl-panel").first.get_by_role("status")
    assert status.inner_text().startswith(f"Done: {seconds} s of music")
    wait_for(page, "() => document.querySelector('.hl-panel img').naturalWidth > 100")  # it comes after the player
    # The same in the file, for pages without a kernel; beside the live panel it is not shown twice.
    assert page.locator(".hl-summary").first.is_hidden()
    assert page.locator(".jp-RenderedImage img").first.is_hidden()
    page.get_by_text("How it was made").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download song.mid").first.click()
    assert re.fullmatch(r".+-seed-7-\w{8}\.mid", download.value.suggested_filename)
    assert Path(download.value.path()).read_bytes().startswith(b"MThd")
    until_status(page, "completed", "completed", "completed")
    page.get_by_text("How it was made").first.click()
    page.mouse.move(0, 0)
    page.evaluate("() => document.querySelector('.hl-panel').scrollIntoView({ block: 'end' })")
    picture(page, "notebook.png", tmp_path)

    notebook.save()
    notebook.open()
    page.wait_for_selector(".hl-panel[data-song=here]")
    assert page.evaluate(PLAY)[0] > 0


CANCEL = "() => document.querySelector('.hl-panel .hl-cancel').click()"

BY_A_SUBSHELL_THAT_ENDS = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    await kernel.info;
    if (!kernel.supportsSubshells) return;
    const comm = kernel.createComm('nobody');
    await comm.subshellStarted;
    const id = comm.subshellId;
    await comm.open().done;
    const panel = document.querySelector('.hl-panel');
    await new Promise((drawn) => new MutationObserver(drawn).observe(panel, { attributes: true, subtree: true }));
    comm.dispose();
    while ((await kernel.requestListSubshell({}).done).content.subshell_id.includes(id));
}"""
"""What the widgets of a page do that is loaded again: a panel draws under a request whose subshell is then deleted."""


def test_a_running_song_is_live_again_after_a_reload_and_a_click_cancels_it(page, address, folder):
    write(folder / "slow.ipynb", SLOW)
    notebook = Notebook(page, address, "slow.ipynb")
    for index in (0, 1):
        notebook.run_cell(index)
    until_status(page, "processing")
    notebook.save()
    notebook.open()
    until_status(page, "processing")
    before = page.evaluate(OVERALL)
    wait_for(page, f"(last) => ({OVERALL})() !== last", before)
    page.evaluate(BY_A_SUBSHELL_THAT_ENDS)
    page.evaluate(CANCEL)
    until_status(page, "cancelled")
    assert page.locator(".hl-panel").get_by_role("status").inner_text() == "Cancelled"
    assert page.get_by_role("button", name="Cancel").count() == 0
    assert notebook.execute("print(job.status)").strip() == "cancelled"


def test_a_page_that_was_not_saved_and_a_kernel_that_restarts_lose_no_song(page, address, folder):
    write(folder / "lost.ipynb", [SLOW[0], SLOW[1].replace("slow", "lost"), SLOW[2].replace("slow", "lost")])
    notebook = Notebook(page, address, "lost.ipynb")
    for index in (0, 1):
        notebook.run_cell(index)
    until_status(page, "processing")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.revert()")
    notebook.open()
    assert page.locator(".hl-panel").count() == 0
    notebook.run_cell(2)
    until_status(page, "processing")

    notebook.restart()
    notebook.open()
    for index in (0, 2):
        notebook.run_cell(index)
    until_status(page, "failed")
    assert "INTERRUPTED" in page.locator(".hl-panel").inner_text()
    page.get_by_role("button", name="Retry").click()
    until_status(page, "processing")
    page.get_by_role("button", name="Cancel").click()
    until_status(page, "cancelled")


BATCH = [
    SLOW[0].replace("step_s=0.05, steps=4000", "step_s=0.05, steps=20"),
    (
        "rows = [{'narrative': 'A story.', 'seconds': 2, 'seed': seed} for seed in range(3)]\n"
        "batch = lab.batch(rows, 'songs/night', wait=False)\nbatch"
    ),
]


def test_a_batch_shows_its_rows_live_cancels_one_and_plays_another(page, address, folder, tmp_path):
    write(folder / "batch.ipynb", BATCH)
    notebook = Notebook(page, address, "batch.ipynb")
    for index in (0, 1):
        notebook.run_cell(index)
    page.get_by_role("button", name="Cancel A story., row 3").click()
    wait_for(page, "() => document.querySelectorAll('.hl-songs tr[data-status=made]').length === 2")
    page.wait_for_selector(".hl-batch[data-state=done]")
    statuses = "(rows) => rows.map((row) => row.dataset.status)"
    assert page.locator(".hl-songs tbody tr").evaluate_all(statuses) == ["made", "made", "cancelled"]
    assert page.get_by_role("button", name="Cancel").count() == 0
    assert page.locator(".hl-curve polyline").first.get_attribute("points").count(",") > 1
    assert page.locator(".hl-songs audio").count() == 0  # no sound before somebody asks for it
    for number in (1, 2):
        page.get_by_role("button", name=f"Play Harbour Light, row {number}").click()
        wait_for(
            page,
            "(number) => { const row = document.querySelectorAll('.hl-songs tbody tr')[number - 1];"
            " return row.querySelector('audio')?.duration > 1.9; }",
            number,
        )
        assert page.locator(".hl-songs audio").count() == 1
    picture(page, "batch.png", tmp_path)
