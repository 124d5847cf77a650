"""`harmonia study`: what it prints, how it fails, and what a killed run leaves for the next."""

import json
import signal

import psutil
import pytest

from harmonia_lab.backends import local
from harmonia_lab.study import StudyReport
from harmonia_lab.testing import SONG_METADATA

DESIGN = """
stories = [{ metadata = "metadata.json" }]
seeds = 1
lengths = [1]
primary = "cpu_s"
warm_up = 0
audio = "sketch"
[configurations]
plain = {}
"the same" = {}
"""


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    """A song's picture takes as long as all else together, and says nothing about a study."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "_draw_overview", lambda path, **picture: "")
        yield


@pytest.fixture
def written(harmonia):
    """design.toml and the metadata that it names: one block of two songs of 1 s by the sketch engine."""
    (harmonia.folder / "metadata.json").write_text(SONG_METADATA.model_dump_json(by_alias=True))
    (harmonia.folder / "design.toml").write_text(DESIGN)
    return harmonia


def test_a_study_is_made_and_made_again_and_the_songs_have_the_same_bytes(written):
    done = written("study", "design.toml", "--out", "first")
    assert done.returncode == 0, done.stderr.decode()
    assert "study.html" in done.stdout.decode()
    assert [line.split()[0] for line in done.stderr.decode().splitlines() if "block" in line][-2:] == ["1/2", "2/2"]
    again = written("study", "--again", "first", "--out", "second", "--json")
    assert again.returncode == 0, again.stderr.decode()
    found = json.loads(again.stdout)
    assert (found["again"]["same_songs"], found["again"]["other_songs"]) == (2, [])
    assert json.loads((written.folder / "second" / "again.json").read_text()) == found["again"]
    first, second = (StudyReport(written.folder / name).record for name in ("first", "second"))
    assert second.again == first.id
    assert second.blocks == first.blocks


def test_check_tells_what_would_be_made_and_makes_nothing(written):
    done = written("study", "design.toml", "--check")
    assert done.returncode == 0
    assert "2 songs of 2 s in all" in done.stdout.decode()
    assert "Caution: 1 block can't show any difference" in done.stdout.decode()
    assert sorted(path.name for path in written.folder.iterdir() if path.name != "home") == [
        "design.toml",
        "metadata.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.toml", "--out", "x"], "No such file"),
        (["design.toml"], "--out is missing"),
        (["--out", "x"], "Name a design's file"),
        (["design.toml", "--again", "x", "--out", "y"], "Name a design's file"),
        (["wrong.toml", "--check"], "configurations"),
    ],
)
def test_what_cannot_be_used_is_bad_usage_and_makes_nothing(written, arguments, says):
    (written.folder / "wrong.toml").write_text("stories = []")
    done = written("study", *arguments, "--json")
    assert done.returncode == 2
    assert says in json.loads(done.stdout)["error"]["message"]
    assert not (written.folder / "x").exists()


def test_a_folder_that_holds_no_study_cannot_be_made_again(written):
    done = written("study", "--again", ".", "--out", "x", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "NOT_FOUND"


@pytest.mark.stress
def test_a_killed_study_goes_on_where_it_was_and_no_child_is_left(written):
    (written.folder / "design.toml").write_text(DESIGN.replace("seeds = 1", "seeds = 3"))
    run = written.start("study", "design.toml", "--out", "out")
    for raw in run.stderr:
        if raw.decode().split()[0] == "2/6":
            break
    run.send_signal(signal.SIGSTOP)  # or it goes on while its children are looked for
    children = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate(timeout=300)
    _, alive = psutil.wait_procs(children, timeout=300)
    assert alive == []
    before = StudyReport(written.folder / "out").folder.rows().rows()
    assert len(before) >= 2
    done = written("study", "design.toml", "--out", "out", "--json")
    assert done.returncode == 0, done.stderr.decode()
    rows = StudyReport(written.folder / "out").folder.rows().rows()
    assert rows[: len(before)] == before
    assert len({(row["block"], row["configuration"]) for row in rows}) == 6
    assert json.loads(done.stdout)["waiting"] == 0


@pytest.mark.stress
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_130_and_keeps_what_is_finished(written, stop):
    (written.folder / "design.toml").write_text(DESIGN.replace("seeds = 1", "seeds = 30"))
    run = written.start("study", "design.toml", "--out", "out")
    for raw in run.stderr:
        if raw.decode().split()[0] == "2/60":
            break
    run.send_signal(stop)
    out, err = run.communicate(timeout=300)
    assert (run.returncode, out) == (130, b"")
    assert "the same command goes on from there" in err.decode()
    completed = [r for r in StudyReport(written.folder / "out").folder.rows().rows() if r["status"] == "completed"]
    assert len(completed) >= 2
