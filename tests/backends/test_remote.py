"""A lab elsewhere: songs made by a server of another home, and brought to this one's songs, journal and log."""

import contextlib
import json
import signal
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from harmonia_lab import BlockingClient, Lab
from harmonia_lab.audio_engines.audiofile import wav
from harmonia_lab.cli import main
from harmonia_lab.cli.interrupts import STOPS
from harmonia_lab.errors import (
    AudioError,
    Cancelled,
    Disconnected,
    ErrorCode,
    HarmoniaError,
    InvalidRequest,
    MetadataError,
    Refused,
)
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.server.settings import RateLimits
from harmonia_lab.store.run_log import RunLabels
from tests.client.conftest import patient  # noqa: F401 - for all of them
from tests.generation.crashes import draw_nothing
from tests.server.conftest import GENERATION, JOB, serving
from tests.server.engines import METADATA, Player, Writer
from tests.server.test_server_thread import make_certificate
from tests.waiting import PATIENCE_S, until

STORY = "A small boat goes home in the rain."
FAST = {"rates": RateLimits(starts=(1000.0, 1000), costs=(1e6, 10**6)), "progress_interval_s": 0.01}


def elsewhere(server, folder, user="ann", **options):
    """A lab whose songs the server makes, with all of its files in `folder`."""
    given = {"server": server.url, "token": server.token(user), "songs": folder / "songs", "home": folder / "home"}
    return Lab(**given | options)


@contextlib.contextmanager
def pair(folder, user="ann", *, options=None, **engines):
    """A served lab, `lab.there`, and a lab that has its songs made there."""
    with (
        serving(folder / "there", **FAST | engines) as server,
        elsewhere(server, folder / "here", user, **options or {}) as lab,
    ):
        lab.there, lab.at = server.lab, server
        yield lab


@pytest.fixture(scope="module", autouse=True)
def _without_pictures():
    """Of a song, drawing takes the longest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("harmonia_lab.backends.local._draw_overview", draw_nothing)
        yield


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One for the tests that leave it as it was."""
    with pair(tmp_path_factory.mktemp("pair")) as lab:
        yield lab


def lifecycle(events, family):
    return [(event.name, event.seq) for event in events if event.family == family and event.delivery == "lifecycle"]


def contents(folder):
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_song_made_elsewhere_comes_home_whole_with_its_events_and_its_row(lab):
    heard = []
    unsubscribe = lab.events.subscribe(heard.append)
    song = lab.compose(STORY, seconds=1, seed=7, progress=False)
    unsubscribe()
    there = lab.there.journal.state(song.generation_id)
    assert contents(song.directory) == contents(there.song_path.parent)
    assert Path(song.directory).parent == lab.songs.absolute()
    assert lab.verify(song.directory).ok
    assert (lifecycle(heard, "generation"), lifecycle(heard, "job")) == (GENERATION, JOB)
    assert [event.seq for event in lab.journal.replay(song.generation_id, "generation")] == [1, 2, 3, 4]
    (row,) = lab.log.of_generation(song.generation_id)
    (made,) = lab.there.log.of_generation(song.generation_id)
    assert row == made | {"directory": song.directory}
    assert row["host"]
    until(lambda: lab.journal.state(song.generation_id).over)
    (job,) = [job for job in lab.journal.jobs("local") if job.id == song.generation_id]
    assert job.result.output_path == Path(song.audio_path).as_uri()
    assert there.owner == "ann"
    assert lab.panel(song.generation_id, plain=True) is not None


def test_options_of_this_machine_hold_here(lab, tmp_path):
    """The folder, its replacement, and the labels of the rows."""
    first = lab.submit(metadata=METADATA, seconds=1, seed=1, out=tmp_path / "own").result(PATIENCE_S)
    with pytest.raises(InvalidRequest, match="not empty"):
        lab.submit(metadata=METADATA, seconds=1, seed=2, out=tmp_path / "own")
    request = lab.journal.request(first.generation_id).model_copy(update={"seed": 2, "generation_id": None})
    labels = RunLabels("study", "s", 3, "fast")
    job = lab.submit_request(request, out=tmp_path / "own", replaces=True, here=True, labels=labels, audio="fake")
    assert job.result(PATIENCE_S).directory == first.directory
    assert len(list((tmp_path / "replaced").iterdir())) == 1
    (row,) = lab.log.of_generation(job.id)
    assert (row["purpose"], row["study"], row["block"], row["configuration"]) == ("study", "s", 3, "fast")


