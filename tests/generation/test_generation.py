"""One generation: the events it sends, the row it leaves, and that it ends exactly once."""

import json
import threading
import time
from pathlib import Path

import pytest

from harmonia_lab.audio_engines.mixing import MIX_PRESETS
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, HarmoniaError, MetadataError, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.generation.artifacts import SongFolder, read_record
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.generation.verify import check_folder
from harmonia_lab.music.seeds import narrative_digest
from harmonia_lab.protocol.events import LifecycleEvent, ProgressEvent
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.run_log import COLUMNS
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine
from tests.events.stories import Unkept, job


class Run:
    """A generation with fakes, and all that came out of it."""

    def __init__(self, tmp_path, *, metadata=None, audio=None, request=None, **options):
        self.events, self.rows = [], []
        self.songs = tmp_path / "songs"
        self.metadata_engine, self.audio_engine = metadata or FakeMetadataEngine(), audio or FakeAudioEngine()
        self._actions = {}
        asked = (request or SongRequest(narrative="A story.", seconds=2, seed=7)).model_copy(
            update={"generation_id": "g"}
        )
        self.generation = Generation(
            asked,
            metadata_engine=self.metadata_engine,
            audio_engine=self.audio_engine,
            folder=SongFolder(self.songs, "g"),
            draw=self._draw,
            emit=EventLog(new_state(job(), asked), Unkept(), self._publish),
            log_row=self.rows.append,
            **options,
        )

    def _publish(self, event):
        if event.family == "generation":
            self.events.append(event)
            self._actions.pop(event.name, lambda: None)()

    def _draw(self, path, **picture):
        path.write_bytes(b"picture")
        self.picture = picture
        return "The picture lacks a letter."

    def on(self, name, action):
        """Calls `action` when the event `name` is sent first."""
        self._actions[name] = action

    @property
    def lifecycle(self):
        return [e for e in self.events if isinstance(e, LifecycleEvent)]

    @property
    def names(self):
        return [e.name for e in self.lifecycle]


COMPLETE = [
    "metadata-generation-started",
    "metadata-generation-complete",
    "audio-generation-started",
    "audio-generation-complete",
]


def test_a_song_comes_out_with_all_its_files_and_a_record_that_holds(tmp_path):
    run = Run(tmp_path)
    song = run.generation.run()
    folder = Path(song.directory)
    assert run.generation.status == "completed"
    assert sorted(p.name for p in folder.iterdir()) == [
        "lyrics.txt",
        "metadata.json",
        "overview.png",
        "plan.json",
        "run.json",
        "song.flac",
        "song.mid",
        "stems",
        "transcript.jsonl",
    ]
    assert [Path(s.path).parent for s in song.stems] == [folder / "stems"] * len(SONG_METADATA.instruments)
    assert check_folder(folder).ok
    kept = json.loads((folder / "metadata.json").read_text())
    assert kept["narrativeDigest"] == narrative_digest(run.generation.request.narrative)
    record = read_record(folder)
    assert record["request"]["seed"] == song.seed == 7
    assert record["engines"]["audio"]["model"] == "tones"
    assert set(record["seeds"]["stems"]) == {s.name for s in song.stems}
    assert len(record["seconds"]["song.flac"]) == 2
    assert run.metadata_engine.seeds == [record["seeds"]["metadata"]]
    assert record["notes"] == ["The picture lacks a letter."]


def test_the_mix_is_the_genres_and_the_picture_shows_the_plans_chords_and_melody(tmp_path):
    run = Run(tmp_path)
    folder = Path(run.generation.run().directory)
    said = read_record(folder)["measurements"]
    assert said["preset"] == "folk"
    assert said["lead_to_band_lu"] >= MIX_PRESETS["folk"].lead - 0.001
    plan = json.loads((folder / "plan.json").read_text())
    beat = 60 / plan["bpm"]
    assert run.picture["chords"] == [(pytest.approx(c["start"] * beat), c["symbol"]) for c in plan["chords"]]
    (lead,) = [part for part in plan["parts"] if part["instrument"]["role"] == "lead"]
    assert [pitch for _, _, pitch in run.picture["melody"]] == [note["pitch"] for note in lead["notes"]]
    first = lead["notes"][0]
    start, end, _ = run.picture["melody"][0]
    assert (start, end - start) == pytest.approx((first["start"] * beat, first["duration"] * beat), abs=1e-5)


