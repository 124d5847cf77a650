"""A cell that runs again leaves nothing of its earlier run in the kernel: a real one, with cell ids as a page sends."""

import os

import pytest
from jupyter_client.manager import KernelManager

pytestmark = pytest.mark.filterwarnings("default")  # zmq's and the kernel's own

START = """
import gc, ipywidgets
from harmonia_lab import Lab
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
lab = Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs="songs")
def models():
    gc.collect()
    living = ipywidgets.widgets.widget._instances.values()
    return sorted(type(widget).__name__ for widget in living if hasattr(widget, "_esm"))
"""
SONG = "job = lab.submit('A story.', seconds=2)\njob"
SETTLED = "job.result(); job.panel().settle(60)"


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """cell(source, id): runs a cell; returns what it printed."""
    folder = tmp_path_factory.mktemp("kernel")
    manager = KernelManager(kernel_name="python3")
    environment = os.environ | {
        "HARMONIA_HOME": str(folder / "home"),
        "OLLAMA_HOST": "127.0.0.1:9",
        "HARMONIA_PANEL": "live",
    }
    with (folder / "stderr").open("w", encoding="utf-8") as log:
        manager.start_kernel(env=environment, cwd=str(folder), stderr=log)
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=600)

        def run(source, cell_id=""):
            told = []
            content = {
                "code": source,
                "silent": False,
                "store_history": True,
                "allow_stdin": False,
                "stop_on_error": True,
            }
            request = client.session.msg("execute_request", content, metadata={"cellId": cell_id} if cell_id else {})
            client.shell_channel.send(request)
            while True:
                message = client.get_iopub_msg(timeout=600)
                if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                    continue
                assert message["msg_type"] != "error", message["content"]
                if message["msg_type"] == "stream":
                    told.append(message["content"]["text"])
                if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                    return "".join(told).strip()

        run(START)
        yield run
        run("lab.close()")
        client.stop_channels()
        manager.shutdown_kernel()


def test_the_widget_of_an_ended_song_is_closed_when_its_cell_runs_again(cell):
    for _ in range(3):
        cell(SONG, "a")
        cell(SETTLED)
    assert cell("print(models())") == "['_Live']"


def test_a_song_that_another_cell_shows_keeps_its_widget(cell):
    cell(SONG, "a")
    cell(SETTLED)
    cell("kept = job\nkept", "b")
    for _ in range(2):
        cell(SONG, "a")
        cell(SETTLED)
    assert cell("print(models())") == "['_Live', '_Live']"
    assert cell("print(kept.panel().closed, job is kept)") == "False False"


def test_a_song_that_is_being_made_keeps_its_widget_until_it_has_ended(cell):
    cell("import threading\nslow = Lab(metadata=FakeMetadataEngine(step_s=0.05, steps=4000), audio=FakeAudioEngine())")
    cell("first = slow.submit('A story.', seconds=2)\nfirst", "c")
    before = cell("print(len(models()))")
    cell(SONG, "c")
    cell(SETTLED)
    assert cell("print(len(models()))") == str(int(before) + 1)
    cell("first.cancel(); first.wait(60); first.panel().settle(60)")
    assert cell("print(len(models()))") == before
    cell("slow.close()")


def test_a_panel_that_has_left_the_page_can_be_shown_again(cell):
    cell("old = lab.submit('A story.', seconds=2)\nold", "d")
    cell("old.result(); old.panel().settle(60)")
    cell(SONG, "d")
    cell(SETTLED)
    before = cell("print(len(models()))")
    cell("old", "e")
    assert cell("print(len(models()))") == str(int(before) + 1)
    assert cell("old.panel().settle(60); print(len(old.panel().widget.audio) > 1000)") == "True"


@pytest.mark.parametrize("shown", ["lab.listen(job)", "lab.chart(lab.log.frame())"])
def test_a_player_or_a_chart_is_closed_when_its_cell_runs_again(cell, shown):
    for _ in range(3):
        cell(shown, "f")
    before = cell("print(len(models()))")
    for _ in range(3):
        cell(shown, "f")
    assert cell("print(len(models()))") == before