def test_a_batch_has_the_names_and_bytes_that_it_has_on_the_servers_machine(lab, tmp_path):
    rows = [{"metadata": METADATA, "seconds": 1, "seed": seed} for seed in (1, 2)]
    report = lab.batch(rows, tmp_path / "away", say=lambda _: None)
    own = lab.there.batch(rows, tmp_path / "own", say=lambda _: None)
    assert report.ok
    assert [o.song["directory"] for o in report.outcomes] == [o.song["directory"] for o in own.outcomes]
    assert [o.song["checksum"] for o in report.outcomes] == [o.song["checksum"] for o in own.outcomes]
    assert {o.status for o in lab.batch(rows, tmp_path / "away", say=lambda _: None).outcomes} == {"kept"}


def test_a_song_is_cancelled_in_mid_song_and_a_failed_one_is_tried_again(tmp_path):
    gate = threading.Event()
    error = MetadataError("The model wrote nonsense.", code=ErrorCode.METADATA_INVALID)
    with pair(tmp_path, metadata=Writer(errors=[error]), audio=Player(gate=gate)) as lab:
        with pytest.raises(MetadataError, match="nonsense"):
            lab.submit(STORY, seconds=1, generation_id="one").result(PATIENCE_S)
        with pytest.raises(Refused) as refused:
            lab.retry("none")
        assert refused.value.code == ErrorCode.NOT_FOUND
        job = lab.retry("one")
        until(lambda: job.state.stage == "audio")
        lab.cancel("one")
        with pytest.raises(Cancelled):
            job.result(PATIENCE_S)
        assert [row["status"] for row in lab.log.rows()] == ["failed", "cancelled"]
        assert [row["attempt"] for row in lab.log.rows()] == [1, 2]
        with pytest.raises(Refused, match="cannot be tried again"):
            lab.retry("one")
        assert not list(lab.songs.glob("*"))
        there, here = (each.journal.replay("one", "generation") for each in (lab.there, lab))
        assert [(event.name, event.seq) for event in there] == [(event.name, event.seq) for event in here]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"audio": "musicgen"}, "does not offer audio='musicgen': its music is by fake"),
        ({"metadata": "ollama"}, "its words are by fake"),
        ({"model": "big-model"}, "its words are by fake-model"),
        ({"audio_settings": {"decoder": "fast"}}, "audio_settings"),
        ({"metadata": Writer()}, "an object of this process"),
    ],
)
def test_what_the_server_does_not_offer_is_refused_before_anything_starts(lab, tmp_path, options, why):
    with pytest.raises(InvalidRequest, match=why):
        elsewhere(lab.at, tmp_path, **options)


def test_a_song_with_what_the_server_does_not_offer_is_refused_and_leaves_nothing(lab):
    before = len(lab.journal.jobs())
    for options in ({"audio": "sketch"}, {"audio": Player()}):
        with pytest.raises(InvalidRequest, match="its music is by fake"):
            lab.submit(STORY, **options)
    request = lab.there.journal.jobs()  # the server's own refusal, with its code
    taken = request[0].id
    with pytest.raises(InvalidRequest, match="is in use"):
        lab.submit(STORY, generation_id=taken)
    assert len(lab.journal.jobs()) == before


def test_limits_of_the_server_hold_and_a_lab_waits_where_that_helps(tmp_path):
    gate = threading.Event()
    limits = {"rates": RateLimits(starts=(20.0, 1)), "metadata": Writer(gate=gate)}
    with pair(tmp_path, **limits) as lab:
        jobs = [lab.submit(STORY, seconds=1) for _ in range(2)]
        gate.set()
        assert [job.result(PATIENCE_S).seed for job in jobs]
    with pair(tmp_path / "full", metadata=Writer(gate=threading.Event()), queue=QueueLimits(1, 1)) as lab:
        lab.submit(STORY, seconds=1)
        until(lambda: lab.there.journal.jobs()[0].status == "processing")
        lab.submit(STORY, seconds=1)
        with pytest.raises(Refused) as refused:
            lab.submit(STORY, seconds=1)
        assert refused.value.code == ErrorCode.QUEUE_FULL


