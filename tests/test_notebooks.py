"""The notebooks run from top to bottom, small, with papermill's parameters, all in one kernel; they are kept without
outputs.

Their words come from a fake Ollama. `widgets/test_jupyter.py` runs the first one with the real model.
"""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from harmonia_lab.testing import SONG_METADATA, FakeOllama

FOLDER = Path(__file__).parents[1] / "notebooks"
STORY = "A small boat goes home in the rain."

pytestmark = pytest.mark.filterwarnings("default")  # zmq's, papermill's and the kernel's own


@pytest.fixture(scope="module")
def execute():
    """execute(name, folder, also, **parameters): the outputs of each code cell, by the cell's id. also: variables of
    the environment.

    The notebook finds an empty namespace, works in `folder`, and has its home there.
    """
    kernel = NotebookClient(nbformat.v4.new_notebook(), timeout=600, startup_timeout=600)
    with FakeOllama(lambda _: SONG_METADATA.model_dump_json(by_alias=True)) as ollama, kernel.setup_kernel():

        def run(name, folder, *, also=None, **parameters):
            notebook = parameterize_notebook(load_notebook_node(str(FOLDER / f"{name}.ipynb")), parameters)
            environment = {"HARMONIA_HOME": str(folder / "home"), "OLLAMA_HOST": ollama.url, "HF_HUB_OFFLINE": "1"}
            environment |= {"HARMONIA_SERVER": ""} | (also or {})
            start = f"%reset -f\nimport os\nos.chdir({str(folder)!r})\nos.environ.update({environment})"
            notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
            kernel.nb = notebook
            kernel.reset_execution_trackers()
            for index, cell in enumerate(notebook.cells):
                kernel.execute_cell(cell, index)
            return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

        yield run


def shown(outputs, kind="text/plain"):
    """What a cell displays: data of one MIME type, or what it printed."""
    found = [output.data[kind] for output in outputs if kind in output.get("data", {})]
    printed = [output.text for output in outputs if output.get("name") == "stdout"]
    return "".join([*printed, *found] if kind == "text/plain" else found)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_question_and_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert "?" in notebook.cells[0].source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_the_first_notebook_makes_a_song_shows_it_and_makes_it_again(execute, tmp_path):
    outputs = execute("01_compose", tmp_path, seconds=2)
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
    assert "<iframe" in shown(outputs["listen"], "text/html")
    assert shown(outputs["tune"], "text/html").count("<audio") == 1
    assert shown(outputs["asked"]) == "(84, ['piano', 'cello'])"
    assert "completed" in outputs["log"][-1].data["text/plain"]


def test_the_second_notebook_hears_every_event_and_replays_what_a_late_client_missed(execute, tmp_path):
    cells = execute("02_live_events", tmp_path, seconds=2)
    heard = shown(cells["heard"])
    for name in ("metadata-generation-started", "metadata-generation-progress", "audio-generation-complete"):
        assert name in heard
    missed = ast.literal_eval(shown(cells["replay"]))
    assert missed == [(3, "audio-generation-started"), (4, "audio-generation-complete")]
    assert "<audio" in shown(cells["panel"], "text/html")
    assert "<iframe" in shown(cells["listen"], "text/html")
    assert SONG_METADATA.title in shown(cells["jobs"])


def test_the_benchmark_notebook_draws_compares_and_exports(execute, tmp_path):
    cells = execute(
        "03_benchmark", tmp_path, stories=[STORY], lengths=[2], rounds=1, metadata="ollama", decode_seconds=1,
        decode_blocks=1, clients=[2], out="made",
    )  # fmt: skip
    assert "1/1  lyrics" in shown(cells["sweep"])
    for name in ("stages", "length", "spread", "memory", "decode-blocks", "server"):
        assert shown(cells[name], "image/png"), name
    assert "GPU memory: " in shown(cells["memory"])
    assert "3/3  block 1" in shown(cells["decode"])
    for name in ("runs", "decode-runs"):
        assert "data-runs='{" in shown(cells[name], "text/html"), name
    table = shown(cells["compare"], "text/html")
    assert "steps_per_second" in table
    assert "fast: 1 completed; reference: 1 completed" in table
    assert "fast again" in shown(cells["equal"], "text/html")
    assert "Acceleration of MusicGen: fast" in shown(cells["script"])
    assert "the same sound" in shown(cells["script"])
    assert (tmp_path / "made" / "decoders" / "study.html").exists()
    assert (tmp_path / "made" / "log.parquet").exists()
    assert "completed" in shown(cells["export"])


def test_the_batch_notebook_makes_a_sweep_a_report_log_rows_and_a_listening_page(execute, tmp_path):
    cells = execute("04_batch", tmp_path, narratives=[STORY], seeds=[7], seconds=2, out="made", metadata="ollama")
    assert "1/1  lyrics" in shown(cells["make"])
    assert "1 song (1 made now, 0 kept), 0 errors" in shown(cells["report"])
    assert shown(cells["log"], "text/html").count("sketch") == 1
    assert shown(cells["listen"], "text/html").count("<audio") == 1
    assert STORY in (tmp_path / "made" / "listen.html").read_text()


def test_the_listening_notebook_makes_a_test_and_finds_what_simulated_listeners_prefer(execute, tmp_path):
    cells = execute("05_listen", tmp_path, narrative=STORY, seeds=[1, 2], seconds=2, out="made", metadata="ollama")
    assert "2 pairs and 2 attention checks of bpm 80, bpm 140" in shown(cells["test"])
    assert "30 of 30 answer sets count" in shown(cells["answers"])
    assert "bpm 140 over bpm 80" in shown(cells["answers"])
    assert "/listen/" in shown(cells["serve"])
    assert (tmp_path / "made" / "test.html").exists()


def test_a_batch_notebook_with_a_bad_row_makes_the_rest_and_fails_at_its_end(execute, tmp_path):
    (tmp_path / "metadata.json").write_text(SONG_METADATA.model_dump_json(by_alias=True))
    (tmp_path / "rows.csv").write_text("metadata,seconds,key,seed\n" + "".join(
        f"metadata.json,2,{key},{seed}\n" for key, seed in (("", 1), ("H", 1), ("", 2))
    ))  # fmt: skip
    with pytest.raises(CellExecutionError, match="1 of 3 rows have no song"):
        execute("04_batch", tmp_path, table="rows.csv", out="made")
    assert len(list((tmp_path / "made").glob("*/song.flac"))) == 2
    assert (tmp_path / "made" / "listen.html").exists()
