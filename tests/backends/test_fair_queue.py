"""Whose turn it is."""

from harmonia_lab.backends.fair_queue import FairQueue


def taken(queue):
    found = []
    while (item := queue.take()) is not None:
        found.append(item)
    return found


def test_users_take_turns_and_each_ones_jobs_keep_their_order():
    queue = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.add(item[0], item)
    expected = ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert queue.order() == expected
    assert taken(queue) == expected


def test_the_order_foretold_counts_a_job_that_is_about_to_come():
    queue = FairQueue()
    queue.add("a", "a1")
    queue.add("a", "a2")
    assert queue.order(("b", "b1")) == ["a1", "b1", "a2"]
    assert queue.order() == ["a1", "a2"]


def test_who_has_just_had_a_turn_comes_after_who_has_not():
    queue = FairQueue()
    queue.add("a", "a1")
    assert queue.take() == "a1"
    queue.add("a", "a2")
    queue.add("b", "b1")
    assert taken(queue) == ["b1", "a2"]


def test_what_is_removed_has_no_turn_and_may_be_removed_twice():
    queue = FairQueue()
    for item in ("a1", "a2", "b1"):
        queue.add(item[0], item)
    queue.remove("a1")
    queue.remove("a1")
    assert (queue.count(), queue.count("a"), queue.count("c")) == (2, 1, 0)
    assert taken(queue) == ["a2", "b1"]
    assert queue.take() is None
