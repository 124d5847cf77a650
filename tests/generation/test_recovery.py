"""What is tried by itself when a stage fails: each plan, its events, columns and bounds, and a cancel in its wait."""

import itertools
import threading
from pathlib import Path

import pytest

from harmonia_lab.engines.base import AudioProgress, CancelToken, MetadataProgress, Remedy
from harmonia_lab.errors import CODES, AudioError, Cancelled, ErrorCode, HarmoniaError, MetadataError, StorageError
from harmonia_lab.generation import recovery_plans
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.recovery_plans import PLANS, Recovery, RecoveryLimits
from harmonia_lab.protocol.events import ProgressEvent
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.storage import storage_error
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine
from tests.generation.test_generation import COMPLETE, Run

SHORT = SongRequest(narrative="A story.", seconds=1, seed=7)
QUICK = RecoveryLimits(first_wait_s=0.01, network_wait_s=0.02)
ELSEWHERE = {
    "CANCELLED": "a person's wish",
    "QUEUE_FULL": "a command's answer",
    "RATE_LIMITED": "a command's answer",
    "QUOTA_EXCEEDED": "a command's or an upload's answer",
    "OLLAMA_BUSY": "waited for within the stage",
    "METADATA_INVALID": "repaired within the stage",
    "AUDIO_TIMEOUT": "its time is up",
    "INTERRUPTED": "its process is gone",
    "STORAGE_LOCKED": "waited for where it is written",
}


def failure(code, **details):
    kind = (
        StorageError if code.startswith("STORAGE") else AudioError if code[:5] in ("AUDIO", "MUSIC") else MetadataError
    )
    return kind("It failed.", code=ErrorCode(code), details=details)


class Trying(FakeAudioEngine):
    """An engine that knows nothing of recovery."""

    recover = None


def recovering(tmp_path, errors, *, limits=QUICK, **options):
    stage = "audio" if isinstance(errors[0], AudioError | StorageError | MemoryError) else "metadata"
    engine = {"audio": FakeAudioEngine, "metadata": FakeMetadataEngine}[stage]
    made = options.pop("engine", None) or engine(errors=errors, **options)
    return Run(tmp_path, **{stage: made}, limits=TimeLimits(recovery=limits), request=SHORT)


def told(run):
    """The plans, as the events tell of them."""
    errors = [event for event in run.lifecycle if event.name == "generation-error" and not event.final]
    return [(e.error.details["plan"], e.error.details["attempt"]) for e in errors]


def test_each_recoverable_code_has_a_plan_or_a_reason_for_none():
    recoverable = {code for code in ErrorCode if CODES[code].recoverable}
    assert recoverable == {*PLANS, *ELSEWHERE}
    assert not PLANS.keys() & ELSEWHERE.keys()
    assert all(CODES[code].recovery for code in PLANS)


@pytest.mark.parametrize(
    ("code", "plan", "tries"),
    [
        ("OLLAMA_UNAVAILABLE", "reconnect", 3),
        ("OLLAMA_SLOW", "ask-again", 1),
        ("NETWORK_TEMPORARY", "network", 3),
    ],
)
def test_a_fault_that_goes_away_ends_in_a_song_and_is_in_events_and_rows(tmp_path, code, plan, tries):
    run = recovering(tmp_path, [failure(code) for _ in range(tries)])
    run.generation.run()
    assert told(run) == [(plan, number) for number in range(1, tries + 1)]
    assert run.names[-1] == COMPLETE[-1]
    assert [row["status"] for row in run.rows] == ["failed"] * tries + ["completed"]
    assert [row.get("recoveries") for row in run.rows] == [None] + [plan] * tries
    assert all(row["recovery_s"] > 0 for row in run.rows[1:])
    assert len({row["run_id"] for row in run.rows}) == tries + 1
    progress = [event for event in run.events if isinstance(event, ProgressEvent)]
    assert sum(event.status == PLANS[ErrorCode(code)].action for event in progress) == tries  # seen on a bar, too
    overall = [event.overall_progress for event in progress]
    assert overall == sorted(overall)