def test_several_labs_at_one_server_see_their_own_songs_only_and_take_turns(tmp_path):
    class_of(3, tmp_path)


@pytest.mark.stress
def test_a_class_of_thirty_labs_at_one_server(tmp_path):
    class_of(30, tmp_path, songs=3)


def class_of(count, folder, songs=2):
    gate = threading.Event()
    with serving(folder / "there", metadata=Writer(gate=gate), **FAST) as server, contextlib.ExitStack() as stack:
        users = [f"user-{number}" for number in range(count)]
        labs = [stack.enter_context(elsewhere(server, folder / user, user)) for user in users]
        jobs = {
            user: [lab.submit(STORY, seconds=1) for _ in range(songs)] for user, lab in zip(users, labs, strict=True)
        }
        gate.set()
        for user, lab in zip(users, labs, strict=True):
            for job in jobs[user]:
                song = job.result(PATIENCE_S)
                assert lab.verify(song.directory).ok
            assert {job.id for job in lab.journal.jobs()} == {job.id for job in jobs[user]}
            assert len(list(lab.songs.glob("*"))) == songs == len(lab.log.rows())
        begun = [row["generation_id"] for row in sorted(server.lab.log.rows(), key=lambda row: row["started_at"])]
        owner = {job.id: user for user, own in jobs.items() for job in own}
        # The first song may have begun before the others were there; then everybody has a turn before anybody's next.
        for turn in range(songs):
            assert {owner[i] for i in begun[turn * count : (turn + 1) * count]} == set(users)
        stranger = httpx.get(
            f"{server.url}/api/generations/{jobs[users[0]][0].id}/archive",
            headers={"Authorization": f"Bearer {server.token(users[1])}"},
        )
        assert stranger.status_code == 404


def test_no_server_and_another_program_are_told_at_once_without_the_token(tmp_path):
    where = {"songs": tmp_path / "songs", "home": tmp_path / "home", "token": "s3cret-token"}
    with pytest.raises(Disconnected, match=r"http://127\.0\.0\.1:9 cannot be reached") as error:
        Lab(server="http://127.0.0.1:9", **where)
    assert "s3cret" not in repr(error.value) + str(error.value)
    for address in ("gpu.example", "ftp://gpu.example", "http://ann:pass@gpu.example", "http://gpu.example?token=pass"):
        with pytest.raises(InvalidRequest) as error:
            Lab(server=address, **where)
        assert "pass" not in str(error.value)
    with pytest.raises(InvalidRequest, match="cannot be used"):
        Lab(server="https://127.0.0.1:9", ca=tmp_path / "none.pem", **where)


def test_a_server_whose_certificate_signs_itself_is_trusted_by_a_named_file_alone(tmp_path, monkeypatch):
    certificate, key, another = (tmp_path / f"{name}.pem" for name in ("cert", "key", "another"))
    make_certificate(another, key)
    make_certificate(certificate, key)
    with serving(tmp_path / "there", certificate=str(certificate), private_key=str(key), **FAST) as server:
        assert server.url.startswith("https://")
        with elsewhere(server, tmp_path / "here", ca=certificate) as lab:
            song = lab.compose(STORY, seconds=1, progress=False)
            there = server.lab.journal.state(song.generation_id).song_path.parent
            assert contents(song.directory) == contents(there)
        monkeypatch.setenv("HARMONIA_CA", str(certificate))
        elsewhere(server, tmp_path / "here").close()
        monkeypatch.delenv("HARMONIA_CA")
        token = server.token("ann")
        for ca in (another, None):
            with pytest.raises(HarmoniaError, match="certificate") as error:
                elsewhere(server, tmp_path / "here", ca=ca, token=token)
            assert "HARMONIA_CA" in error.value.hint
            assert token not in repr(error.value) + str(error.value)


