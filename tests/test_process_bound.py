"""A lab in another process than its own: it says so at once, and what to do. A song goes anywhere."""

import multiprocessing
import pickle
import subprocess
import sys

import pytest

from harmonia_lab import Lab
from harmonia_lab.process_bound import ProcessBound
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

IN_A_FORK = """
import multiprocessing, sys
from harmonia_lab import Lab
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

def use(lab, job, answers):
    for call in (lambda: lab.compose("B.", progress=False), lambda: lab.cancel("x"), lambda: lab.retry("x"),
                 lambda: lab.journal, lambda: lab.serve(port=0), lambda: job.result(), lambda: lab.unload()):
        try:
            call()
        except RuntimeError as error:
            answers.put(str(error))
    lab.close()
    answers.put("closed")

with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(step_s=60.0), songs=sys.argv[1], home=sys.argv[1]) as lab:
    job = lab.submit("A.", seconds=1)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=use, args=(lab, job, answers))
    child.start()
    child.join()
    while not answers.empty():
        print(answers.get())
    print("running" if not job.done else "ended")
"""


def test_in_a_fork_every_verb_says_at_once_to_make_a_lab_there(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_FORK, str(tmp_path)],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 9, done.stderr
    assert all("a fork of it" in line and "make a Lab there" in line for line in lines[:7])
    assert lines[7:] == ["closed", "running"]  # closing it there leaves the parent's songs alone


def test_a_lab_and_a_job_are_not_pickled_and_the_remedy_is_said(tmp_path):
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path, home=tmp_path) as lab:
        job = lab.submit("A.", seconds=1)
        song = job.result()
        for each in (lab, job):
            with pytest.raises(TypeError, match="make a Lab there"):
                pickle.dumps(each)
    assert pickle.loads(pickle.dumps(song)) == song


def test_in_its_own_process_nothing_is_refused():
    bound = ProcessBound()
    assert not bound.in_fork
    bound.check_process()
    assert multiprocessing.current_process().pid == bound._process
