"""The five notebooks where they are used: by *Run All* in JupyterLab and Chromium, and by papermill from a notebook.

Short, by papermill's parameters; `tests/test_notebooks.py` says what their cells find out. The pictures: see
`test_jupyter.py`.
"""

import json
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from harmonia_lab.testing import SONG_METADATA, FakeOllama
from tests.widgets.lab import Notebook, picture, wait_for, write

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("default")]  # papermill's own

FOLDER = Path(__file__).parents[2] / "notebooks"
STORY = "A small boat goes home in the rain."
SHORT = {
    "01_compose": {"story": STORY, "seconds": 4},
    "02_live_events": {"story": STORY, "seconds": 4},
    "03_benchmark": {
        "stories": [STORY, f"{STORY} It is late."], "lengths": [2, 4], "rounds": 1, "metadata": "ollama",
        "decode_seconds": 1, "decode_blocks": 3, "clients": [1, 3], "out": "03",
    },
    "04_batch": {"narratives": [STORY], "seeds": [7, 8, 9], "seconds": 3, "metadata": "ollama", "out": "04"},
    "05_listen": {"narrative": STORY, "seeds": [1, 2], "seconds": 3, "metadata": "ollama", "out": "05"},
}  # fmt: skip
SHOWN = {
    "01_compose": [".hl-panel[data-song=here]", ".hp-takes"],
    "02_live_events": [".hl-songs tr[data-status=completed]", ".hp-canvas"],
    "03_benchmark": [".hl-batch[data-state=done]", ".hr-plot"],
    "04_batch": [".hl-batch[data-state=done]", ".jp-RenderedHTML audio"],
    "05_listen": [".hl-batch[data-state=done]", ".jp-RenderedHTML table"],
}
"""What is there at the end, beside the absence of errors."""

SAID = """() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells
    .filter((cell) => cell.cell_type === 'code')
    .map((cell) => ({ count: cell.execution_count, outputs: cell.outputs }))"""
OVER = f"""() => {{
    const cells = ({SAID})();
    const failed = (cell) => cell.outputs.some((each) => each.output_type === 'error');
    return cells.every((cell) => cell.count) || cells.some(failed);
}}"""


@pytest.fixture(scope="module")
def start(folder):
    """The first cell of each notebook."""
    with FakeOllama(lambda _: SONG_METADATA.model_dump_json(by_alias=True)) as ollama:
        environment = {"OLLAMA_HOST": ollama.url, "HARMONIA_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        yield f"import os\nos.environ.update({environment})"


def errors(cells):
    """What went wrong, or was printed as if it had."""
    outputs = [output for cell in cells for output in cell["outputs"]]
    return [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("name", SHORT)
def test_a_notebook_runs_by_run_all_in_a_browser(page, address, folder, start, tmp_path, name):
    notebook = parameterize_notebook(load_notebook_node(str(FOLDER / f"{name}.ipynb")), SHORT[name])
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    nbformat.write(notebook, folder / f"{name}.ipynb")
    shown = Notebook(page, address, f"{name}.ipynb")
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    shown.run_all()
    wait_for(page, OVER)
    assert errors(page.evaluate(SAID)) == []
    page.set_viewport_size({"width": 1280, "height": 9000})  # all cells at once: JupyterLab draws those in its window
    for selector in SHOWN[name]:
        page.wait_for_selector(selector, state="attached")
    assert page.get_by_text("Error displaying widget").count() == 0
    for theme in ("Dark", "Light"):
        page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", f"JupyterLab {theme}"
        )
        wait_for(page, f"() => document.body.dataset.jpThemeLight === '{str(theme == 'Light').lower()}'")
        for width in (1280, 560):
            page.set_viewport_size({"width": width, "height": 9000})
            page.wait_for_timeout(1500)
            picture(page, f"{name}-{theme.lower()}-{width}.png", tmp_path)


NESTED = """
import json, papermill
for name, parameters in json.loads({given!r}).items():
    papermill.execute_notebook(f"{{name}}.ipynb", f"made-{{name}}.ipynb", parameters, progress_bar=False)
print("all made")
"""


def test_papermill_runs_them_from_a_notebook_and_keeps_words_sound_and_picture(page, address, folder, start):
    for name in SHORT:
        (folder / f"{name}.ipynb").write_bytes((FOLDER / f"{name}.ipynb").read_bytes())
    write(folder / "nested.ipynb", [start, NESTED.format(given=json.dumps(SHORT))])
    notebook = Notebook(page, address, "nested.ipynb")
    notebook.run_all()
    wait_for(page, OVER)
    assert [e for e in errors(page.evaluate(SAID)) if e["output_type"] == "error"] == []
    for name in SHORT:
        made = nbformat.read(folder / f"made-{name}.ipynb", as_version=4)
        data = [o.get("data", {}) for cell in made.cells if cell.cell_type == "code" for o in cell.outputs]
        assert not any("widget" in mime for each in data for mime in each), name
        sounds = sum("<audio" in each.get("text/html", "") for each in data)
        pictures = sum("image/png" in each for each in data)
        assert (sounds > 0, pictures > 0) == {
            "01_compose": (True, True), "02_live_events": (True, True), "03_benchmark": (False, True),
            "04_batch": (True, False), "05_listen": (False, False),
        }[name], name  # fmt: skip
