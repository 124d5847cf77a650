"""A batch in the background: what its handle says, how it is cancelled, and what is left then."""

import asyncio
import contextlib
import threading
import time

import pytest

from harmonia_lab.batch import read_report
from harmonia_lab.errors import AudioError, InvalidRequest, StorageError
from harmonia_lab.testing import FakeAudioEngine
from tests.batch.conftest import lab_in, quiet, row, statuses
from tests.server.engines import Writer
from tests.waiting import PATIENCE_S

ROWS = [row(seed=seed) for seed in range(3)]


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def held(tmp_path, gate):
    """A lab whose stage 1 waits for the gate."""
    with lab_in(tmp_path, metadata=Writer(gate=gate)) as lab:
        yield lab


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_returns_at_once_tells_how_far_it_is_and_its_result_is_the_report(held, gate, tmp_path):
    batch = held.batch([*ROWS, ROWS[0]], tmp_path / "out", wait=False, say=quiet)
    changes = []
    batch.observe(lambda: changes.append(batch.done))
    until(lambda: batch.running)
    assert (batch.total, batch.done, batch.state, batch.over) == (4, 0, "running", False)
    assert [entry.status for entry in batch.rows] == ["running", "waiting", "waiting", "waiting"]
    assert (batch.running.narrative, batch.running.seed) == ("A story.", 0)
    assert batch.seconds_left is None
    with pytest.raises(TimeoutError):
        batch.result(0)
    gate.set()
    report = batch.result(PATIENCE_S)
    assert statuses(report) == ["made"] * 4
    assert (report.state, batch.state, batch.running, batch.done) == ("done", "done", None, 4)
    first = batch.rows[0]
    assert (first.title, first.percent, first.folder / "song.flac") == (
        report.songs[0].song["title"], 100.0, tmp_path / "out" / report.songs[0].song["directory"] / "song.flac",
    )  # fmt: skip
    assert first.seconds > 0
    assert first.rss_peak > 1e6
    assert first.gpu_peak is None
    assert changes[-1] == 4
    assert repr(batch).endswith("done, 4 of 4)")


def test_a_second_run_knows_from_the_first_how_long_it_will_take(held, gate, tmp_path):
    gate.set()
    held.batch(ROWS[:1], tmp_path / "out", say=quiet)
    gate.clear()
    batch = held.batch(ROWS, tmp_path / "out", wait=False, say=quiet)
    until(lambda: batch.running)
    assert batch.rows[0].status == "kept"
    assert batch.done == 1
    assert batch.seconds_left is not None


def test_a_row_that_fails_has_its_error_and_its_remedy(tmp_path):
    fault = AudioError("The flute broke.", hint="Buy another flute.")
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=[fault])) as lab:
        batch = lab.batch(ROWS[:2], tmp_path / "out", wait=False, say=quiet)
        batch.wait(PATIENCE_S)
    failed, made = batch.rows
    assert failed.status == "failed"
    assert failed.remedy.startswith("Buy another flute.")
    assert "The flute broke." in failed.error
    assert made.status == "made"


def test_a_cancel_keeps_what_is_made_and_the_same_call_goes_on(held, gate, tmp_path):
    batch = held.batch(ROWS, tmp_path / "out", wait=False, say=quiet)
    until(lambda: batch.running)
    batch.cancel()
    batch.cancel()
    report = batch.result(PATIENCE_S)
    assert (statuses(report), report.ok, report.state) == (["waiting"] * 3, False, "stopped")
    assert "the same call goes on" in str(report)
    assert read_report(tmp_path / "out")["stopped"]["code"] == "CANCELLED"
    assert next(iter(held.journal.jobs())).status == "cancelled"
    gate.set()
    assert held.batch(ROWS, tmp_path / "out", wait=False, say=quiet).result(PATIENCE_S).ok


def test_one_song_is_cancelled_the_running_one_or_one_that_waits_and_the_others_are_made(held, gate, tmp_path):
    batch = held.batch(ROWS, tmp_path / "out", wait=False, stop_after=1, say=quiet)
    until(lambda: batch.running)
    with pytest.raises(InvalidRequest, match="no row 4"):
        batch.cancel(4)
    batch.cancel(2)
    assert batch.rows[1].status == "cancelled"
    batch.cancel(1)
    gate.set()
    report = batch.result(PATIENCE_S)
    assert [entry.status for entry in batch.rows] == ["cancelled", "cancelled", "made"]
    assert [str(outcome.error.code) for outcome in report.errors] == ["CANCELLED"] * 2
    assert report.stopped is None  # what its user did not want says nothing of the next song


def test_what_is_wrong_before_the_first_song_is_raised_at_once(held, tmp_path):
    with pytest.raises(InvalidRequest, match="stop_after"):
        held.batch(ROWS, tmp_path / "out", stop_after=-1, wait=False)
    with pytest.raises(InvalidRequest, match="wait"):
        held.batch(ROWS, tmp_path / "out", check=True, wait=False)
    batch = held.batch(ROWS, tmp_path / "out", wait=False, say=quiet)
    with pytest.raises(StorageError, match="Another batch is at work"):
        held.batch(ROWS, tmp_path / "out", wait=False)
    batch.cancel()


def test_closing_the_lab_cancels_it_and_its_report_is_written(tmp_path, gate):
    lab = lab_in(tmp_path, metadata=Writer(gate=gate))
    batch = lab.batch(ROWS, tmp_path / "out", wait=False, say=quiet)
    until(lambda: batch.running)
    lab.close()
    assert batch.over
    assert read_report(tmp_path / "out")["state"] == "stopped"


def test_a_sweep_takes_it_too_and_a_cell_can_await_it(held, gate, tmp_path):
    gate.set()

    async def made():
        return await held.sweep("A story.", seeds=[1, 2], seconds=1, out=tmp_path / "out", wait=False, say=quiet)

    assert statuses(asyncio.run(made())) == ["made", "made"]


def test_an_error_that_is_no_songs_reaches_the_caller(held, gate, tmp_path):
    def broken(line):
        if "1/3" in line:
            raise ZeroDivisionError

    gate.set()
    batch = held.batch(ROWS, tmp_path / "out", wait=False, say=broken)
    with contextlib.suppress(ZeroDivisionError):
        batch.result(PATIENCE_S)
        pytest.fail("nothing was raised")
    assert batch.state == "failed"
