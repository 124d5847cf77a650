"""The notebooks run from top to bottom, and are kept without outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.filterwarnings("default")  # zmq's and the kernel's own
def test_the_first_notebook_makes_a_song_shows_it_and_makes_it_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source += "\nseconds = 2"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    shown = [set(output.data) for output in outputs["listen"]]
    assert any("image/png" in data for data in shown)
    assert any("audio" in data["text/html"] for output in outputs["listen"] if (data := output.data).get("text/html"))
    assert outputs["repeat"][-1].data["text/plain"] == "(True, False)"
    assert "completed" in outputs["log"][-1].data["text/plain"]
