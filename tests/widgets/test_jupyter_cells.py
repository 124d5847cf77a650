"""The panel where it lives: what its buttons, the form and the cells of a notebook do in JupyterLab and Chromium.

All these notebooks are at one path, and so have one kernel. The pictures: see `test_jupyter.py`.
"""

import nbconvert
import nbformat
import pytest

from tests.widgets.lab import SLOW, Notebook, picture, until_status, wait_for, write

CANCEL = "() => document.querySelector('.hl-panel .hl-cancel').click()"
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def test_a_click_is_heard_while_a_cell_runs(page, address, folder):
    write(folder / "shared.ipynb", [SLOW[0], SLOW[1].replace("slow", "busy"), "import time\ntime.sleep(300)"])
    notebook = Notebook(page, address, "shared.ipynb")
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
    write(folder / "shared.ipynb", [SLOW[0], SLOW[1].replace("slow", "heard")])
    notebook = Notebook(page, address, "shared.ipynb")
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
    write(folder / "shared.ipynb", [SLOW[0], make])
    notebook = Notebook(page, address, "shared.ipynb")
    for index in (0, 1):
        notebook.run_cell(index)
    until_status(page, "completed")
    assert page.locator(".hl-title").inner_text() == hostile
    page.wait_for_selector(".hl-panel[data-song=here]")
    assert page.evaluate("() => window.hacked") is None


def test_an_interrupt_ends_the_waiting_and_the_song_that_a_cell_composes(page, address, folder):
    write(
        folder / "shared.ipynb",
        [
            SLOW[0],
            "job = lab.submit('A story.', seconds=2)\njob",
            "print('It waits.', flush=True)\nawait job",
            "lab.compose('A story.')",
        ],
    )
    notebook = Notebook(page, address, "shared.ipynb")
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
    write(folder / "shared.ipynb", [quick, "lab.monitor()", "form = lab.form()\nform"])
    notebook = Notebook(page, address, "shared.ipynb")
    for index in (0, 1, 2):
        notebook.run_cell(index)
    page.get_by_label("Story").fill("A lighthouse keeper's last night.")
    page.get_by_label("Seconds").fill("2")
    page.get_by_role("textbox", name="Seed").fill("7")
    page.get_by_role("button", name="Write the words only").click()
    page.wait_for_selector("text=Make the music of these words")
    until_status(page, "cancelled")
    page.get_by_label("Title").fill("Another Light")
    page.get_by_label("Title").press("Tab")
    page.get_by_role("button", name="Make the music of these words").click()
    until_status(page, "completed")
    assert page.locator(".hl-title").inner_text() == "Another Light"
    page.wait_for_selector(".hl-panel[data-song=here]")
    rows = page.locator(".hl-songs tbody tr")
    wait_for(page, "() => document.querySelector('.hl-songs tbody tr')?.dataset.status === 'completed'")
    assert rows.locator(".hl-songs-title").all_inner_texts()[0] == "Another Light"
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
    assert page.get_by_role("heading", name="Harbour Light").count() == 1
    assert not page.locator(".hl-summary audio").is_visible()
    page.locator(".hl-summary").get_by_role("button", name="Play").click()
    wait_for(page, "() => globalThis[Symbol.for('harmonia.player')].sounding?.position > 0.1")
    page.close()
