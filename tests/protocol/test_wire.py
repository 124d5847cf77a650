"""The wire does not change unless the protocol's version does, far enough."""

import copy
import json

import pytest

from tests.protocol.wire import SNAPSHOT, changes, current, verdict, version_needed

OLD = current() | {"version": "1.4"}


def test_the_wire_is_as_it_was_or_the_version_has_moved():
    wrong = verdict(json.loads(SNAPSHOT.read_text()), current())
    assert wrong is None, wrong


def edited(edit):
    new = copy.deepcopy(OLD)
    edit(new)
    return new


def properties(new, name):
    return new["schemas"][name]["properties"]


@pytest.mark.parametrize(
    ("edit", "where", "needed"),
    [
        (lambda new: new["events"].pop("job:failed"), "event job:failed", "2.0"),
        (lambda new: new["events"].update({"more": new["events"]["job:failed"]}), "event more", "1.5"),
        (lambda new: new["commands"].update({"more": new["commands"]["job:subscribe"]}), "command more", "1.5"),
        (lambda new: new["events"]["job:failed"].update(delivery="progress"), "event job:failed", "2.0"),
        (lambda new: new["commands"]["join-generation"].update(bare=False), "command join-generation", "2.0"),
        (lambda new: new["commands"]["cancel-generation"].update(bare=True), "command cancel-generation", "1.5"),
        (lambda new: properties(new, "JobFailedEvent").update(more={"type": "string"}), ".more", "1.5"),
        (lambda new: properties(new, "JobFailedEvent").pop("error"), ".error", "2.0"),
        (lambda new: properties(new, "Job").update(id={"type": "integer"}), ".job.id", "2.0"),
        (lambda new: new["schemas"]["JobFailedEvent"]["required"].remove("error"), ".error", "2.0"),
        (lambda new: new["schemas"]["JobResult"].update(required=["error"]), ".error", "1.5"),
        (lambda new: new["schemas"]["StartGeneration"].update(required=["seed"]), ".seed", "2.0"),
        (lambda new: properties(new, "StartGeneration").update(more={"type": "string"}), ".more", "1.5"),
        (lambda new: properties(new, "StartGeneration")["seconds"].update(maximum=900), ".seconds", "1.5"),
        (lambda new: properties(new, "StartGeneration")["seconds"].update(maximum=60), ".seconds", "2.0"),
        (lambda new: properties(new, "GenerationErrorEvent")["stage"]["enum"].append("mix"), ".stage", "2.0"),
        (lambda new: properties(new, "GenerationErrorEvent")["stage"]["enum"].remove("audio"), ".stage", "1.5"),
        (lambda new: new["errors"].pop("INTERNAL"), "error INTERNAL", "2.0"),
        (lambda new: new["errors"].update(NEW={"recoverable": True}), "error NEW", "1.5"),
        (lambda new: new["errors"]["INTERNAL"].update(recoverable=True), "error INTERNAL", "2.0"),
        (lambda new: new["commands"]["job:subscribe"].update(ack="JoinAck"), "command job:subscribe.job", "2.0"),
    ],
)
def test_each_kind_of_change_is_found_and_judged(edit, where, needed):
    new = edited(edit)
    found = changes(OLD, new)
    assert any(where in change.where for change in found)
    assert version_needed("1.4", found) == needed
    assert f"at least {needed}" in verdict(OLD, new)
    moved = verdict(OLD, new | {"version": needed})
    assert ("additive" if needed == "1.5" else "BREAKING") in moved
    assert "version is right" in moved


def test_prose_may_change_freely():
    assert changes(OLD, current()) == []
    assert "description" not in json.dumps({k: v for k, v in OLD.items() if k != "schemas"})
