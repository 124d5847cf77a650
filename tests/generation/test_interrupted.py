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
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine

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