@pytest.mark.parametrize(("code", "tries"), [("OLLAMA_TIMEOUT", 3), ("NETWORK_TEMPORARY", 3)])
def test_a_fault_that_stays_is_final_after_so_many_tries_and_says_what_was_tried(tmp_path, code, tries):
    run = recovering(tmp_path, [failure(code) for _ in range(9)])
    with pytest.raises(MetadataError) as caught:
        run.generation.run()
    assert caught.value.details["tried"] == [PLANS[ErrorCode(code)].name] * tries
    assert [event.final for event in run.lifecycle if event.name == "generation-error"] == [False] * tries + [True]
    assert [row["error_code"] for row in run.rows] == [code] * (tries + 1)
    assert list(run.songs.iterdir()) == []


def test_a_server_that_was_never_there_has_fewer_tries_than_one_that_went_away(tmp_path):
    def absent():
        return failure("OLLAMA_UNAVAILABLE", reached=False)

    for name, errors, tries in (("never", [], 2), ("went away", [failure("OLLAMA_UNAVAILABLE")], 3)):
        run = recovering(tmp_path / name, [*errors, *(absent() for _ in range(9))])
        with pytest.raises(MetadataError):
            run.generation.run()
        assert told(run) == [("reconnect", number) for number in range(1, tries + 1)]


@pytest.mark.parametrize("limits", [RecoveryLimits(attempts=0), RecoveryLimits(seconds=0.5)])
def test_a_budget_of_attempts_or_seconds_bounds_every_plan(tmp_path, limits):
    run = recovering(tmp_path, [failure("NETWORK_TEMPORARY")], limits=limits)
    with pytest.raises(MetadataError):
        run.generation.run()
    assert told(run) == []


def test_what_recovery_has_spent_counts_towards_its_seconds():
    recovery = Recovery(RecoveryLimits(first_wait_s=0.2, seconds=0.7), CancelToken())
    error = failure("OLLAMA_UNAVAILABLE")
    first = recovery.after(error, "metadata", object())
    assert recovery.wait(first, error)
    assert recovery.after(error, "metadata", object()) is None  # 0.2 s are spent, and 0.6 s would be next
    assert recovery.tried == ["reconnect"]


@pytest.mark.parametrize("code", ["OLLAMA_UNAVAILABLE", "NETWORK_TEMPORARY", "STORAGE_FULL"])
def test_a_cancel_ends_every_wait_and_leaves_one_row_of_the_attempt(tmp_path, code):
    patient = RecoveryLimits(first_wait_s=100, network_wait_s=80)
    run = recovering(tmp_path, [failure(code)], limits=patient)
    run.on("generation-error", lambda: threading.Timer(0.05, run.generation.cancel).start())
    with pytest.raises(Cancelled):
        run.generation.run()
    assert run.names[-2:] == ["generation-error", "generation-cancelled"]
    assert [(row["status"], row["attempt"]) for row in run.rows] == [("cancelled", 1)]
    assert run.rows[0]["total_s"] < 50


def test_network_waits_lie_around_the_guides_five_seconds_and_grow():
    plan = PLANS[ErrorCode.NETWORK_TEMPORARY]
    waits = [[plan.wait_s(RecoveryLimits(), number) for _ in range(200)] for number in (1, 2, 3)]
    for base, found in zip((5.0, 7.5, 11.25), waits, strict=True):
        assert 0.75 * base <= min(found) < base < max(found) <= 1.25 * base
        assert len(set(found)) > 100  # so that many clients don't come back at once


def test_stage_2_goes_on_with_finished_stems_and_with_the_words_of_stage_1(tmp_path):
    engine = Trying(errors=[AudioError("The renderer died.")])
    run = recovering(tmp_path, engine.errors[:], engine=engine)
    song = run.generation.run()
    assert told(run) == [("render-again", 1)]
    assert run.audio_engine.rendered == [i.name for i in SONG_METADATA.instruments]  # each once
    assert len(run.metadata_engine.seeds) == 1
    assert [Path(stem.path).exists() for stem in song.stems] == [True] * 2
    assert run.names == [*COMPLETE[:3], "generation-error", *COMPLETE[2:]]


def test_a_lack_of_memory_outside_an_engine_is_tried_again_once_and_is_no_defect(tmp_path):
    run = recovering(tmp_path, [MemoryError()], engine=Trying(errors=[MemoryError()]))
    run.generation.run()
    assert told(run) == [("render-again", 1)]
    run = recovering(tmp_path / "2", [MemoryError()], engine=Trying(errors=[MemoryError(), MemoryError()]))
    with pytest.raises(AudioError, match="not enough memory") as caught:
        run.generation.run()
    assert caught.value.code is ErrorCode.AUDIO_ERROR


