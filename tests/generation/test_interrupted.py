"""Attempts whose process was killed: each gets its row, once, from the process that comes next."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.engines.probes import host
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.generation.interrupted import end_interrupted, hung_error, interrupted_error
from harmonia_lab.protocol.events import AudioGenerationStarted
from harmonia_lab.protocol.models import Job, SongRequest, utc_now
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine

ROOT = Path(__file__).parents[2]

MAKER = """
import sys, threading
from pathlib import Path
from harmonia_lab import Lab
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.run_log import RunLabels
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

home = Path(sys.argv[1])
lab = Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(step_s=1000), songs=home / "songs", home=home)
rendering = threading.Event()
lab.events.subscribe(lambda event: rendering.set() if event.name == "audio-generation-progress" else None)
labels = RunLabels("study", study="s", block=1, configuration="c")
asked = [SongRequest(narrative="A story.", seconds=2, seed=seed, generation_id=f"g{seed}") for seed in range(2)]
lab.submit_request(asked[0], out=home / "own", labels=labels)
lab.submit_request(asked[1])
rendering.wait()
print("rendering", flush=True)
threading.Event().wait()
"""


def killed(home, how):
    """Kill a process that renders one song and has another one waiting."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(home)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdout.readline() == "rendering\n"
        os.kill(process.pid, how)
        assert process.wait(60) == -how


def lab_in(home):
    return Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=home / "songs", home=home)


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.stress)], ids=["kill -9", "hang-up"]
)
def test_a_killed_process_leaves_a_row_for_each_song_once(tmp_path, how):
    killed(tmp_path, how)
    with lab_in(tmp_path) as one, lab_in(tmp_path) as other:
        threads = [threading.Thread(target=lambda lab=lab: lab.journal) for lab in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = {row["generation_id"]: row for row in one.log.rows()}
        assert len(one.log.rows()) == 2
        assert [row["error_code"] for row in rows.values()] == ["INTERRUPTED"] * 2
        rendered = rows["g0"]
        assert [rendered[name] for name in ("purpose", "study", "block", "configuration")] == ["study", "s", 1, "c"]
        assert (rendered["status"], rendered["stage"], rendered["audio_engine"]) == ("failed", "audio", "fake")
        assert (rendered["host"], rendered["seed"], rendered["total_s"]) == (host()["host"], 0, None)
        assert rendered["started_at"] >= one.journal.state("g0").kept_job.to_wire()["createdAt"]
        assert (rows["g1"]["stage"], rows["g1"]["purpose"]) == ("metadata", "test")

        one.retry("g0").result(60)
        again = one.log.rows()[-1]
        assert (again["run_id"], again["attempt"], again["study"], again["block"]) == ("g0-2", 2, "s", 1)
    with lab_in(tmp_path) as later:
        assert later.journal.jobs()
        assert len(later.log.rows()) == 3


@pytest.mark.parametrize(("hung_s", "codes"), [(5.0, ["AUDIO_TIMEOUT", "INTERRUPTED"]), (None, ["INTERRUPTED"] * 2)])
def test_what_a_process_was_making_that_was_killed_for_its_silence_gets_its_stages_time_out(tmp_path, hung_s, codes):
    silent, later, log = (
        Journal(tmp_path / "journal.sqlite3"),
        Journal(tmp_path / "journal.sqlite3"),
        RunLog(tmp_path / "log"),
    )
    now = utc_now()

    def error_for(state):
        return hung_error(state.stage, hung_s) if hung_s and state.active else interrupted_error()

    for name in ("begun", "waits"):
        job, request = Job(id=name, user_id="ann", created_at=now, updated_at=now), SongRequest(metadata=SONG_METADATA)
        silent.begin(job, request, {"run_id": f"{name}-1", "generation_id": name})
        events = EventLog(new_state(job, request), silent)
        events.queued(0, 1.0)
        if name == "begun":
            events(AudioGenerationStarted(generation_id=name, song_id="s", instruments=[], duration=1.0, bpm=90.0))
    os.close(silent._liveness._fd)  # as a crash does: the lock goes, the file stays
    silent._liveness._fd = -1
    assert sorted(end_interrupted(later, log, error_for=error_for)) == ["begun", "waits"]
    states = [later.state(name) for name in ("begun", "waits")]
    assert [state.failure.error.code for state in states] == codes
    assert all(state.failure.error.recoverable and state.over for state in states)
    logged = {row["generation_id"]: row["error_code"] for row in log.rows()}
    assert [logged["begun"], logged["waits"]] == codes
    if hung_s:
        assert "after 5 s" in states[0].failure.error.message
    silent.close()
    later.close()