@pytest.mark.parametrize("uses_gpu", [True, False])
def test_the_language_model_is_released_only_for_an_engine_that_needs_its_memory(tmp_path, uses_gpu):
    run = Run(tmp_path, audio=FakeAudioEngine(uses_gpu=uses_gpu))
    run.generation.run()
    assert run.metadata_engine.released is uses_gpu


def test_events_come_in_the_guides_order_numbered_without_gaps(tmp_path):
    run = Run(tmp_path)
    song = run.generation.run()
    assert run.names == COMPLETE
    assert [e.seq for e in run.lifecycle] == [1, 2, 3, 4]
    progress = [e for e in run.events if isinstance(e, ProgressEvent)]
    assert [e.tick for e in progress] == list(range(1, len(progress) + 1))
    overall = [e.overall_progress for e in progress]
    assert overall == sorted(overall)
    assert overall[-1] == 100
    assert run.lifecycle[-1].audio_url == Path(song.audio_path).as_uri()
    assert run.lifecycle[-1].checksum == song.checksum


def test_the_row_of_a_completed_song_fills_the_columns(tmp_path):
    run = Run(tmp_path)
    run.generation.run()
    (row,) = run.rows
    assert row.keys() <= COLUMNS.keys()
    assert (row["status"], row["stage"], row["seed"], row["narrative_characters"]) == ("completed", "done", 7, 8)
    assert row["audio_seconds"] == 2.0
    assert row["real_time_factor"] == pytest.approx(row["audio_s"] / 2, rel=1e-3)
    assert set(row["instrument_s"]) == {i.name for i in SONG_METADATA.instruments}
    parts = row["plan_s"] + row["render_s"] + row["mix_s"] + row["write_s"]
    assert parts <= row["audio_s"] <= row["total_s"]
    assert row["audio_gpu_allocated_peak_bytes"] is None
    assert row["gpu_reason"]


def test_metadata_that_is_given_skips_stage_1(tmp_path):
    request = SongRequest(seconds=2, seed=7, metadata=SONG_METADATA)
    run = Run(tmp_path, request=request)
    song = run.generation.run()
    assert run.names == COMPLETE[2:]
    assert run.metadata_engine.seeds == []
    assert song.engines["metadata"] == "given"
    assert not (Path(song.directory) / "transcript.jsonl").exists()


@pytest.mark.parametrize(
    "at", ["metadata-generation-started", "metadata-generation-progress", "audio-generation-progress"]
)
def test_a_cancel_ends_it_once_and_leaves_nothing(tmp_path, at):
    run = Run(tmp_path)
    run.on(at, run.generation.cancel)
    with pytest.raises(Cancelled):
        run.generation.run()
    assert run.generation.status == "cancelled"
    assert run.names.count("generation-cancelled") == 1
    assert run.events[-1].name == "generation-cancelled"
    assert [(r["status"], r["cancel_reason"]) for r in run.rows] == [("cancelled", "user_cancelled")]
    assert list(run.songs.iterdir()) == []
    assert run.generation.cancel() is False


def test_a_cancel_after_the_end_changes_nothing(tmp_path):
    run = Run(tmp_path)
    song = run.generation.run()
    assert run.generation.cancel() is False
    assert run.generation.abandon() is False
    assert run.names == COMPLETE
    assert Path(song.audio_path).exists()


def test_an_abandoned_worker_neither_speaks_nor_writes_afterwards(tmp_path):
    rendering, go_on = threading.Event(), threading.Event()

    class Deaf(FakeAudioEngine):
        """In one long call."""

        def render(self, *args, **more):
            rendering.set()
            assert go_on.wait(60)
            return FakeAudioEngine(ignores_cancel=True).render(*args, **more)

    run = Run(tmp_path, audio=Deaf())
    outcome = []

    def work():
        try:
            outcome.append(run.generation.run())
        except HarmoniaError as error:
            outcome.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    assert rendering.wait(60)
    assert run.generation.abandon() is True
    heard = len(run.events)
    go_on.set()
    worker.join(60)
    assert isinstance(outcome[0], Cancelled)
    assert len(run.events) == heard
    assert run.events[-1].name == "generation-cancelled"
    assert [r["status"] for r in run.rows] == ["cancelled"]
    assert list(run.songs.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "stage", "code"),
    [
        (TimeLimits(metadata_s=0.05), "metadata", ErrorCode.OLLAMA_TIMEOUT),
        (TimeLimits(audio_s=0.05), "audio", ErrorCode.AUDIO_TIMEOUT),
    ],
)
def test_a_stage_that_takes_too_long_times_out_and_then_counts_as_cancelled(tmp_path, limits, stage, code):
    slow = {"metadata": FakeMetadataEngine(step_s=60)} if stage == "metadata" else {"audio": FakeAudioEngine(step_s=60)}
    run = Run(tmp_path, limits=limits, **slow)
    with pytest.raises(HarmoniaError) as caught:
        run.generation.run()
    assert caught.value.code is code
    assert run.names[-2:] == ["generation-timeout", "generation-cancelled"]
    assert (run.lifecycle[-2].stage, run.lifecycle[-2].timeout_after) == (stage, 0.05)
    assert run.lifecycle[-1].reason == "timeout"
    assert run.rows[0]["cancel_reason"] == "timeout"


