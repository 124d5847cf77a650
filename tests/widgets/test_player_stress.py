"""The player in JupyterLab for longer: both themes, songs that are compared, and a notebook of ten songs."""

import json

import nbformat
import pytest

from tests.widgets.lab import SLOW, Notebook, picture, wait_for, write

pytestmark = pytest.mark.stress

PAGE = "globalThis[Symbol.for('harmonia.player')]"
PAINTED = """() => [...document.querySelectorAll('.hp-canvas')].filter((each) => each.clientWidth).every((canvas) => {
    const pen = canvas.getContext('2d');
    return canvas.width && pen.getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
})"""
QUICK = SLOW[0].replace("steps=4000", "steps=4")


def test_songs_are_compared_in_a_cell_in_both_themes(page, address, folder, tmp_path):
    cells = [
        QUICK,
        "a = lab.compose('A story.', seconds=8)\nb = lab.compose('A story.', seconds=8, seed=1)",
        "lab.listen(a, b)",
    ]
    write(folder / "compared.ipynb", cells)
    notebook = Notebook(page, address, "compared.ipynb")
    notebook.run_all()
    player = page.locator(".hp:has(.hp-takes)")
    player.get_by_role("button", name="Play").click()
    wait_for(page, f"() => {PAGE}.sounding?.position > 0.5")
    page.keyboard.press("b")
    wait_for(page, f"() => {PAGE}.sounding.take === 1 && {PAGE}.sounding.position > 0.5")
    player.get_by_role("button", name="Stems").click()
    wait_for(page, f"() => {PAGE}.sounding.stems")
    for theme in ("Dark", "Light"):
        page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", f"JupyterLab {theme}"
        )
        wait_for(page, f"() => document.body.dataset.jpThemeLight === '{str(theme == 'Light').lower()}'")
        page.wait_for_timeout(1000)  # what is painted is painted then, and what isn't stays empty
        assert page.evaluate(PAINTED)
        picture(page, f"compared-{theme.lower()}.png", tmp_path)
    page.get_by_role("slider", name="Position").last.focus()
    page.keyboard.press("Space")
    wait_for(page, f"() => {PAGE}.sounding === null")


def test_ten_songs_of_30_s_are_a_notebook_of_at_most_6_mb(tmp_path):
    from nbclient import NotebookClient

    setup = QUICK.replace("audio=FakeAudioEngine()", "audio='sketch'").replace(
        "songs='songs'", f"songs={str(tmp_path)!r}, home={str(tmp_path)!r}"
    )
    songs = [f"job = lab.submit('A story.', seconds=30, seed={seed})\njob" for seed in range(10)]
    write(tmp_path / "ten.ipynb", [setup, *songs, "lab.close()"])
    notebook = nbformat.read(tmp_path / "ten.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    nbformat.write(notebook, tmp_path / "ten.ipynb")
    assert json.dumps(notebook).count("data:audio/mpeg") == 10
    assert (tmp_path / "ten.ipynb").stat().st_size <= 6_000_000
