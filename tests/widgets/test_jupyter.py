"""The panel where it lives: a real JupyterLab, a real kernel, a real Chromium.

HARMONIA_SCREENSHOTS=FOLDER keeps the pictures there (`docs` for the README's); else they go with the test's own folder.
"""

import os
import shutil
from pathlib import Path

import nbconvert
import nbformat
import pytest

from tests.widgets.lab import Notebook, chromium, find_browser, jupyter_lab

ROOT = Path(__file__).parents[2]

SLOW = [
    (
        "from harmonia_lab import Lab\n"
        "from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine\n"
        "lab = Lab(metadata=FakeMetadataEngine(step_s=0.05, steps=4000), audio=FakeAudioEngine(), songs='songs')"
    ),
    "job = lab.submit('A story.', seconds=2, generation_id='slow')\njob",
    "lab.panel('slow')",
]

OVERALL = "() => document.querySelector('.hl-panel [role=progressbar]')?.getAttribute('aria-valuenow')"
WIDTH = "() => document.querySelector('.hl-panel .hl-fill')?.style.width"
STATUS = "() => [...document.querySelectorAll('.hl-panel')].map((panel) => panel.dataset.status)"
PLAY = """async () => {
    const audio = document.querySelector('.hl-panel audio.hl-audio');
    audio.muted = true;
    await audio.play();
    const deadline = performance.now() + 60000;
    while (audio.currentTime < 0.2 && performance.now() < deadline) await new Promise((ok) => setTimeout(ok, 50));
    audio.pause();
    const heard = [audio.currentTime, audio.duration];
    audio.currentTime = 0;
    audio.muted = false;
    return heard;
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    yield page
    page.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def address(tmp_path_factory, folder):
    find_browser()
    with jupyter_lab(tmp_path_factory.mktemp("jupyter"), folder) as address:
        yield address


def write(path, cells):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), path)


def wait_for(page, condition, argument=None):
    page.wait_for_function(condition, arg=argument)


def until_status(page, *wanted):
    wait_for(
        page,
        "(wanted) => [...document.querySelectorAll('.hl-panel')].map((p) => p.dataset.status).join() === wanted",
        ",".join(wanted),
    )


def picture(page, name, tmp_path):
    kept = os.environ.get("HARMONIA_SCREENSHOTS")
    page.screenshot(path=(Path(kept) if kept else tmp_path) / name)


def test_run_all_makes_a_song_with_bars_that_move_and_the_page_keeps_it(page, address, folder, tmp_path):
    shutil.copy(ROOT / "notebooks" / "01_compose.ipynb", folder)
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
    assert duration == pytest.approx(20, abs=1)
    status = page.locator(".hl-panel").first.get_by_role("status")
    assert status.inner_text().startswith("Done: 20 s of music")
    assert page.evaluate("() => document.querySelector('.hl-panel img').naturalWidth") > 100
    # The same in the file, for pages without a kernel; beside the live panel it is not shown twice.
    assert page.locator(".hl-summary").first.is_hidden()
    assert page.locator(".jp-RenderedImage img").first.is_hidden()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download song.mid").first.click()
    assert Path(download.value.path()).read_bytes().startswith(b"MThd")
    until_status(page, "completed", "completed", "completed")
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


KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def test_a_click_is_handled_while_a_cell_runs(page, address, folder):
    write(folder / "busy.ipynb", [SLOW[0], SLOW[1].replace("slow", "busy"), "import time\ntime.sleep(300)"])
    notebook = Notebook(page, address, "busy.ipynb")
    if not page.evaluate(f"() => {KERNEL}.supportsSubshells"):
        pytest.skip("this ipykernel hears clicks between cells only: it has no subshells")
    for index in (0, 1, 2):
        notebook.run_cell(index)
    until_status(page, "processing")
    runs = page.locator(".jp-CodeCell").nth(2).get_by_text("[*]")
    runs.wait_for()
    page.evaluate(CANCEL)
    until_status(page, "cancelled")
    assert runs.is_visible()
    notebook.interrupt()


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


PREVIEW = """
import io, numpy, soundfile
from harmonia_lab.protocol.events import AudioPreview
def piece(index):
    sound = io.BytesIO()
    soundfile.write(sound, numpy.zeros(4000), 8000, format="WAV")
    return AudioPreview(generation_id="heard", instrument="piano", index=index, start_seconds=index / 2,
                        mime_type="audio/wav", audio=sound.getvalue())