def test_a_lost_connection_is_tried_again_and_both_attempts_are_logged(tmp_path):
    lost = MetadataError("The server went away.", code=ErrorCode.OLLAMA_UNAVAILABLE)
    kept = []
    run = Run(tmp_path, metadata=FakeMetadataEngine(errors=[lost]), first_attempt=4, keep_row=kept.append)
    began = time.perf_counter()
    run.generation.run()
    elapsed = time.perf_counter() - began
    assert run.names == [COMPLETE[0], "generation-error", *COMPLETE[1:]]
    assert (run.lifecycle[1].final, run.lifecycle[1].error.code) == (False, "OLLAMA_UNAVAILABLE")
    assert [(r["attempt"], r["status"], r["error_code"]) for r in run.rows] == [
        (4, "failed", "OLLAMA_UNAVAILABLE"),
        (5, "completed", None),
    ]
    assert sum(r["total_s"] for r in run.rows) <= elapsed - 1.0, "the wait of a second belongs to neither"
    assert [(r["run_id"], r["started_at"]) for r in kept] == [(r["run_id"], r["started_at"]) for r in run.rows]
    overall = [e.overall_progress for e in run.events if isinstance(e, ProgressEvent)]
    assert overall == sorted(overall)


def test_after_a_failure_in_stage_2_the_metadata_is_kept_and_named(tmp_path):
    run = Run(tmp_path, audio=FakeAudioEngine(errors=[AudioError("The renderer died.")]))
    with pytest.raises(AudioError) as caught:
        run.generation.run()
    kept = Path(caught.value.details["kept"])
    assert str(kept) in caught.value.hint
    assert kept.name.endswith(f".partial-{run.generation.id[:8]}")
    assert json.loads((kept / "metadata.json").read_text())["title"] == SONG_METADATA.title
    assert (kept / "transcript.jsonl").exists()
    event = run.lifecycle[-1]
    assert (event.name, event.final, event.stage, event.error.code) == (
        "generation-error",
        True,
        "audio",
        "AUDIO_ERROR",
    )
    assert (run.rows[0]["status"], run.rows[0]["stage"]) == ("failed", "audio")


def test_a_defect_becomes_an_internal_error_with_what_to_do(tmp_path):
    run = Run(tmp_path, metadata=FakeMetadataEngine(errors=[ZeroDivisionError("oops")]))
    with pytest.raises(HarmoniaError) as caught:
        run.generation.run()
    assert caught.value.code is ErrorCode.INTERNAL
    assert "ZeroDivisionError: oops" in caught.value.message
    assert "report" in caught.value.hint
    assert run.rows[0]["error_code"] == "INTERNAL"


def test_an_unwritable_folder_fails_before_the_model_is_asked(tmp_path):
    (tmp_path / "songs").write_text("a file")
    run = Run(tmp_path)
    with pytest.raises(StorageError):
        run.generation.run()
    assert run.names == ["generation-error"]
    assert run.metadata_engine.seeds == []


def test_a_row_that_cannot_be_written_costs_the_row_and_not_the_song(tmp_path, caplog):
    run = Run(tmp_path)

    def full(_):
        raise StorageError("The disk is full.", code=ErrorCode.STORAGE_FULL)

    run.generation._log_row = full
    song = run.generation.run()
    assert Path(song.audio_path).exists()
    assert "could not be logged. The disk is full." in caplog.text


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(tmp_path):
    def files(seed, name):
        run = Run(tmp_path / name, request=SongRequest(narrative="A story.", seconds=2, seed=seed))
        return read_record(Path(run.generation.run().directory))["files"]

    first, again, other = files(7, "a"), files(7, "b"), files(8, "c")
    assert first == again
    assert first["song.flac"] != other["song.flac"]
    assert first["song.mid"] != other["song.mid"]
