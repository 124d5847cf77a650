"""In JupyterLab and Chromium: what a closed panel leaves, the magic, and a download that nobody can answer."""

import pytest

from tests.widgets.lab import SLOW, Notebook, until_status, wait_for, write

pytestmark = pytest.mark.stress

QUICK = SLOW[0].replace("step_s=0.05, steps=4000", "")
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def test_a_panel_and_a_lab_that_are_closed_right_after_the_end_leave_sound_and_picture(page, address, folder):
    cells = [
        QUICK,
        "job = lab.submit('A story.', seconds=1)\njob",
        "job.result()\nlab.panel(job.id).close()\nlab.close()",
    ]
    write(folder / "closed.ipynb", cells)
    notebook = Notebook(page, address, "closed.ipynb")
    notebook.run_all()
    page.locator(".hl-summary").get_by_role("button", name="Play", exact=True).wait_for()
    wait_for(page, "() => !document.querySelector('.hl-panel')")
    wait_for(page, "() => document.querySelector('.hl-summary audio').duration > 0.9")
    assert page.locator(".jp-RenderedImage img").first.is_visible()


def test_the_magic_shows_a_live_panel_and_binds_its_job(page, address, folder):
    write(
        folder / "magic.ipynb", [QUICK, "%load_ext harmonia_lab", "%%song --seconds 1 --as tune\nA lighthouse keeper."]
    )
    notebook = Notebook(page, address, "magic.ipynb")
    notebook.run_all()
    page.wait_for_selector(".hl-panel[data-song=here]")
    until_status(page, "completed")
    assert "completed" in notebook.execute("print(tune.status)")


def test_a_download_that_no_kernel_answers_says_so(page, address, folder):
    write(folder / "late.ipynb", [QUICK, "job = lab.submit('A story.', seconds=1)\njob"])
    notebook = Notebook(page, address, "late.ipynb")
    notebook.run_all()
    page.wait_for_selector(".hl-panel[data-song=here]")
    page.evaluate(f"() => {KERNEL}.shutdown()")
    page.get_by_text("How it was made").first.click()  # the list of files is folded away
    page.get_by_role("button", name="Download song.flac").click()
    page.get_by_text("song.flac has not come").wait_for()
