"""A song whose process was killed is tried again by another one: in its folder, with its engine, with what was done."""

import json
from pathlib import Path

import pytest

from harmonia_lab.client import BlockingClient
from harmonia_lab.errors import AudioError, ErrorCode, Refused
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store import process_liveness, reserve
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
from tests.generation.crashes import die, draw_nothing, lab_in
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("without_pictures")

FIRST, SECOND = "piano", "flute"
"""The parts of the fakes' song, in the order of rendering."""


@pytest.fixture
def without_pictures(monkeypatch):
    """A picture takes a second to draw."""
    monkeypatch.setattr("harmonia_lab.backends.local._draw_overview", draw_nothing)


def request(generation_id="g"):
    return SongRequest(narrative="A story.", seconds=1, seed=7, generation_id=generation_id)


class Stuck(FakeAudioEngine):
    """Renders its first part, and then nothing until the process is killed: here, until it is cancelled."""

    def render(self, parts, plan, seeds, progress, cancel, finished):
        super().render(parts[:1], plan, seeds, progress, cancel, finished)
        cancel.wait(600)
        cancel.raise_if_cancelled()


class Killed:
    """A lab whose process is killed by `kill` while it renders the second part of a song."""

    def __init__(self, root, **options):
        self.lab = lab_in(root, audio=Stuck())
        self.job = self.lab.submit_request(request(), **options)
        until(lambda: getattr(self.job.progress, "instruments_completed", 0), "the first part")

    def kill(self):
        die(self.lab)

    def clear_up(self):
        self.lab._local._jobs["g"].generation._folder.discard = lambda: None
        self.job.cancel()
        self.job.wait(60)


@pytest.fixture
def killed(tmp_path):
    """killed(**options): leaves a song that was submitted with the options as a kill does."""
    made = []

    def make(**options):
        made.append(Killed(tmp_path, **options))
        made[-1].kill()

    yield make
    for each in made:
        each.clear_up()


def test_it_goes_on_in_its_own_folder_from_the_stem_that_was_finished(killed, tmp_path):
    killed(out=tmp_path / "own" / "song")
    words = FakeMetadataEngine()
    with lab_in(tmp_path, metadata=words) as lab:
        song = lab.retry("g").result(60)
        assert song.directory == str(tmp_path / "own" / "song")
        assert [path.name for path in (tmp_path / "own").iterdir()] == ["song"]
        assert (words.seeds, lab.audio_engine.rendered) == ([], [SECOND])
    record = read_record(Path(song.directory))
    assert (record["engines"]["metadata"]["engine"], record["request"].get("metadata")) == ("fake", None)
    with lab_in(tmp_path / "undisturbed") as lab:
        assert lab.submit_request(request()).result(60).checksum == song.checksum


def test_a_song_goes_to_the_folder_of_songs_that_it_was_asked_for(killed, tmp_path):
    killed()
    with lab_in(tmp_path) as lab:
        lab._local._songs = tmp_path / "elsewhere"
        assert Path(lab.retry("g").result(60).directory).parent == tmp_path / "songs"


@pytest.mark.parametrize("damage", ["the sound", "the checksum", "stage 1"])
def test_what_was_changed_on_the_disk_is_made_again(killed, tmp_path, damage):
    killed()
    (finished,) = tmp_path.rglob("finished")
    stem = finished / "chords" / f"{FIRST}.wav"
    if damage == "the sound":
        stem.write_bytes(stem.read_bytes()[:-4] + b"\0\0\0\1")
    elif damage == "the checksum":
        stem.with_name(f"{stem.name}.sha256").unlink()
    else:
        kept = json.loads((finished / "stage-1.json").read_text())
        kept["value"]["tokens"] = 9
        (finished / "stage-1.json").write_text(json.dumps(kept))
    with lab_in(tmp_path) as lab:
        song = lab.retry("g").result(60)
        assert lab.audio_engine.rendered == ([SECOND] if damage == "stage 1" else [FIRST, SECOND])
        # The journal has the words, too, but not who wrote them.
        assert song.engines["metadata"] == ("given" if damage == "stage 1" else "fake")
    record = read_record(Path(song.directory))
    for stem in record["stems"]:
        assert len(record["files"][stem["file"]]["sha256"]) == 64


class Own(FakeAudioEngine):
    name = "own"