lab.events(piece(0)); lab.events(piece(1))
"""


def test_audio_that_is_still_being_made_plays_piece_by_piece(page, address, folder):
    write(folder / "heard.ipynb", [SLOW[0], SLOW[1].replace("slow", "heard")])
    notebook = Notebook(page, address, "heard.ipynb")
    for index in (0, 1):
        notebook.run_cell(index)
    until_status(page, "processing")
    assert page.locator(".hl-preview").is_hidden()
    assert notebook.execute(PREVIEW) == ""
    wait_for(page, "() => document.querySelector('.hl-preview audio')?.duration === 0.5")
    assert page.locator(".hl-preview .hl-name").inner_text() == "Preview: piano"
    first = page.evaluate("() => document.querySelector('.hl-preview audio').src")
    page.evaluate("() => document.querySelector('.hl-preview audio').play()")
    wait_for(page, "(first) => document.querySelector('.hl-preview audio').src !== first", first)
    # By the keyboard: JupyterLab must not take Enter for itself.
    page.get_by_role("button", name="Cancel").press("Enter")
    until_status(page, "cancelled")
    assert page.locator(".hl-preview").is_hidden()


def test_words_from_a_model_are_shown_as_words(page, address, folder):
    hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    make = (
        f"words = {hostile!r}\n"
        "changed = {'title': words, 'lyrics': words, 'genre': words[:39]}\n"
        "given = lab.metadata_engine.metadata.model_copy(update=changed)\n"
        "lab.submit(metadata=given, seconds=2)"
    )
    write(folder / "hostile.ipynb", [SLOW[0], make])
    notebook = Notebook(page, address, "hostile.ipynb")
    for index in (0, 1):
        notebook.run_cell(index)
    until_status(page, "completed")
    assert page.locator(".hl-title").inner_text() == hostile
    page.wait_for_selector(".hl-panel[data-song=here]")
    assert page.evaluate("() => window.hacked") is None


def test_an_interrupt_ends_the_waiting_and_the_song_that_a_cell_composes(page, address, folder):
    write(
        folder / "wait.ipynb",
        [
            SLOW[0],
            "job = lab.submit('A story.', seconds=2)\njob",
            "print('It waits.', flush=True)\nawait job",
            "lab.compose('A story.')",
        ],
    )
    notebook = Notebook(page, address, "wait.ipynb")
    for index in (0, 1, 2):
        notebook.run_cell(index)
    until_status(page, "processing")
    page.wait_for_selector("text=It waits.")
    notebook.interrupt()
    page.wait_for_selector("[data-mime-type='application/vnd.jupyter.stderr']")
    # The song goes on without the cell that waited for it, and can be cancelled.
    assert notebook.execute("print(job.status)").strip() == "processing"
    page.get_by_role("button", name="Cancel").click()
    until_status(page, "cancelled")
    notebook.run_cell(3)
    until_status(page, "cancelled", "processing")
    notebook.interrupt()
    until_status(page, "cancelled", "cancelled")


def test_a_song_is_asked_for_on_the_form_and_followed_in_the_table(page, address, folder, tmp_path):
    quick = SLOW[0].replace("steps=4000", "steps=40")
    write(folder / "form.ipynb", [quick, "lab.monitor()", "form = lab.form()\nform"])
    notebook = Notebook(page, address, "form.ipynb")
    for index in (0, 1, 2):
        notebook.run_cell(index)
    page.get_by_label("Story").fill("A lighthouse keeper's last night.")
    page.get_by_label("Seconds").fill("2")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Write the words only").click()
    page.wait_for_selector("text=Make the music of these words")
    until_status(page, "cancelled")
    page.get_by_label("Title").fill("Another Light")
    page.get_by_label("Title").press("Tab")
    page.get_by_role("button", name="Make the music of these words").click()
    until_status(page, "completed")
    assert page.locator(".hl-title").inner_text() == "Another Light"
    page.wait_for_selector(".hl-panel[data-song=here]")
    rows = page.locator(".hl-monitor tbody tr")
    wait_for(page, "() => document.querySelector('.hl-monitor tbody tr')?.dataset.status === 'completed'")
    assert rows.locator("th").all_inner_texts()[0] == "Another Light"
    assert rows.evaluate_all("(rows) => rows.map((row) => row.dataset.status)")[:2] == ["completed", "cancelled"]
    picture(page, "form.png", tmp_path)


@pytest.mark.filterwarnings("default")  # nbconvert's and its parsers' own
def test_the_exported_page_shows_title_picture_and_sound_offline_and_without_javascript(browser, tmp_path):
    run = [
        SLOW[0]
        .replace("steps=4000", "steps=4")
        .replace("songs='songs'", f"songs={str(tmp_path)!r}, home={str(tmp_path)!r}"),
        "job = lab.submit('A story.', seconds=2)\njob",
        "lab.close()",
    ]
    from nbclient import NotebookClient

    write(tmp_path / "run.ipynb", run)
    notebook = nbformat.read(tmp_path / "run.ipynb", as_version=4)
    NotebookClient(
        notebook, startup_timeout=600, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    html, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    (tmp_path / "run.html").write_text(html)
    page = browser.new_page(java_script_enabled=False, offline=True)
    page.goto((tmp_path / "run.html").as_uri(), wait_until="load")
    assert page.get_by_role("heading", name="Harbour Light").is_visible()
    assert page.locator(".hl-summary audio").is_visible()
    shown = page.locator(".jp-RenderedImage img").bounding_box()
    assert shown["width"] > 300
    assert shown["height"] > 100
    page.close()
    page = browser.new_page(offline=True)
    page.goto((tmp_path / "run.html").as_uri(), wait_until="load")
    wait_for(page, "() => document.querySelector('.hl-summary audio').duration > 1.9")
    page.close()
