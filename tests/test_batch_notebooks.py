"""The notebooks on benchmarks and batches, executed as papermill executes them, small."""

from pathlib import Path

import papermill
import pytest

from harmonia_lab.testing import SONG_METADATA

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

pytestmark = pytest.mark.filterwarnings("default")  # zmq's, papermill's and the kernel's own


@pytest.fixture
def execute(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(name, **parameters):
        done = papermill.execute_notebook(
            NOTEBOOKS / f"{name}.ipynb",
            tmp_path / f"{name}.ipynb",
            parameters=parameters,
            cwd=tmp_path,
            progress_bar=False,
            execution_timeout=600,
            start_timeout=600,
        )
        return {cell.id: cell.outputs for cell in done.cells if cell.cell_type == "code"}

    return run


def shown(outputs, kind="text/plain"):
    """What a cell displays: data of one MIME type, or what it printed."""
    found = [output.data[kind] for output in outputs if kind in output.get("data", {})]
    printed = [output.text for output in outputs if output.get("name") == "stdout"]
    return "".join([*printed, *found] if kind == "text/plain" else found)


STORY = "A small boat goes home in the rain."


def test_the_batch_notebook_makes_a_sweep_a_report_log_rows_and_a_listening_page(execute, tmp_path):
    cells = execute("04_batch", narratives=[STORY], seeds=[7], seconds=2, out="made", metadata="embedded")
    assert "1/1  lyrics" in shown(cells["make"])
    assert "1 song (1 made now, 0 kept), 0 errors" in shown(cells["report"])
    assert shown(cells["log"], "text/html").count("sketch") == 1
    assert shown(cells["listen"], "text/html").count("<audio") == 1
    assert STORY in (tmp_path / "made" / "listen.html").read_text()


def test_a_batch_notebook_with_a_bad_row_makes_the_rest_and_fails_at_its_end(execute, tmp_path):
    (tmp_path / "metadata.json").write_text(SONG_METADATA.model_dump_json(by_alias=True))
    (tmp_path / "rows.csv").write_text("metadata,seconds,key,seed\n" + "".join(
        f"metadata.json,2,{key},{seed}\n" for key, seed in (("", 1), ("H", 1), ("", 2))
    ))  # fmt: skip
    with pytest.raises(papermill.PapermillExecutionError, match="1 of 3 rows have no song"):
        execute("04_batch", table="rows.csv", out="made")
    assert len(list((tmp_path / "made").glob("*/song.flac"))) == 2
    assert (tmp_path / "made" / "listen.html").exists()


def test_the_benchmark_notebook_draws_compares_and_exports(execute, tmp_path):
    cells = execute(
        "03_benchmark", stories=[STORY], lengths=[2], rounds=1, metadata="embedded", decode_seconds=1, decode_rounds=1,
        clients=[2], out="made",
    )  # fmt: skip
    for name in ("sweep", "length", "spread", "memory", "server"):
        assert shown(cells[name], "image/png"), name
    table = shown(cells["decode"], "text/html")
    assert "steps_per_second" in table
    assert "A: 2 completed" in table
    assert (tmp_path / "made" / "log.parquet").exists()
    assert "completed" in shown(cells["export"])
