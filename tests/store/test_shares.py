"""With whom generations are shared, in the journal's file: over threads, processes, and from an older version."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.journal_rows import SCHEMA_VERSION
from harmonia_lab.store.shares import KEPT_CHANGES, MAX_SHARES
from tests.events.stories import METADATA, job, request
from tests.store.conftest import open_journal

OLD = Path(__file__).with_name("journal-schema-1.sqlite3")
"""Written by the version before shares: ann's "done", which completed, and "failed"."""


@pytest.fixture
def journal(tmp_path):
    with contextlib.closing(Journal(tmp_path / "journal.sqlite3")) as journal:
        journal.begin(job("g"), request())
        yield journal


@pytest.fixture
def either(place):
    """A journal of each kind."""
    with contextlib.closing(open_journal(place)) as journal:
        journal.begin(job("g"), request())
        yield journal


def test_a_share_is_kept_changed_and_taken_back(either):
    shares = either.shares
    assert shares.of("g") == {}
    assert shares.add("g", "vic", "viewer") == {"vic": "viewer"}
    assert shares.add("g", "con", "controller") == {"con": "controller", "vic": "viewer"}
    assert shares.add("g", "vic", "controller")["vic"] == "controller"
    assert [job.id for job in shares.jobs_with("vic")] == ["g"]
    assert shares.remove("g", "vic") == {"con": "controller"}
    assert shares.remove("g", "vic") == {"con": "controller"}
    assert shares.jobs_with("vic") == []


def test_every_change_has_a_number_that_another_process_sees_and_what_changes_nothing_has_none(either, place):
    journal = either
    with contextlib.closing(open_journal(place)) as other:
        assert other.shares.last_change() == 0
        journal.shares.add("g", "vic", "viewer")
        journal.shares.add("g", "vic", "viewer")
        journal.shares.remove("g", "nobody")
        assert (other.shares.last_change(), other.shares.changed_after(0)) == (1, ["g"])
        assert other.shares.of("g") == {"vic": "viewer"}
        journal.shares.remove("g", "vic")
        assert (other.shares.last_change(), other.shares.changed_after(1), other.shares.changed_after(2)) == (
            2,
            ["g"],
            [],
        )


def test_numbers_grow_also_when_a_generation_and_old_changes_are_forgotten(journal, monkeypatch):
    monkeypatch.setattr("harmonia_lab.store.shares.KEPT_CHANGES", 3)
    for _ in range(4):
        journal.shares.add("g", "vic", "viewer")
        journal.shares.remove("g", "vic")
    assert journal.shares.last_change() == 8
    assert journal.shares.changed_after(0) == ["g"]
    (kept,) = journal._file.read("SELECT count(*) FROM share_changes")[0]
    assert kept == 3 < KEPT_CHANGES
    journal.shares.add("g", "vic", "viewer")
    with journal._file.writing() as database:
        database.execute("DELETE FROM generations")
    assert journal.shares.of("g") == {}
    journal.begin(job("h"), request())
    journal.shares.add("h", "vic", "viewer")
    assert journal.shares.last_change() == 10


def test_one_generation_has_so_many_shares_and_no_more(either):
    journal = either
    for number in range(MAX_SHARES):
        journal.shares.add("g", f"user {number}", "viewer")
    with pytest.raises(InvalidRequest, match="100 users already"):
        journal.shares.add("g", "one more", "viewer")
    assert journal.shares.add("g", "user 1", "controller")["user 1"] == "controller"


def test_what_does_not_exist_cannot_be_shared(either):
    with pytest.raises(StorageError, match=r"FOREIGN KEY|no generation nothing"):
        either.shares.add("nothing", "vic", "viewer")


def test_a_journal_of_the_version_before_opens_with_all_that_it_had_and_takes_shares(tmp_path):
    path = tmp_path / "journal.sqlite3"
    shutil.copy(OLD, path)
    with contextlib.closing(Journal(path)) as journal:
        assert {job.id: job.status for job in journal.jobs()} == {"done": "completed", "failed": "failed"}
        assert journal.state("done").metadata == METADATA
        assert len(journal.replay("done", "generation")) == 4
        assert journal.shares.of("done") == {}
        journal.shares.add("done", "vic", "viewer")
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    with contextlib.closing(Journal(path)) as journal:
        assert journal.shares.of("done") == {"vic": "viewer"}
