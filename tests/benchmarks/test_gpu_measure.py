"""The GPU benchmark's parts: a shortened rehearsal on the CPU, the schema of what it leaves, and its tables."""

import io
import subprocess
import sys

import psutil
import pytest
import torch

from benchmarks.gpu import measure
from benchmarks.gpu.kit import ROOT
from benchmarks.gpu.part import main
from benchmarks.gpu.report import report
from benchmarks.gpu.rows import KINDS, Rows, problems_of
from tests.waiting import until

SPREAD = {"median": 2.0, "min": 1.0, "max": 3.0}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """Two parts on what a bare machine has and the kit, as `make bench-gpu-rehearsal` runs all of them."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    command = [sys.executable, "-m", "benchmarks.gpu", "rehearse", "--installed", "--without-triton", "--out", str(out)]
    done = subprocess.run(
        [*command, "--", "--parts", "machine,cancel"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    return done, out


def test_a_shortened_rehearsal_leaves_rows_of_the_schema_and_says_what_it_did_not_reach(rehearsed):
    done, out = rehearsed
    assert done.returncode == 0, done.stdout + done.stderr
    rows = Rows(out / "rows.jsonl").read()
    assert {row["kind"] for row in rows} == {"missing", "machine", "ceiling", "cancel", "part", "unreached"}
    assert [problem for row in rows for problem in problems_of(row)] == []
    assert {(row["part"], row["status"]) for row in rows if row["kind"] == "part"} == {
        ("machine", "done"), ("cancel", "done"),
    }  # fmt: skip
    assert {row["phase"] for row in rows if row["kind"] == "cancel"} == {"replay", "recording", "codec"}
    assert any("graph" in row["what"] for row in rows if row["kind"] == "unreached")
    assert {path.name for path in out.iterdir()} == {"rows.jsonl", "log.txt", "environment.json"}


def test_the_table_of_a_rehearsal_names_its_machine_and_its_parts(rehearsed):
    done, out = rehearsed
    assert "part cancel: done" in done.stdout
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "report", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert printed.splitlines()[0].startswith("cpu, driver None, torch")


def test_all_parts_together_end_within_seven_minutes_and_stand_in_the_order_of_the_questions():
    assert sum(part.limit_s for part in measure.PARTS) <= 7 * 60
    assert [part.name for part in measure.PARTS] == [
        "machine", "tokens", "speed", "memory", "cancel", "profile", "codec",
    ]  # fmt: skip


def test_a_part_that_hangs_costs_its_own_limit_and_its_rows_stay(tmp_path, monkeypatch):
    (tmp_path / "benchmarks/gpu/parts").mkdir(parents=True)
    for name in ("__init__", "gpu/__init__", "gpu/parts/__init__"):
        (tmp_path / "benchmarks" / f"{name}.py").write_text("")
    (tmp_path / "benchmarks/gpu/part.py").write_text(
        "import pathlib, sys, time\n"
        "name, out = sys.argv[1], pathlib.Path(sys.argv[3])\n"
        "with (out / 'rows.jsonl').open('a') as file:\n"
        '    file.write(\'{"part": "%s", "kind": "missing", "at": 0, "problems": []}\\n\' % name)\n'
        "sys.stdin.readline()\n"
        "print('begun', flush=True)\n"
        "time.sleep(600 if name == 'tokens' else 0)\n"
        "sys.exit(name == 'speed')\n"
    )
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    limits = {"tokens": 1.0, "speed": 60.0, "codec": 60.0}
    monkeypatch.setattr(measure, "PARTS", [measure.Part(name, limit, "?") for name, limit in limits.items()])
    monkeypatch.setattr(measure, "problems", lambda kit, present: [])
    out = tmp_path / "out"
    parser = measure.argparse.ArgumentParser()
    measure.configure(parser)
    status = measure.run(parser.parse_args(["--out", str(out), "--parts", "tokens,speed,codec"]))
    rows = Rows(out / "rows.jsonl").read()
    assert status == 1
    # In any order: a part's process is started while the part before still runs, and writes here before its turn.
    assert {row["part"] for row in rows if row["kind"] == "missing"} == set(limits)
    assert {row["part"]: row["status"] for row in rows if row["kind"] == "part"} == {
        "tokens": "timeout", "speed": "failed", "codec": "done",
    }  # fmt: skip


def test_a_python_without_packages_is_told_to_be_the_wrong_one(tmp_path):
    command = [sys.executable, "-S", "-m", "benchmarks.gpu", "measure", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Use the Python that has torch." in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_part_is_refused_before_anything_runs(tmp_path, capsys):
    parser = measure.argparse.ArgumentParser()
    measure.configure(parser)
    assert measure.run(parser.parse_args(["--out", str(tmp_path / "out"), "--parts", "speed,sped"])) == 2
    assert "there is no part sped" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"what": 3}, "what is 3"),
        ({"more": 1}, "more is not known"),
        ({"kind": "guess"}, "there is no kind 'guess'"),
    ],
)
def test_a_row_is_checked_as_it_is_written(tmp_path, change, said):
    row = {"part": "codec", "kind": "unreached", "at": 0.0, "what": "x", "why": "y"} | change
    assert problems_of(row) == ([] if said is None else [said])
    if said is not None:
        with pytest.raises(ValueError, match="codec"):
            Rows(tmp_path / "rows.jsonl").write(row.pop("part"), row.pop("kind"), row.pop("at"), **row)
        assert not (tmp_path / "rows.jsonl").exists()


def test_a_missing_field_is_named():
    assert problems_of({"part": "codec", "kind": "codec", "at": 0.0, "what": "x"}) == [
        "audio_seconds_per_second is missing"
    ]


def test_the_report_shows_rows_of_every_kind_and_the_latest_of_a_repeated_part():
    def speed(loop, ms):
        return {
            "part": "speed", "kind": "speed", "model": "small", "dtype": "float16", "loop": loop, "batch": 1,
            "position": 50, "steps": 64, "rounds": 3, "step_ms": {"median": ms, "min": ms, "max": ms},
            "steps_per_s": 1e3 / ms, "real_time_factor": ms / 20, "bytes_per_step": 10**9, "floor_ms": 0.2,
            "share_of_floor": 0.2 / ms, "first_step_s": 1.5,
        }  # fmt: skip

    end = {"part": "speed", "kind": "part", "status": "done", "seconds": 60, "limit_s": 90, "why": ""}
    before = {"part": "speed", "kind": "unreached", "what": "large", "why": "no time"}
    rows = [speed("ours", 4.0), before, end, speed("audiocraft", 20.0), speed("ours", 0.5), end]
    text = report(rows)
    (ours,) = [line for line in text.splitlines() if "| ours |" in line]
    assert "| 2000 |" in ours
    assert "| 40 % |" in ours
    assert "| 40.0 |" in ours  # times audiocraft
    assert "no time" not in text
    assert set(KINDS) >= {"speed", "tokens", "memory", "cancel", "profile", "codec"}


@pytest.mark.parametrize("results", sorted((ROOT / "benchmarks/gpu/results").iterdir()), ids=lambda path: path.name)
def test_committed_rows_can_be_shown(results):
    text = report(Rows(results / "rows.jsonl").read())
    assert "| small | 1 | 50 | ours |" in text
    assert "DIFFERENT" not in text


def test_a_row_that_was_cut_off_costs_itself_alone(tmp_path):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.write("codec", "unreached", 0.0, what="x", why="y")
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"part": "codec", "kind": "unre')
    rows.write("codec", "unreached", 1.0, what="z", why="y")
    assert [row["what"] for row in rows.read()] == ["x", "z"]


def measured(tmp_path, monkeypatch, part, *, names=("codec",)):
    """`measure` with a part of its own text, in a repository of its own."""
    (tmp_path / "benchmarks/gpu").mkdir(parents=True)
    for name in ("__init__", "gpu/__init__"):
        (tmp_path / "benchmarks" / f"{name}.py").write_text("")
    (tmp_path / "benchmarks/gpu/part.py").write_text("import os, sys, time\nsys.stdin.readline()\n" + part)
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    monkeypatch.setattr(measure, "PARTS", [measure.Part(name, 60.0, "?") for name in names])
    monkeypatch.setattr(measure, "problems", lambda kit, present: [])
    parser = measure.argparse.ArgumentParser()
    measure.configure(parser)
    return lambda out: measure.run(parser.parse_args(["--out", str(out), "--parts", ",".join(names)]))


def test_files_of_somebody_else_in_the_folder_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "MOST_BYTES", 1000)
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(bytes(5000))
    run = measured(tmp_path / "repository", monkeypatch, "print('x' * 5000)\n")
    assert run(out) == 0
    assert (out / "model.safetensors").stat().st_size == 5000
    assert (out / "log.txt").stat().st_size <= 1000


def test_an_interrupt_ends_the_part_that_runs_and_the_one_that_waits(tmp_path, monkeypatch):
    started = tmp_path / "pids"
    started.mkdir()
    text = f"open({str(started)!r} + f'/{{os.getpid()}}', 'w').close()\ntime.sleep(600)\n"
    run = measured(tmp_path / "repository", monkeypatch, text, names=("codec", "speed"))

    def interrupt(*_, **__):
        until(lambda: list(started.iterdir()))
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupt_once(interrupt))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out")
    (pid,) = [int(path.name) for path in started.iterdir()]
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert [child for child in psutil.Process().children() if "benchmarks.gpu.part" in child.cmdline()] == []


def interrupt_once(interrupt):
    """The first call of Popen.wait is interrupted; the others wait."""
    wait, calls = subprocess.Popen.wait, []

    def waited(self, timeout=None):
        calls.append(self)
        return interrupt() if len(calls) == 1 else wait(self, timeout)

    return waited


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    parser = measure.argparse.ArgumentParser()
    measure.configure(parser)
    assert measure.run(parser.parse_args(["--out", str(tmp_path / "file")])) == 1
    assert "Name another folder by --out" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_part_without_a_gpu_is_refused_unless_it_is_rehearsed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "")  # which it sets: put back afterwards
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        assert main(["codec", "--out", str(tmp_path), "--limit", "9"]) == 3
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
    assert "torch sees no CUDA device" in capsys.readouterr().out
