"""The server inside a real Jupyter kernel, with an external client, while a cell is busy."""

import asyncio
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.server.conftest import GENERATION
from tests.server.test_guide import run_client

SERVE = """
import pathlib, time
from tests.server.engines import Writer, make_lab
folder = pathlib.Path({folder!r})
lab = make_lab(folder, metadata=Writer(step_s=0.02))
server = lab.serve(port=0)
print(server.url, server.token("ann"))
"""
BUSY = """
begun, turns = time.monotonic(), 0
# A call of the system in each turn would starve the other threads on an idle machine: whoever releases Python's lock
# for microseconds has it again before another thread is awake.
while (turns % 1000 or not (folder / "heard").exists()) and time.monotonic() < begun + 150:
    turns += sum(range(1000)) > 0
print(turns > 1000)
"""
STOP = "lab.close(); print(server.running)"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_sees_its_song_made_while_a_cell_computes(tmp_path, javascript):
    cells = [SERVE.format(folder=str(tmp_path)), BUSY, STOP]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, startup_timeout=200, timeout=200, resources={"metadata": {"path": str(Path(__file__).parents[2])}}
    )

    def printed(index):
        return "".join(output["text"] for output in notebook.cells[index].outputs if output.get("name") == "stdout")

    async def main():
        async with client.async_setup_kernel(env=os.environ | {"OLLAMA_HOST": "127.0.0.1:9"}):
            await client.async_execute_cell(notebook.cells[0], 0)
            url, token = printed(0).split()
            busy = asyncio.create_task(client.async_execute_cell(notebook.cells[1], 1))
            try:
                heard = (await asyncio.to_thread(run_client, javascript, url, token, "websocket", "g"))["heard"]
                assert not busy.done()
            finally:
                (tmp_path / "heard").touch()
                await busy
            await client.async_execute_cell(notebook.cells[2], 2)
        return heard

    heard = asyncio.run(main())
    lifecycle = [(n, e["seq"]) for n, e in heard if n in dict(GENERATION) and not n.endswith("progress")]
    assert lifecycle == GENERATION
    assert printed(1).strip() == "True"
    assert printed(2).strip() == "False"
