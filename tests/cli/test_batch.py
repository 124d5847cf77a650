"""`harmonia batch`: what it prints, how it fails, and what a killed run leaves for the next."""

import json
import os
import signal

import psutil
import pytest

from harmonia_lab.batch import COLUMNS
from harmonia_lab.testing import SONG_METADATA

GOOD = range(1, 8)


@pytest.fixture
def table(harmonia):
    """Seven songs of 2 s on metadata of our own, an impossible key, and an engine that has no weights."""
    (harmonia.folder / "metadata.json").write_text(SONG_METADATA.model_dump_json(by_alias=True))
    lines = ["narrative,metadata,seconds,seed,key,audio", *(f",metadata.json,2,{seed},," for seed in GOOD)]
    lines.insert(3, "A story in no key.,,2,1,H minor,")
    lines.insert(6, ",metadata.json,2,1,,musicgen")
    (harmonia.folder / "songs.csv").write_text("\n".join(lines) + "\n")
    harmonia.environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(harmonia.folder / "hub")}
    return "songs.csv"


def test_a_killed_batch_is_finished_by_the_next_run_and_nothing_is_made_twice(harmonia, table):
    out = harmonia.folder / "out"
    run = harmonia.start("batch", table, "--out", "out")
    for raw in run.stderr:
        if raw.decode().split()[:2] == ["2/9", "music"]:
            break
    run.send_signal(signal.SIGSTOP)  # or it goes on while its children are looked for
    children = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate(timeout=300)
    _, alive = psutil.wait_procs(children, timeout=300)
    assert alive == []
    before = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    assert 2 <= len(before) < 7
    assert json.loads((out / "report.json").read_text())["state"] == "running"
    made_before = len(harmonia.rows)

    done = harmonia("batch", table, "--out", "out", "--json")
    assert done.returncode == 1, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert (report["songs"], report["errors"], report["waiting"]) == (7, 2, 0)
    assert report["codes"] == {"INVALID_PAYLOAD": 1, "MUSICGEN_UNAVAILABLE": 1}
    assert [(r["line"], r["error"]["code"]) for r in report["rows"] if "error" in r] == [
        (4, "INVALID_PAYLOAD"),
        (7, "MUSICGEN_UNAVAILABLE"),
    ]
    assert (report["kept"], report["made"]) == (len(before), 7 - len(before))
    assert {r["directory"] for r in report["rows"] if r["status"] == "kept"} == before.keys()
    assert all((out / name / "run.json").stat().st_mtime_ns == time for name, time in before.items())
    completed = [row["directory"] for row in harmonia.rows if row["status"] == "completed"]
    assert len(set(completed)) == len(completed) >= made_before
    assert len(list(out.glob("*/song.flac"))) == 7
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == [
        ".batch.lock",
        "listen.html",
        "report.json",
    ]
    assert list(out.glob(".*partial*")) == []


def test_a_person_reads_a_table_and_where_to_listen_and_a_clean_batch_exits_0(harmonia, table):
    lines = (harmonia.folder / table).read_text().splitlines()
    (harmonia.folder / table).write_text("\n".join(lines[:3]))
    done = harmonia("batch", table, "--out", "out")
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    for part in ("Harbour Light", "2 songs (2 made now, 0 kept), 0 errors", "report.json", "listen.html", "runs.jsonl"):
        assert part in text
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "2 rows: 2 songs to make, 0 kept, 0 with errors"
    assert [line.split()[:2] for line in lines[1:]] == [["1/2", "music"], ["2/2", "music"], ["encoding", "6"]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("narrative\n", "has no rows"),
        ("narrative,seed\nA, story,1\n", "line 2 has 3 cells"),
        ("tempo\n90\n", "no column 'tempo'"),
        (b"narrative;seed\r\nEin M\xe4rchen.;1\r\n", "(cp1252) would read: 'Ein M\xe4rchen.;1'"),
    ],
)
def test_a_table_that_cannot_be_read_is_bad_usage_and_makes_nothing(harmonia, content, says):
    if content is not None:
        (harmonia.folder / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = harmonia("batch", "t.csv", "--out", "out", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "INVALID_PAYLOAD"
    assert says in error["message"]
    assert "Traceback" not in done.stderr.decode()
    assert not (harmonia.folder / "out").exists()


def test_every_column_is_in_the_help(harmonia):
    text = " ".join(harmonia("batch", "--help").stdout.decode().split())
    assert all(column in text.partition("Columns:")[2].partition("positional")[0] for column in COLUMNS)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_ends_it_with_130_and_a_report(harmonia, table, stop):
    run = harmonia.start("batch", table, "--out", "out")
    for raw in run.stderr:
        if raw.decode().split()[:2] == ["2/9", "music"]:
            break
    os.kill(run.pid, stop)
    out, err = run.communicate(timeout=300)
    assert (run.returncode, out) == (130, b"")
    assert "the same command goes on from there" in err.decode()
    assert err.decode().strip().endswith("cancelled.")
    rows = json.loads((harmonia.folder / "out" / "report.json").read_text())["rows"]
    made = [row["directory"] for row in rows if row["status"] == "made"]
    assert {path.parent.name for path in (harmonia.folder / "out").glob("*/run.json")} == set(made)
    assert [row["status"] for row in rows if row["row"] in (1, 2, 9)] == ["made", "made", "waiting"]


def test_a_check_tells_every_bad_row_and_makes_nothing(harmonia, table):
    done = harmonia("batch", table, "--check")
    assert done.returncode == 1, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == ["line 4", "9 rows"]
    assert "8 songs to make, 0 kept, 1 with errors" in lines[1]
    assert harmonia.rows == []
    found = json.loads(harmonia("batch", table, "--check", "--json").stdout)
    assert (found["state"], found["waiting"], found["codes"]) == ("checked", 8, {"INVALID_PAYLOAD": 1})


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        ("narrative,id\nA story.,x\n", 0, "1 rows: 1 songs to make, 0 kept, 0 with errors"),
        ("narrative,seed\nA, story,1\nB,x\nC, d, e\n", 2, "line 4 has 3 cells"),
    ],
)
def test_a_check_ends_as_the_night_would(harmonia, content, status, says):
    (harmonia.folder / "t.csv").write_text(content)
    done = harmonia("batch", "t.csv", "--check", "--out", "out")
    assert (done.returncode, done.stderr) == (status, b"")
    assert says in done.stdout.decode()
    assert not (harmonia.folder / "out").exists()


def test_a_batch_needs_a_folder_and_a_required_engine(harmonia, table):
    done = harmonia("batch", table)
    assert done.returncode == 2
    assert b"--out is missing" in done.stderr
    (harmonia.folder / "t.csv").write_text("narrative\nA story.\n")
    done = harmonia("batch", "t.csv", "--out", "out", "--require", "ollama")
    assert done.returncode == 1
    assert b"requires ollama" in done.stderr
    assert not (harmonia.folder / "out").exists()
