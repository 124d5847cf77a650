"""Whose turn it is."""

from harmonia_lab.backends.fair_queue import Turns


def taken(turns):
    found = []
    while (item := turns.take()) is not None:
        found.append(item)
    return found


def test_users_take_turns_and_each_ones_jobs_keep_their_order():
    turns = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.add(item[0], item)
    expected = ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert turns.order() == expected
    assert taken(turns) == expected


def test_the_order_foretold_counts_a_job_that_is_about_to_come():
    turns = Turns()
    turns.add("a", "a1")
    turns.add("a", "a2")
    assert turns.order(("b", "b1")) == ["a1", "b1", "a2"]
    assert turns.order() == ["a1", "a2"]


def test_who_has_just_had_a_turn_comes_after_who_has_not():
    turns = Turns()
    turns.add("a", "a1")
    assert turns.take() == "a1"
    turns.add("a", "a2")
    turns.add("b", "b1")
    assert taken(turns) == ["b1", "a2"]


def test_what_is_removed_has_no_turn_and_may_be_removed_twice():
    turns = Turns()
    for item in ("a1", "a2", "b1"):
        turns.add(item[0], item)
    turns.remove("a1")
    turns.remove("a1")
    assert (turns.count(), turns.count("a"), turns.count("c")) == (2, 1, 0)
    assert taken(turns) == ["a2", "b1"]
    assert turns.take() is None