@pytest.mark.parametrize(
    ("code", "remedy", "recovers"),
    [
        ("MUSICGEN_MEMORY", Remedy("smaller-model", "With the small model..."), True),
        ("MUSICGEN_MEMORY", None, False),
        ("AUDIO_ERROR", None, False),
    ],
)
def test_an_engine_that_knows_its_failures_decides_whether_another_try_helps(tmp_path, code, remedy, recovers):
    run = recovering(tmp_path, [failure(code)], remedies=[remedy])
    if not recovers:
        with pytest.raises(AudioError):
            run.generation.run()
        assert told(run) == []
        return
    run.generation.run()
    assert told(run) == [(remedy.plan, 1)]
    assert run.rows[-1]["recoveries"] == remedy.plan


def test_a_remedy_that_fails_hides_no_error(tmp_path):
    class Clumsy(FakeAudioEngine):
        def recover(self, error, attempt, cancel):
            raise ZeroDivisionError

    run = recovering(tmp_path, [AudioError("It broke.")], engine=Clumsy(errors=[AudioError("It broke.")]))
    with pytest.raises(AudioError, match="It broke"):
        run.generation.run()


def test_what_engines_recover_from_by_themselves_is_told_and_logged_too(tmp_path):
    class Busy(FakeMetadataEngine):
        def write(self, request, seed, report, cancel):
            for wait_s in (1.0, 2.0):
                error = failure("OLLAMA_BUSY", plan="wait", waitSeconds=wait_s)
                report(MetadataProgress(0.0, "analysis", "Busy...", failure=error))
            return super().write(request, seed, report, cancel)

    class Tight(FakeAudioEngine):
        def render(self, parts, plan, seeds, progress, cancel, finished):
            progress(AudioProgress(0.0, "Half at a time...", failure=failure("MUSICGEN_MEMORY")))
            return super().render(parts, plan, seeds, progress, cancel, finished)

    run = Run(tmp_path, metadata=Busy(), audio=Tight(), request=SHORT)
    run.generation.run()
    assert told(run) == [("wait", 1), ("wait", 2), ("less-memory", 1)]
    (row,) = run.rows
    assert row["recoveries"] == "wait,wait,less-memory"
    assert row["recovery_s"] >= 3.0
    waits = [e.error.details["waitSeconds"] for e in run.lifecycle if e.name == "generation-error"]
    assert waits == [1.0, 2.0, 0.0]


@pytest.mark.parametrize("free", [0, recovery_plans.ROOM_BYTES])
def test_a_full_disk_is_tried_again_only_if_it_has_space_by_then(tmp_path, monkeypatch, free):
    usage = recovery_plans.shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(recovery_plans.shutil, "disk_usage", lambda _: usage)
    full = storage_error(OSError(28, "No space left on device"), tmp_path / "songs" / "song.flac")
    run = recovering(tmp_path, [full])
    if free:
        run.generation.run()
    else:
        with pytest.raises(StorageError):
            run.generation.run()
    assert told(run) == [("wait-for-space", 1)]
    assert [row["status"] for row in run.rows] == (["failed", "completed"] if free else ["failed"])


def test_a_defect_and_what_would_fail_again_are_not_tried_again(tmp_path):
    for number, error in enumerate([ZeroDivisionError("oops"), failure("OLLAMA_MODEL_MISSING")]):
        run = Run(tmp_path / str(number), metadata=FakeMetadataEngine(errors=[error]))
        with pytest.raises(HarmoniaError):
            run.generation.run()
        assert told(run) == []


def test_several_kinds_of_faults_in_one_song_each_have_their_tries(tmp_path):
    codes = ["OLLAMA_UNAVAILABLE", "NETWORK_TEMPORARY", "OLLAMA_UNAVAILABLE", "OLLAMA_SLOW"]
    run = recovering(tmp_path, [failure(code) for code in codes])
    run.generation.run()
    assert told(run) == [("reconnect", 1), ("network", 1), ("reconnect", 2), ("ask-again", 1)]
    ends = [event.name for event in run.lifecycle if event.ends]
    assert ends == ["audio-generation-complete"]
    assert list(itertools.accumulate(row["attempt"] for row in run.rows))[-1] == 15
