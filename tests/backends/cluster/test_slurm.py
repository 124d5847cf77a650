"""`SLURMCluster` of dask-jobqueue, as docs/cluster.md has it: on this machine's SLURM, where one answers, else with
programs of its names that start a job's script at once. Needs `pip install dask-jobqueue`."""

import gc
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import harmonia_lab
from harmonia_lab.generation.generation import TimeLimits
from tests.backends.cluster.test_batch import rows
from tests.waiting import PATIENCE_S, until

dask_jobqueue = pytest.importorskip("dask_jobqueue")
pytestmark = pytest.mark.stress

SBATCH = """#!/bin/bash
for script; do :; done
setsid bash "$script" >"{folder}/$$.log" 2>&1 </dev/null &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
for job; do kill -TERM -- "-$job"; done
"""


def answers():
    """Whether a SLURM of this machine takes jobs."""
    if shutil.which("sinfo") is None:
        return False
    said = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False)
    return "idle" in said.stdout


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The commands of a SLURM."""
    if answers():
        return "slurm"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (programs / name).write_text(text.replace("{folder}", str(tmp_path)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return "programs of its names"


@pytest.fixture
def cluster(slurm, tones, tmp_path):
    from dask.distributed import Security

    root = Path(harmonia_lab.__file__).parents[1]
    path = os.pathsep.join([str(tones), str(root), os.environ.get("PYTHONPATH", "")])
    with dask_jobqueue.SLURMCluster(
        cores=1,
        processes=1,
        memory="1GB",
        job_directives_skip=["--mem"],  # a node of this machine need not know its memory
        walltime="00:10:00",
        python=sys.executable,
        job_script_prologue=[f"export PYTHONPATH={path}", f"cd {tmp_path}"],
        worker_extra_args=["--nthreads", "1", "--memory-limit", "0", "--resources", "song=1"],
        local_directory=str(tmp_path),
        log_directory=str(tmp_path),
        security=Security.temporary(),
        shared_temp_directory=str(tmp_path),
        scheduler_options={"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
    ) as made:
        yield made
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # sockets that dask-jobqueue leaves open
        gc.collect()


def test_jobs_make_songs_over_tls_and_one_that_is_ended_gives_its_song_back(cluster, new_lab, noted, tmp_path):
    assert cluster.scheduler_address.startswith("tls:")
    lab = new_lab(cluster=cluster, limits=TimeLimits(no_worker_s=120.0), audio_settings={"step_s": 1.0})
    cluster.scale(jobs=2)
    until(lambda: lab.cluster.workers(now=True) and lab.cluster.slots == 2)
    report = lab.batch(rows(4), tmp_path / "out", say=lambda _line: None)
    assert [outcome.status for outcome in report.outcomes] == ["made"] * 4
    job = lab.submit(**rows(1)[0] | {"seed": 9})
    until(lambda: len(noted("begun")) == 5)
    found = lab.cluster.facts()
    name = next(facts["worker"] for facts in found.values() if facts["pid"] == int(noted("begun")[-1][1]))
    ended = cluster.workers[next(each for each in cluster.workers if str(name).startswith(str(each)))].job_id
    subprocess.run(["scancel", ended], check=True)
    song = job.result(PATIENCE_S)
    assert lab.verify(song.directory).ok
    assert [event.name for event in job.events].count("audio-generation-complete") == 1
    parts = [line[2] for line in noted("rendered")][4 * len(song.stems) :]
    assert len(parts) == len(set(parts))  # none was made twice
