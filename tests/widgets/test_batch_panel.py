"""The panel of a batch, by its widget's values; what a browser makes of it is test_jupyter.py's."""

import threading
import time
from types import SimpleNamespace

import IPython
import pytest

from harmonia_lab.errors import AudioError
from harmonia_lab.testing import FakeAudioEngine
from harmonia_lab.widgets import batch_panel
from harmonia_lab.widgets.batch_panel import MOST_ROWS, BatchPanel, _most_telling
from tests.batch.conftest import lab_in, quiet, row
from tests.server.engines import METADATA, Writer
from tests.waiting import PATIENCE_S

ROWS = [row(seed=seed) for seed in range(3)]


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def held(tmp_path, gate):
    """A lab whose stage 1 waits for the gate, and whose first song then fails."""
    fault = AudioError("The flute broke.", hint="Buy another flute.")
    with lab_in(tmp_path, metadata=Writer(gate=gate), audio=FakeAudioEngine(errors=[fault])) as lab:
        yield lab


@pytest.fixture
def batch(held, tmp_path):
    return held.batch(ROWS, tmp_path / "out", wait=False, say=quiet)


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def shown(panel):
    return [entry["status"] for entry in panel.widget.view["rows"]]


def test_it_shows_each_row_its_error_with_the_remedy_and_memory_and_plays_what_is_done(held, batch, gate):
    panel = BatchPanel(batch, held.events)
    until(lambda: shown(panel) == ["running", "waiting", "waiting"])
    assert panel.widget.head["canCancel"]
    assert [entry["actions"] for entry in panel.widget.view["rows"]] == [["cancel"]] * 3
    until(lambda: panel.widget.now["step"].startswith("Working on the lyrics"))
    assert panel.widget.now["id"] == "1"
    gate.set()
    until(lambda: not panel.live)
    assert shown(panel) == ["failed", "made", "made"]
    failed, made, _ = panel.widget.view["rows"]
    assert "The flute broke. Buy another flute." in failed["step"]
    assert (made["title"], made["detail"], made["actions"]) == (METADATA.title, "row 2 · seed 1 · A story.", ["play"])
    assert [unit in cell for unit, cell in zip((" s", " GB"), made["cells"], strict=True)] == [True, True]
    head = panel.widget.head
    assert head["headline"] == "3 of 3 rows, 1 without a song: done"
    assert (head["percent"], head["canCancel"]) == (100.0, False)
    assert len(head["memory"]["points"]) > 1
    assert min(head["memory"]["points"]) > 1e6
    assert head["gpu"]["points"] or head["gpu"]["text"].startswith("No GPU memory: ")

    sent = []
    panel.widget.send = lambda content, buffers: sent.append((content, buffers))
    for number in ("1", "2"):
        panel.widget._handle_custom_msg({"ask": "play", "id": number}, [])
        until(lambda: sent or panel.widget.view["notice"] == "This row has no song yet.")
    until(lambda: sent)
    assert sent[0][0] == {"play": "2", "type": "audio/mpeg"}
    panel.close()
    panel.close()


def test_clicks_cancel_one_song_and_then_all(held, batch):
    panel = BatchPanel(batch, held.events)
    panel.widget._handle_custom_msg({"ask": "cancel", "id": "2"}, [])
    until(lambda: shown(panel)[1] == "cancelled")
    assert not batch.over
    panel.widget._handle_custom_msg({"ask": "cancelAll", "id": ""}, [])
    until(lambda: not panel.live)
    assert panel.widget.head["headline"].startswith("0 of 3 rows: The batch was cancelled.")
    assert not any(entry["actions"] for entry in panel.widget.view["rows"])


def test_a_page_gets_the_widget_a_kernel_without_one_the_lines_and_the_report(held, batch, gate, monkeypatch):
    assert "text/plain" in batch._repr_mimebundle_()  # a terminal: nothing waits
    assert not batch.over
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setenv("HARMONIA_PANEL", "live")
    data, _ = batch._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert batch._repr_mimebundle_()[0] == data  # one panel for all cells
    monkeypatch.setenv("HARMONIA_PANEL", "lines")
    gate.set()
    assert "The flute broke." in batch._repr_mimebundle_()["text/plain"]
    assert batch.over


def test_a_batch_that_waits_shows_its_panel_too_and_an_interrupt_cancels_it(held, batch, monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr(batch, "result", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            batch_panel.watch_batch(batch, held.events)
    assert batch.over
    assert batch.result().state == "stopped"


def test_of_many_rows_those_around_the_running_one_are_shown_and_what_failed():
    statuses = ["failed", *["made"] * 499, "running", *["waiting"] * 499]
    rows = [SimpleNamespace(number=number, status=status) for number, status in enumerate(statuses, 1)]
    found = [entry.number for entry in _most_telling(rows)]
    assert len(found) <= MOST_ROWS
    assert (found[0], 501 in found, found == sorted(found)) == (1, True, True)
    assert _most_telling(rows[:MOST_ROWS]) == rows[:MOST_ROWS]
