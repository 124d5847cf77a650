"""Cells as papermill runs them, in a real kernel that has inherited every variable of a page: nothing is silent."""

import os
import re

import nbformat
import pytest
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.store.journal import Journal

pytestmark = pytest.mark.filterwarnings("default")  # zmq's and the kernel's own

INHERITED = {
    "JPY_SESSION_NAME": "/a/notebook.ipynb", "VSCODE_PID": "1", "VSCODE_CWD": "/", "COLAB_RELEASE_TAG": "release",
}  # fmt: skip

START = """
import os, signal, subprocess, threading
from harmonia_lab import Lab
from harmonia_lab.errors import AudioError
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

class Renderer(FakeAudioEngine):
    "Renders in a child process, as the sketch engine does, which never ends by itself."

    def render(self, parts, plan, seeds, progress, cancel, finished):
        with subprocess.Popen(["sleep", "1000"]) as child:
            while child.poll() is None:
                cancel.wait(0.01)
                if cancel.cancelled:
                    child.kill()
        cancel.raise_if_cancelled()
        raise AudioError("The renderer has died.")

lab = Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs="songs")
"""

INTERRUPT = "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def client(folder):
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=600, startup_timeout=600, allow_errors=True)
    environment = os.environ | INHERITED | {"HARMONIA_HOME": str(folder / "home"), "OLLAMA_HOST": "127.0.0.1:9"}
    with (folder / "stderr").open("w") as log, client.setup_kernel(env=environment, cwd=str(folder), stderr=log):
        yield client


@pytest.fixture(scope="module")
def run(client):
    """run(source): the outputs of a cell."""

    def run(source):
        client.nb.cells.append(nbformat.v4.new_code_cell(source))
        return client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1).outputs

    assert run(START) == []
    return run


def streams(outputs, name="stdout"):
    return "".join(output.text for output in outputs if output.get("name") == name)


def error(outputs):
    """The lines of the error that a cell ended with."""
    (found,) = [output for output in outputs if output.output_type == "error"]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(found.traceback)).splitlines()


def assert_song(outputs):
    words, picture = [output.data for output in outputs if output.output_type == "display_data"]
    assert "<audio" in words["text/html"]
    assert "image/png" in picture
    assert not any("widget" in kind for output in outputs for kind in output.get("data", {}))
    assert streams(outputs, "stderr") == ""
    assert "%  Done" in streams(outputs)


def test_a_job_at_the_end_of_a_cell_is_waited_for_and_leaves_lines_words_sound_and_picture(run):
    assert_song(run("job = lab.submit('A story.', seconds=1)\njob"))


def test_a_cell_that_ends_with_its_song_shows_it_once_and_the_next_one_shows_it_again(run):
    outputs = run("song = lab.compose('A story.', seconds=1)\nsong")
    assert_song(outputs)
    assert outputs[-1].data["text/plain"].endswith("song.flac")
    assert "text/html" not in outputs[-1].data
    (again,) = run("song")
    assert "<audio" in again.data["text/html"]


def test_a_magic_over_a_story_is_a_job(run):
    run("%load_ext harmonia_lab")
    assert_song(run("%%song --seconds 1 --as tune\nA lighthouse keeper's last night."))
    (shown,) = run("tune.status")
    assert shown.data["text/plain"] == "'completed'"


def test_a_mistake_ends_in_three_lines_and_the_traceback_is_there_on_request(run):
    lines = error(run("seconds = 9000\nlab.submit('A story.', seconds=seconds)"))
    assert len(lines) <= 3
    assert "seconds input should be less than or equal to 600" in lines[0]
    assert "In line 2: lab.submit('A story.', seconds=seconds)" in lines[-1]
    whole = str(run("%tb"))
    assert "parse_request" in whole
    lines = error(run("try:\n    lab.submit('')\nexcept Exception as error:\n    kept = error\nraise kept"))
    assert len(lines) <= 3
    assert len(error(run("raise kept"))) <= 3


def test_an_interrupted_wait_says_that_the_song_goes_on_and_how_to_stop_it(run):
    start = "job = lab.submit('A story.', audio=Renderer(), seconds=1, generation_id='{}')\n" + INTERRUPT
    for name, wait in (("waited-1", "await job"), ("waited-2", "job.result()")):
        lines = error(run(start.format(name) + wait))
        assert len(lines) <= 3
        assert f"song {name} is still being made. `job.cancel()` stops it" in lines[-1]
        (shown,) = run("job.cancel(), job.wait(60), job.status")
        assert "cancelled" in shown.data["text/plain"]


def test_a_song_that_the_end_of_the_kernel_interrupts_is_no_failure_of_its_renderer(run, client, folder):
    """The last test of this file: it ends the kernel, as papermill does after the last cell."""
    run("job = lab.submit('A story.', audio=Renderer(), seconds=1, generation_id='last')")
    run("while job.progress is None or job.state.stage != 'audio': job.wait(0.01)\njob.wait(0.3)")
    run_sync(client.km.shutdown_kernel)()
    assert "interrupts what it was making: last" in (folder / "stderr").read_text()
    log = BenchmarkLog(folder / "home" / "runs.jsonl")
    journal = Journal(folder / "home" / "journal.sqlite3")
    try:
        from harmonia_lab.generation.interrupted import end_interrupted

        end_interrupted(journal, log)  # where the kernel was killed before it had said so
        assert journal.state("last").failure.error.code == "INTERRUPTED"
    finally:
        journal.close()
    assert log.rows()[-1]["error_code"] == "INTERRUPTED"
