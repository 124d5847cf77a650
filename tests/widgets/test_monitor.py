"""The table of jobs: everybody's own, live."""

import threading
import time

import pytest

from harmonia_lab.widgets.monitor import rows
from tests.server.engines import METADATA, Writer, make_lab
from tests.waiting import PATIENCE_S


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def lab(tmp_path, gate):
    with make_lab(tmp_path, metadata=Writer(gate=gate)) as lab:
        yield lab


def until(monitor, *wanted):
    deadline = time.monotonic() + PATIENCE_S
    while (found := [row["status"] for row in monitor.widget.view["rows"]]) != list(wanted):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return monitor.widget.view["rows"]


def test_the_table_follows_every_song_newest_first(lab, gate):
    monitor = lab.monitor()
    assert monitor.widget.view["rows"] == []
    first = lab.submit("One.", seconds=1)
    until(monitor, "processing")
    second = lab.submit("Two.", seconds=1)
    until(monitor, "pending", "processing")
    gate.set()
    done = until(monitor, "completed", "completed")
    assert [row["id"] for row in done] == [second.id, first.id]
    assert {(row["title"], row["percent"]) for row in done} == {(METADATA.title, 100.0)}
    assert [row["actions"] for row in done] == [["play", "open"]] * 2
    monitor.close()
    monitor.close()


def test_a_click_cancels_one_song_and_a_late_one_is_answered(lab):
    monitor = lab.monitor()
    job = lab.submit("One.", seconds=1)
    until(monitor, "processing")
    monitor.widget._handle_custom_msg({"ask": "cancel", "id": job.id}, [])
    until(monitor, "cancelled")
    monitor.widget._handle_custom_msg({"ask": "retry", "id": job.id}, [])
    deadline = time.monotonic() + PATIENCE_S
    while "cannot be tried again" not in monitor.widget.view["notice"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monitor.close()


def test_other_users_jobs_are_not_in_it(lab, gate):
    from harmonia_lab.protocol.models import parse_request

    gate.set()
    lab.submit_request(parse_request(narrative="Hers."), user="ann").result(PATIENCE_S)
    assert rows(lab.journal.jobs("local")) == []
    own, everybodys = lab.monitor(), lab.monitor(user=None)
    assert own.widget.view["rows"] == []
    assert [row["status"] for row in everybodys.widget.view["rows"]] == ["completed"]
    own.close()
    everybodys.close()


def test_songs_of_one_title_are_told_apart_by_id_seed_and_time(lab, gate):
    gate.set()
    jobs = [lab.submit("One.", seconds=1, seed=seed) for seed in (3, 4)]
    monitor = lab.monitor()
    shown = until(monitor, "completed", "completed")
    assert [row["detail"] for row in shown] == [f"{jobs[1].id} · seed 4", f"{jobs[0].id} · seed 3"]
    assert all(row["cells"][0] for row in shown)

    sent = []
    monitor.widget.send = lambda content, buffers: sent.append((content, buffers))
    monitor.widget._handle_custom_msg({"ask": "play", "id": jobs[0].id}, [])
    monitor.widget._handle_custom_msg({"ask": "open", "id": jobs[1].id}, [])
    deadline = time.monotonic() + PATIENCE_S
    while not (sent and monitor.opened):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    [(content, [sound])] = sent
    assert content == {"play": jobs[0].id, "type": "audio/mpeg"}
    assert len(sound) > 1000
    assert monitor.opened.view["id"] == jobs[1].id
    monitor.close()
