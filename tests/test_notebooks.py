"""The notebooks run from top to bottom, and are kept without outputs."""

import ast
from pathlib import Path

import nbformat
import papermill
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(name, **parameters): the outputs of each code cell, by the cell's id. Everything is written to tmp_path."""
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")

    def execute(name, **parameters):
        done = papermill.execute_notebook(
            FOLDER / name,
            tmp_path / name,
            parameters,
            cwd=tmp_path,
            progress_bar=False,
            kernel_name="python3",
            start_timeout=600,
        )
        return {cell.id: cell.outputs for cell in done.cells if cell.cell_type == "code"}

    return execute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_question_and_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert "?" in notebook.cells[0].source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.filterwarnings("default")  # zmq's and the kernel's own
def test_the_first_notebook_makes_a_song_shows_it_and_makes_it_again(run):
    outputs = run("01_compose.ipynb", seconds=2)
    said = "".join(output.text for output in outputs["song"] if output.output_type == "stream")
    lines = [line.split("%")[1].strip() for line in said.splitlines()]
    assert lines[-1] == "Done"
    assert len(lines) < 40
    words, picture = (output.data for output in outputs["song"] if output.output_type == "display_data")
    assert "<audio" in words["text/html"]
    assert "image/png" in picture
    # Nobody can see a widget there: none is made, and none is kept.
    assert not any("widget" in mime for output in outputs["song"] for mime in output.get("data", {}))
    assert outputs["repeat"][-1].data["text/plain"] == "(True, False)"
    assert "completed" in outputs["log"][-1].data["text/plain"]


@pytest.mark.filterwarnings("default")  # as above
def test_the_second_notebook_hears_every_event_and_replays_what_a_late_client_missed(run):
    outputs = run("02_live_events.ipynb", seconds=2)
    heard = outputs["heard"][-1].data["text/plain"]
    for name in ("metadata-generation-started", "metadata-generation-progress", "audio-generation-complete"):
        assert name in heard
    missed = ast.literal_eval(outputs["replay"][-1].data["text/plain"])
    assert missed == [(3, "audio-generation-started"), (4, "audio-generation-complete")]
    assert any("<audio" in output.get("data", {}).get("text/html", "") for output in outputs["panel"])
