"""A study in the background: what its handle and its panel say, how it is cancelled, and what is left then."""

import asyncio
import threading
from types import SimpleNamespace

import IPython
import pytest

from harmonia_lab.backends import local
from harmonia_lab.errors import AudioError, InvalidRequest, StorageError
from harmonia_lab.study import StudyReport
from harmonia_lab.testing import SONG_METADATA
from harmonia_lab.widgets.batch_panel import BatchPanel
from tests.server.engines import Player, make_lab
from tests.waiting import PATIENCE_S, until

DESIGN = {
    "stories": [{"metadata": SONG_METADATA}],
    "seeds": 2,
    "lengths": [1],
    "primary": "cpu_s",
    "warm_up": 0,
    "configurations": {"one": {}, "two": {}},
}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """A song's picture takes as long as all else together, and says nothing about a study."""
    monkeypatch.setattr(local, "_draw_overview", lambda path, **picture: "")


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def held(tmp_path, gate):
    """A lab whose songs wait for the gate."""
    with make_lab(tmp_path, audio=Player(gate=gate)) as lab:
        yield lab


def quiet(line):
    """Nobody listens."""


def begun(lab, folder, **fields):
    study = lab.study(DESIGN | fields, folder / "out", wait=False, say=quiet, page=False)
    until(lambda: study.running or study.over)
    return study


def test_it_returns_before_the_first_song_tells_each_run_and_its_result_is_the_report(held, gate, tmp_path):
    study = begun(held, tmp_path)
    assert (study.total, study.done, study.state, study.over) == (4, 0, "running", False)
    assert [each.status for each in study.rows] == ["running", "waiting", "waiting", "waiting"]
    first = study.running
    assert (first.heading, first.detail) == (first.configuration, f"block 1 · seed 0 · 1 s · {SONG_METADATA.title}")
    assert study.seconds_left is None
    assert study.report.incomplete() == {block.number: [*block.order] for block in study.report.record.blocks}
    gate.set()
    report = study.result(PATIENCE_S)
    assert isinstance(report, StudyReport)
    assert report.incomplete() == {}
    assert (study.state, study.done, study.running, study.failures) == ("done", 4, None, 0)
    drawn = [(block.number, name) for block in report.record.blocks for name in block.order]
    assert [(each.block, each.configuration) for each in study.rows] == drawn
    for each in study.rows:
        assert each.seconds > 0
        assert each.rss_peak > 1e6
        assert (each.folder / "song.flac").exists()
        assert each.title == SONG_METADATA.title
    assert repr(study).endswith("done, 4 of 4)")


def test_a_cancel_keeps_what_is_made_and_the_same_call_goes_on_and_knows_how_long_it_takes(held, gate, tmp_path):
    study = begun(held, tmp_path, seeds=1)
    gate.set()
    until(lambda: study.done)
    gate.clear()
    study.cancel()
    report = study.result(PATIENCE_S)
    made = study.done
    assert made < 2
    assert (study.state, report.missing) == ("stopped", ())
    assert "the same call goes on" in study.why_stopped
    assert not report.folder.page.exists()
    again = begun(held, tmp_path, seeds=1)
    assert [each.status for each in again.rows] == ["kept"] * made + ["running"] + ["waiting"] * (1 - made)
    assert again.seconds_left is not None
    assert again.rows[0].folder is not None
    gate.set()
    assert again.result(PATIENCE_S).incomplete() == {}


def test_one_run_is_cancelled_and_says_nothing_of_its_configuration(held, gate, tmp_path):
    study = begun(held, tmp_path, seeds=4)
    with pytest.raises(InvalidRequest, match="no row 9"):
        study.cancel(9)
    for each in study.rows:
        if each.configuration == "one":
            study.cancel(each.number)
    gate.set()
    report = study.result(PATIENCE_S)
    assert {(each.configuration, each.status) for each in study.rows} == {("one", "cancelled"), ("two", "made")}
    assert [str(each.error.code) for each in report.missing] == ["CANCELLED"] * 4  # not given up after three


def test_a_run_that_fails_has_its_error_and_its_remedy(tmp_path):
    broken = Player(errors=[AudioError("The flute broke.", hint="Buy another flute.")])
    with make_lab(tmp_path, audio=broken) as lab:
        study = begun(lab, tmp_path, seeds=1)
        study.wait(PATIENCE_S)
    assert (study.failures, study.state) == (1, "done")
    failed, made = study.rows
    assert (failed.status, made.status) == ("failed", "made")
    assert failed.error.endswith("The flute broke.")
    assert failed.remedy.startswith("Buy another flute.")


def test_what_is_wrong_before_the_first_song_is_raised_at_once(held, tmp_path):
    with pytest.raises(InvalidRequest, match="primary"):
        held.study(DESIGN | {"primary": "joy"}, tmp_path / "out", wait=False)
    study = begun(held, tmp_path)
    with pytest.raises(StorageError, match="Another process makes the study"):
        held.study(DESIGN, tmp_path / "out", wait=False)
    study.cancel()


def test_closing_the_lab_cancels_it_and_a_cell_can_await_it(tmp_path, gate):
    async def made():
        return await begun(lab, tmp_path, seeds=1)

    with make_lab(tmp_path, audio=Player(gate=gate)) as lab:
        gate.set()
        assert asyncio.run(made()).incomplete() == {}
        gate.clear()
        study = lab.study(DESIGN, tmp_path / "other", wait=False, say=quiet)
        until(lambda: study.running)
    assert (study.over, study.state) == (True, "stopped")


def test_its_panel_shows_each_run_the_warm_up_and_memory_cancels_one_and_plays_another(held, gate, tmp_path):
    study = held.study(DESIGN | {"warm_up": 1}, tmp_path / "out", wait=False, say=quiet, page=False)
    until(lambda: study.note)
    panel = BatchPanel(study, held.events)
    assert panel.widget.head["headline"] == f"0 of 4 songs: {study.note}"
    assert study.note.startswith("warm-up 1 of 1, ")
    assert [each["actions"] for each in panel.widget.view["rows"]] == [["cancel"]] * 4
    panel.widget._handle_custom_msg({"ask": "cancel", "id": "4"}, [])
    until(lambda: panel.widget.view["rows"][3]["status"] == "cancelled")
    gate.set()
    until(lambda: not panel.live)
    assert [each["status"] for each in panel.widget.view["rows"]] == ["made", "made", "made", "cancelled"]
    assert panel.widget.head["headline"] == "4 of 4 songs, 1 without a song: done"
    assert panel.widget.head["gpu"]["points"] or panel.widget.head["gpu"]["text"].startswith("No GPU memory: ")
    sent = []
    panel.widget.send = lambda content, buffers: sent.append(content)
    panel.widget._handle_custom_msg({"ask": "play", "id": "2"}, [])
    until(lambda: sent)
    assert sent == [{"play": "2", "type": "audio/mpeg"}]
    panel.close()


def test_a_page_gets_the_panel_with_its_progress_and_a_kernel_without_one_the_report(held, gate, tmp_path, monkeypatch):
    study = begun(held, tmp_path)
    assert "text/plain" in study._repr_mimebundle_()  # a terminal: nothing waits
    assert not study.over
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setenv("HARMONIA_PANEL", "live")
    data, _ = study._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    until(lambda: study.panel.widget.now.get("step"))  # its labs' events come to its panel
    monkeypatch.setenv("HARMONIA_PANEL", "lines")
    gate.set()
    assert "2 blocks of one, two" in study._repr_mimebundle_()["text/plain"]
    assert study.over
