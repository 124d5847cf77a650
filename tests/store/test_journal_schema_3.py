"""A journal of schema 3, from before songs were made elsewhere, opens as before, and is brought up.

`journal-schema-3.sqlite3` was written by commit 15cd4fb, with fakes: "done", and "running", whose process was killed.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from harmonia_lab.protocol.models import Job, SongRequest, utc_now
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.journal_rows import SCHEMA_VERSION

OLD = Path(__file__).with_name("journal-schema-3.sqlite3")


def test_its_songs_are_this_machines_and_it_takes_others(tmp_path):
    path = tmp_path / "journal.sqlite3"
    shutil.copy(OLD, path)
    journal = Journal(path)
    assert {job.id: job.status for job in journal.jobs()} == {"done": "completed", "running": "processing"}
    assert journal.elsewhere.server_of("running") is None
    assert [state.id for state in journal.interrupted()] == ["running"]
    job = Job(id="far", user_id="local", created_at=utc_now(), updated_at=utc_now())
    journal.begin(job, SongRequest(narrative="A boat.", generation_id="far"), server="http://far:3333")
    assert journal.elsewhere.server_of("far") == "http://far:3333"
    journal.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,) == (4,)


def test_what_is_made_elsewhere_does_not_end_with_its_process_and_the_next_one_gets_it_once(tmp_path):
    path = tmp_path / "journal.sqlite3"
    first = Journal(path)
    for name, server in (("here", None), ("far", "http://far"), ("farther", "http://farther")):
        job = Job(id=name, user_id="local", created_at=utc_now(), updated_at=utc_now())
        first.begin(job, SongRequest(narrative="A boat.", generation_id=name), server=server)
    second = Journal(path)
    assert second.left_elsewhere("http://far") == []  # the first process follows it
    first.close()
    assert [state.id for state in second.interrupted()] == ["here"]
    third = Journal(path)
    assert second.left_elsewhere("http://far") == ["far"]
    assert third.left_elsewhere("http://far") == []
    second.forget("far")
    assert second.state("far") is None
    second.close()
    third.close()
