"""The invariants find what they are there for."""

from tests.chaos.invariants import Kept, attempts, broken_folder, broken_history, broken_log, broken_process


def kept(events, status="cancelled", rows=(), folders=()):
    return Kept("g", status, None, list(events), list(rows), list(folders))


def cancelled(family, seq):
    if family == "generation":
        return (family, seq, "generation-cancelled", {"generationId": "g", "reason": "user_cancelled", "seq": seq})
    return (family, seq, "job:status", {"id": "g", "status": "cancelled", "seq": seq})


def test_one_end_of_each_family_is_right_and_two_are_not():
    once = [cancelled("generation", 1), cancelled("job", 1)]
    assert broken_history(kept(once), 1) == []
    assert "[2, 1] ends" in broken_history(kept([*once, cancelled("generation", 2)]), 1)[0]
    assert "not 2" in broken_history(kept(once), 2)[0]


def test_a_gap_in_the_numbers_and_a_job_that_goes_on_for_good_are_found():
    assert (
        "numbered [1, 3]"
        in broken_history(kept([cancelled("generation", 1), cancelled("job", 1), cancelled("job", 3)]), 1)[-1]
    )
    assert broken_history(kept([], status="processing"), 1) == ["g is processing in the journal"]


def test_a_pending_job_after_an_end_is_another_attempt():
    pending = ("job", 2, "job:status", {"id": "g", "status": "pending", "seq": 2})
    assert attempts(kept([cancelled("job", 1)])) == 1
    assert attempts(kept([cancelled("job", 1), pending, cancelled("job", 3)])) == 2


def test_a_row_twice_or_of_another_end_is_found():
    assert broken_log(kept([], rows=[{"run_id": "g-1", "status": "cancelled"}])) == []
    assert "twice" in broken_log(kept([], rows=[{"run_id": "g-1", "status": "cancelled"}] * 2))[0]
    assert "its rows say ['completed']" in broken_log(kept([], rows=[{"run_id": "g-1", "status": "completed"}]))[0]


def test_a_folder_that_nobody_needs_is_found():
    assert broken_folder(kept([])) == []
    assert broken_folder(kept([], folders=[".g.partial-g"])) == ["g is cancelled, and has ['.g.partial-g']"]
    assert broken_folder(kept([], status="failed", folders=[".g.partial-g"])) == []
    assert broken_folder(kept([], status="failed", folders=["a-song-g"])) == ["g is failed, and has ['a-song-g']"]
    assert "completed, and has []" in broken_folder(kept([], status="completed"))[0]


def test_a_process_that_grows_is_found():
    base = {"rooms": 2, "descriptors": 20, "pss": 100e6}
    assert broken_process(base, base | {"pss": 124e6, "descriptors": 30}) == []
    assert len(broken_process(base, {"rooms": 3, "descriptors": 60, "pss": 126e6})) == 3
