"""Children of the package: they end with their parent, and their last lines are quoted."""

import sys
import threading
import time

import psutil
import pytest

from harmonia_lab.child_process import ChildProcess, python_command
from harmonia_lab.waiting import join, wait_for


def child(program, **options):
    return ChildProcess([sys.executable, "-c", program], **options)


def test_a_child_that_reads_its_input_ends_when_the_pipe_closes():
    process = child("import sys; print(sys.stdin.readline(), end='', flush=True); sys.stdin.read(); sys.exit(3)")
    process.send({"a": 1})
    assert process.stdout.readline() == b'{"a": 1}\n'
    process.terminate(60)
    assert process.wait() == 3
    process.close()


def test_a_child_that_does_not_end_is_killed_after_the_grace():
    process = child("import time; print('up', flush=True); time.sleep(600)")
    process.stdout.readline()
    process.terminate(0.1)
    assert process.wait() == -9
    process.close()


def test_the_last_lines_of_a_child_are_quoted_also_after_it_is_closed():
    process = child("import sys; print(*range(20), sep='\\n', file=sys.stderr); sys.exit(2)", output=False)
    assert process.wait() == 2
    process.send({})  # no error: the child has ended
    before = process.exit_text()
    process.close()
    process.close()
    assert process.exit_text() == before == "ended with status 2. It said:\n" + "\n".join(map(str, range(12, 20)))


def test_in_a_new_session_the_childs_own_children_are_killed_too():
    program = (
        f"import subprocess, sys; p = subprocess.Popen({[sys.executable, '-c', 'input()']}, stdin=subprocess.PIPE);"
    )
    process = child(program + " print(p.pid, flush=True); p.wait()", new_session=True)
    grandchild = psutil.Process(int(process.stdout.readline()))
    process.close()
    assert not psutil.wait_procs([grandchild], timeout=60)[1]


def test_a_program_that_does_not_exist_is_an_error():
    with pytest.raises(OSError, match="No such file"):
        ChildProcess(["/no/such/program"])
    assert python_command("a.module", "x") == [sys.executable, "-P", "-m", "a.module", "x"]


def test_waits_end_when_it_has_happened_or_the_time_is_over():
    event = threading.Event()
    started = time.monotonic()
    assert not wait_for(event, 0.12)
    assert time.monotonic() - started >= 0.12
    thread = threading.Thread(target=event.wait)
    thread.start()
    assert not join(thread, 0.01)
    event.set()
    assert wait_for(event)
    assert wait_for(event, 0)
    assert join(thread)
