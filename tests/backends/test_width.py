"""A queue that runs several jobs at once: how many, whose turn it is, and what is announced."""

import threading
from types import SimpleNamespace

import pytest

from harmonia_lab.backends.job_queue import JobQueue
from harmonia_lab.engines.base import CancelToken
from tests.waiting import PATIENCE_S, until


class Job:
    """A job that runs until `end`, of ten seconds as it estimates."""

    remaining_s = 10.0

    def __init__(self, name):
        self.began, self.ended, self.told = threading.Event(), threading.Event(), []
        self.handle = SimpleNamespace(id=name, done=False)
        self.log = SimpleNamespace(queued=lambda position, eta_s: self.told.append((position, eta_s)))
        self.generation = SimpleNamespace(cancel_token=CancelToken(), run=self._run)

    def _run(self):
        self.began.set()
        self.ended.wait(PATIENCE_S)


@pytest.fixture
def run():
    """run(queue, names): the jobs, submitted in this order by the user of each one's first letter."""
    made = []

    def submit(queue, *names):
        jobs = [Job(name) for name in names]
        made.append((queue, jobs))
        for job in jobs:
            queue.submit(job, user=job.handle.id[0])
        return jobs

    yield submit
    for queue, jobs in made:
        queue.close()
        for job in jobs:
            job.ended.set()


def test_as_many_jobs_run_at_once_as_there_are_places_and_one_more_has_its_turn(run):
    a, b, c, d = run(JobQueue(60.0, print, lambda: 2, ahead=1), "a1", "a2", "a3", "a4")
    until(lambda: a.began.is_set() and b.began.is_set() and c.began.is_set())
    assert not d.began.is_set()
    b.ended.set()
    until(d.began.is_set)


@pytest.mark.parametrize(("width", "etas"), [(1, [10, 20, 30, 40]), (2, [10, 10, 20, 20]), (3, [10, 10, 10, 20])])
def test_the_estimate_counts_the_width(run, width, etas):
    jobs = run(JobQueue(60.0, print, lambda: width), "a1", "a2", "a3", "a4")
    assert [job.told[0][1] for job in jobs] == etas


def test_users_take_turns_also_where_several_jobs_run_at_once(run):
    queue = JobQueue(60.0, print, lambda: 2)
    first, second, third, fourth = run(queue, "a1", "a2", "a3", "a4")
    until(lambda: first.began.is_set() and second.began.is_set())
    (other,) = run(queue, "b1")
    first.ended.set()
    until(other.began.is_set)
    assert not third.began.is_set()
    other.ended.set()
    until(third.began.is_set)
    assert not fourth.began.is_set()


def test_a_width_that_grows_is_used_for_the_jobs_that_wait(run):
    places = [1]
    first, second, third = run(JobQueue(60.0, print, lambda: places[0]), "a1", "a2", "a3")
    until(first.began.is_set)
    places[0] = 3
    first.ended.set()
    until(lambda: second.began.is_set() and third.began.is_set())


def test_of_several_jobs_that_run_the_one_that_is_stuck_is_given_up(run):
    given_up = []
    stuck, goes_on, waits = run(JobQueue(0.05, given_up.append, lambda: 2), "a1", "a2", "a3")
    until(lambda: stuck.began.is_set() and goes_on.began.is_set())
    stuck.generation.cancel_token.cancel()
    until(waits.began.is_set)
    assert given_up == [stuck]