def test_an_engine_of_its_own_is_the_same_again_or_is_asked_for(tmp_path):
    broken = [Own(errors=[AudioError("It broke.")]), FakeAudioEngine(errors=[AudioError("It broke.")])]
    with lab_in(tmp_path) as lab:
        for name, engine in zip(("own", "known"), broken, strict=True):
            lab.submit_request(request(name), audio=engine).wait(60)
        assert lab.retry("own").result(60).engines["audio"] == "own"
        lab.submit_request(request("again"), audio=Own(errors=[AudioError("It broke.")])).wait(60)
    with lab_in(tmp_path) as lab:
        assert lab.retry("known").result(60).engines["audio"] == "fake"
        with pytest.raises(Refused, match="an engine of its own, own") as caught:
            lab.retry("again")
        assert "audio=engine" in caught.value.hint
        assert lab.retry("again", audio=Own()).result(60).engines["audio"] == "own"


def test_two_processes_do_not_try_one_song_at_once(tmp_path):
    with lab_in(tmp_path, audio=FakeAudioEngine(errors=[AudioError("It broke.")])) as one, lab_in(tmp_path) as other:
        one.submit_request(request()).wait(60)
        state = other.journal.state("g")
        first = one.retry("g")
        with pytest.raises(Refused, match="another process does so"):
            other.journal.reopen(state, {"run_id": "g-2"})
        first.result(60)
        with pytest.raises(Refused, match="It is completed"):
            other.retry("g")


def test_a_song_that_took_its_process_down_twice_is_tried_again_only_when_a_person_says_so(killed, tmp_path):
    killed()
    with lab_in(tmp_path) as lab:
        assert lab.journal.state("g").failure.error.code == "INTERRUPTED"
        assert lab.journal.submissions.deaths("g") == 1
    stuck = lab_in(tmp_path, audio=Stuck())
    job = stuck.retry("g")
    until(lambda: job.progress is not None, "the second attempt")
    waiting = stuck.submit_request(request("waiting"))
    die(stuck)
    with lab_in(tmp_path) as lab:
        error = lab.journal.state("g").failure.error
        assert (error.code, error.recoverable) == ("QUARANTINED", False)
        assert lab.journal.state("waiting").failure.error.code == "INTERRUPTED"  # it had no turn: it is not to blame
        assert lab.log.rows()[-2]["error_code"] == "QUARANTINED"
        with pytest.raises(Refused) as caught:
            lab.retry("g")
        assert (caught.value.code, caught.value.recoverable) == (ErrorCode.QUARANTINED, False)
        assert "--lift-quarantine g" in caught.value.hint
        assert lab.retry("g", lift_quarantine=True).result(60).generation_id == "g"
        assert lab.retry("waiting").result(60)
    for each in (job, waiting):
        each.cancel()
        each.wait(60)


@pytest.mark.parametrize("how", ["it meant to", "with the machine"])
def test_a_process_that_exits_for_another_reason_is_not_blamed_on_its_song(tmp_path, how, monkeypatch):
    lab = lab_in(tmp_path, audio=Stuck())
    job = lab.submit_request(request())
    until(lambda: job.progress is not None, "the song")
    if how == "it meant to":
        process_liveness.leave()
    die(lab)
    if how == "with the machine":
        boot = tmp_path / "boot_id"
        boot.write_text("another")
        monkeypatch.setattr(reserve, "_BOOT_ID", boot)
    with lab_in(tmp_path) as later:
        assert later.journal.state("g").failure.error.code == "INTERRUPTED"
        assert later.journal.submissions.deaths("g") == 0
    job.cancel()
    job.wait(60)


def test_the_death_of_another_server_of_the_home_is_noticed_while_this_one_runs(tmp_path):
    with lab_in(tmp_path) as lab:
        server = lab.serve(port=0)
        with BlockingClient(server.url) as client:
            client.connect(server.token("local"))
            other = Killed(tmp_path)
            assert client.join("g").snapshot.status == "processing"
            client.subscribe_to_job("g")
            other.kill()
            heard = [event for event in client.events("g") if event.delivery == "lifecycle"]
            assert client.store.state.jobs["g"].status == "failed"
        errors = [event.error for event in heard if event.name == "generation-error"]
        assert [error.code for error in errors] == ["INTERRUPTED"]
        until(lambda: lab.journal.state("g").over, "the end of the job")
        assert [row["error_code"] for row in lab.log.rows()] == ["INTERRUPTED"]
        assert lab.retry("g").result(60).generation_id == "g"
    other.clear_up()