def test_a_study_is_made_there_and_its_rows_and_songs_are_here(lab, tmp_path):
    design = {
        "stories": [{"metadata": METADATA}],
        "seeds": 2,
        "lengths": [1],
        "primary": "cpu_s",
        "warm_up": 0,
        "configurations": {"one": {}, "two": {}},
    }
    before = len(lab.there.journal.jobs(limit=1000))
    report = lab.study(design, tmp_path / "out", say=lambda _: None, page=False)
    rows = report.folder.rows().rows()
    assert sorted((row["block"], row["configuration"], row["status"]) for row in rows) == [
        (block, name, "completed") for block in (1, 2) for name in ("one", "two")
    ]
    assert len(lab.there.journal.jobs(limit=1000)) == before + 4
    for row in rows:
        assert lab.verify(tmp_path / "out" / row["directory"]).ok
        (made,) = lab.there.log.of_generation(row["generation_id"])
        assert (made["cpu_s"], made["study"]) == (row["cpu_s"], None)
    assert lab.study(design, tmp_path / "out", say=lambda _: None, page=False).missing == ()
    assert len(lab.there.journal.jobs(limit=1000)) == before + 4  # nothing was left to make
    with pytest.raises(InvalidRequest, match="does not offer"):
        lab.study(design | {"configurations": {"one": {}, "two": {"audio": "sketch"}}}, tmp_path / "other")


def test_a_bad_or_missing_token_is_refused_with_the_remedy_and_never_shown(lab, tmp_path, monkeypatch):
    monkeypatch.delenv("HARMONIA_TOKEN", raising=False)
    with pytest.raises(Refused, match=r"harmonia token NAME") as error:
        elsewhere(lab.at, tmp_path, token="s3cret-token")
    assert "s3cret" not in str(error.value)
    with pytest.raises(InvalidRequest, match="HARMONIA_TOKEN"):
        elsewhere(lab.at, tmp_path, token=None)
    token = lab.at.token("ann")
    with elsewhere(lab.at, tmp_path, token=token) as own:
        assert token not in repr(own) + repr(own._address) + repr(vars(own))


def test_another_protocol_or_an_older_server_is_told_at_connect(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("harmonia_lab.backends.remote_server.PROTOCOL_VERSION", "9.1")
    with pytest.raises(InvalidRequest, match=r"speaks version 1\.\d of the protocol, and this lab 9\.1"):
        elsewhere(lab.at, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("harmonia_lab.backends.remote_server.NEEDED", ("replay", "a new thing"))
    with pytest.raises(InvalidRequest, match="lacks a new thing"):
        elsewhere(lab.at, tmp_path)


def test_the_environment_names_the_server_unless_a_lab_has_what_no_server_takes(lab, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HARMONIA_SERVER", lab.at.url)
    monkeypatch.setenv("HARMONIA_TOKEN", lab.at.token("env"))
    where = {"songs": tmp_path / "songs", "home": tmp_path / "home"}
    with Lab(**where) as there:
        assert lab.at.url in repr(there)
        there.compose(metadata=METADATA, seconds=1, progress=False)
    with Lab(server="", audio="sketch", **where) as here:
        assert "server" not in repr(here)
    assert not caplog.records
    with Lab(audio=Player(), **where) as here:
        assert "server" not in repr(here)
    assert "its songs are made here" in caplog.text


def test_shares_are_the_servers(lab):
    song = lab.compose(STORY, seconds=1, progress=False)
    lab.share(song.generation_id, "bob", "controller")
    assert lab.there.journal.shares.of(song.generation_id) == {"bob": "controller"}
    lab.unshare(song.generation_id, "bob")
    assert lab.there.journal.shares.of(song.generation_id) == {}


def test_a_song_whose_files_were_altered_at_the_server_does_not_come_home(tmp_path):
    gate = threading.Event()
    with pair(tmp_path, audio=Player(gate=gate)) as lab:
        lab.there.events.subscribe(lambda event: _damage(lab.there, event))
        job = lab.submit(STORY, seconds=1)
        gate.set()
        with pytest.raises(HarmoniaError) as error:
            job.result(PATIENCE_S)
        assert error.value.code == ErrorCode.RECORD_DAMAGED
        assert "lyrics.txt" in str(error.value)
        assert not list(lab.songs.glob("*"))
        assert not list((lab.home / "archives").glob("*"))
        folder = lab.there.journal.state(job.id).song_path.parent
        (folder / "lyrics.txt").write_bytes((tmp_path / "lyrics").read_bytes())
        assert lab.verify(lab.retry(job.id).result(PATIENCE_S).directory).ok


def _damage(lab, event):
    if event.name == "audio-generation-complete":
        lyrics = Path(event.audio_url.removeprefix("file://")).parent / "lyrics.txt"
        (lab.home.parents[0].parent / "lyrics").write_bytes(lyrics.read_bytes())
        lyrics.write_text("others")


def test_a_served_lab_may_have_its_clients_songs_made_elsewhere(lab, tmp_path):
    with elsewhere(lab.at, tmp_path) as front:
        server = front.serve(port=0)
        with BlockingClient(server.url) as client:
            client.connect(server.token("kim"))
            song = client.start(STORY, seconds=1).generation_id
            assert [(e.name, e.seq) for e in client.events(song) if e.delivery == "lifecycle"] == GENERATION
            done = client.store.state.completed_generations[song]
        assert httpx.get(done.audio_url).content == lab.there.journal.state(song).song_path.read_bytes()
        assert front.journal.state(song).owner == "kim"
        with pytest.raises(InvalidRequest, match="isolated"):
            front.server.stop() or front.serve(port=0, isolated=True)


def test_audio_error_and_its_code_come_home(tmp_path):
    class Broken(Player):
        def render(self, *_arguments):
            raise AudioError("The renderer broke.")

    with pair(tmp_path, audio=Broken()) as lab, pytest.raises(AudioError, match="The renderer broke") as error:
        lab.compose(STORY, seconds=1, progress=False)
    assert error.value.code == ErrorCode.AUDIO_ERROR


@pytest.fixture
def own_handlers():
    """A command in this process handles signals; afterwards they are handled as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *STOPS)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_command_line_has_a_song_made_there(lab, tmp_path, monkeypatch, capsys, own_handlers):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARMONIA_TOKEN", lab.at.token("cli"))
    assert main(["song", STORY, "--seconds", "1", "--server", lab.at.url, "--json"]) == 0
    song = json.loads(capsys.readouterr().out)
    assert (Path(song["directory"]) / "song.flac").is_relative_to(tmp_path)
    assert lab.there.journal.state(song["generationId"]).owner == "cli"


def test_a_songs_own_settings_and_recordings_go_with_it(tmp_path):
    tune, options = tmp_path / "tune.wav", {"pitch": 330}
    tune.write_bytes(wav(0.1 * np.sin(np.arange(800, dtype=np.float32))[None], 8000, "PCM_16"))
    with pair(tmp_path) as lab:
        ids = set()
        for seed in (1, 2):
            song = lab.compose(STORY, seconds=1, seed=seed, audio_options=options | {"melody": tune}, progress=False)
            settings = read_record(Path(song.directory))["engines"]["audio"]["settings"]
            copy = Path(settings["melody"])
            assert (settings["pitch"], copy.parents[1], copy.read_bytes()) == (
                330, lab.there.home / "sounds", tune.read_bytes(),
            )  # fmt: skip
            ids.add(copy.name)
        assert len(ids) == 1  # it was sent once
        assert lab.journal.request(song.generation_id).audio_options == {"pitch": 330, "melody": str(tune)}
        wrong_ones = {"cfg_coef": 5}, {"pitch": "high"}, {"melody": "gone.wav"}, {"pitch": 5}
        for wrong in wrong_ones:
            with pytest.raises(InvalidRequest) as caught:
                lab.submit(STORY, audio_options=wrong)
            assert caught.value.details["fields"] == list(wrong)
        assert len(lab.journal.jobs()) == 2
